"""The systems that the slides compare with, on the same network and hosts: their tables and routes.

They are simplified, always in the rival's favour: IDs are spread evenly, tables are complete and current, and no host joins
or leaves.
"""
