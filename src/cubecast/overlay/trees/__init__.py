"""Delivery trees: one publisher, many subscribers, a limit on the copies each host sends.

A tree over n nodes is an array of parents, shape (n,): node 0 is the publisher and has parent -1.
"""
