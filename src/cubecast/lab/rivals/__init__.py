"""The systems the slides compare with, on the same network and hosts: what each knows, and how it routes.

They are simplified where the paper allows it, always in the rival's favour: ids are spread evenly, tables are complete
and up to date, nobody joins or leaves.
"""
