"""Compact tree: grows from the publisher and always attaches the node that gets the least delay.

It is Prim's algorithm with the delay from the publisher as the key, within fan-outs and over measured pairs only. It
finds paths shorter than the direct one, which coordinates cannot show; it spends the publisher's copies on close nodes.
Source: the compact tree of Shi, Turner, Waldvogel (NOSSDAV 2001).
"""

from heapq import heappop, heappush

import numpy as np

from cubecast.overlay.kernel import kernel
from cubecast.overlay.trees.measured import MeasuredGraph
from cubecast.overlay.trees.tree import NO_NODE, PUBLISHER
from cubecast.types import Ints


@kernel
def compact_tree(graph: MeasuredGraph, slots: Ints) -> Ints:
    """The parents, shape (n,); -1 for nodes that no measured pair attaches within the fan-outs.

    Args:
        graph: the measured pairs.
        slots: shape (n,), maximum fan-out of each node.
    """
    nodes = len(slots)
    parent = np.full(nodes, NO_NODE, np.int64)
    served = np.zeros(nodes, np.bool_)
    free = slots.copy()
    waiting = [(0.0, np.int64(PUBLISHER), np.int64(PUBLISHER))]
    while len(waiting) > 0:
        delay, above, node = heappop(waiting)
        if served[node] or (node != PUBLISHER and free[above] == 0):
            continue
        served[node] = True
        if node != PUBLISHER:
            parent[node] = above
            free[above] -= 1
        for at in range(graph.first[node], graph.first[node + 1]):
            if not served[graph.other[at]]:
                heappush(waiting, (delay + graph.one_way_ms[at], np.int64(node), np.int64(graph.other[at])))
    return parent
