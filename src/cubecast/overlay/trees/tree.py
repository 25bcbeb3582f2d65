"""Functions for any tree: its order, and the delays and fan-outs of its nodes."""

import numpy as np

from cubecast.overlay.delays import Delays, delay_ms
from cubecast.overlay.kernel import kernel
from cubecast.types import Floats, Ints

PUBLISHER = 0
"""The node of the publisher, root of every tree."""
NO_NODE = -1
"""Parent of the publisher and of nodes that are not attached."""


@kernel
def breadth_first(parent: Ints) -> Ints:
    """The publisher and its descendants in breadth-first order, so that parents come before their children.

    Returns:
        Shape (reached,); shorter than n if some nodes are not descendants of the publisher.
    """
    nodes = len(parent)
    first = np.full(nodes, NO_NODE, np.int64)
    following = np.full(nodes, NO_NODE, np.int64)
    for node in range(nodes - 1, -1, -1):
        above = parent[node]
        if above >= 0:
            following[node] = first[above]
            first[above] = node
    order = np.empty(nodes, np.int64)
    order[0] = PUBLISHER
    found, at = 1, 0
    while at < found:
        below = first[order[at]]
        at += 1
        while below >= 0:
            order[found] = below
            found += 1
            below = following[below]
    return order[:found]


@kernel
def tree_delays(parent: Ints, delays: Delays) -> Floats:
    """The delay of each node from the publisher along the tree, shape (n,), ms; infinite if not attached."""
    delay = np.full(len(parent), np.inf)
    delay[PUBLISHER] = 0.0
    for node in breadth_first(parent)[1:]:
        delay[node] = delay[parent[node]] + delay_ms(delays, parent[node], node)
    return delay


def fan_out(parent: Ints) -> Ints:
    """The number of children of each node, shape (n,)."""
    return np.bincount(parent[parent >= 0], minlength=len(parent)).astype(np.int64)
