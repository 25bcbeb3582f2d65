"""Multicast trees: one publisher, many subscribers, a maximum fan-out for each host.

A tree over n nodes is an array of parents, shape (n,): node 0 is the publisher and has parent -1. "Delay" of a node is
its one-way delay from the publisher along the tree.
"""
