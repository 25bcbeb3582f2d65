"""What any delivery tree is asked: whether it is one, how late each node is, how many copies it sends."""

import numpy as np

from cubecast.overlay.delays import Delays, delay_ms
from cubecast.overlay.kernel import kernel
from cubecast.types import Floats, Ints

PUBLISHER = 0
NOBODY = -1


@kernel
def breadth_first(parent: Ints) -> Ints:
    """The nodes from the publisher down, parents before children; shorter than n when some do not hang on it.

    Returns:
        Shape (reached,), the publisher first.
    """
    nodes = len(parent)
    first = np.full(nodes, NOBODY, np.int64)
    following = np.full(nodes, NOBODY, np.int64)
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
    """The delay from the publisher to each node along the tree, shape (n,), ms; infinite off the tree."""
    late = np.full(len(parent), np.inf)
    late[PUBLISHER] = 0.0
    for node in breadth_first(parent)[1:]:
        late[node] = late[parent[node]] + delay_ms(delays, parent[node], node)
    return late


def fan_out(parent: Ints) -> Ints:
    """Copies each node sends, shape (n,)."""
    return np.bincount(parent[parent >= 0], minlength=len(parent)).astype(np.int64)


def is_tree(parent: Ints) -> bool:
    """Whether every node hangs on the publisher, through parents in range, without a loop."""
    if parent[PUBLISHER] != NOBODY or (parent[1:] < 0).any() or (parent >= len(parent)).any():
        return False
    return len(breadth_first(parent)) == len(parent)
