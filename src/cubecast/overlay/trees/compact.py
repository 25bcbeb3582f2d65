"""Compact tree: grow from the publisher, always attaching the node that would be served soonest.

Prim's order with the delay as the key, over measured pairs only. It sees detours that coordinates cannot, and spends
the publisher's copies on near nodes. Source: the compact tree of Shi, Turner, Waldvogel (NOSSDAV 2001).
"""

from heapq import heappop, heappush

import numpy as np

from cubecast.overlay.kernel import kernel
from cubecast.overlay.trees.measured import MeasuredGraph
from cubecast.overlay.trees.tree import NOBODY, PUBLISHER
from cubecast.types import Ints


@kernel
def compact_tree(graph: MeasuredGraph, slots: Ints) -> Ints:
    """The tree's parents, shape (n,); -1 for nodes no measured pair could attach.

    Args:
        slots: shape (n,), copies each node may send.
    """
    nodes = len(slots)
    parent = np.full(nodes, NOBODY, np.int64)
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
