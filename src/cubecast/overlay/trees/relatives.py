"""Relatives of a node: nodes near it in the tree that may be better parents, so that measuring them is worthwhile.

They are its siblings, grandparent, uncles (siblings of the parent), cousins (children of uncles), and the next two
ancestors with their children. A node can learn all of them from its parent. The most promising ones have the least sum
of their own delay and their delay to the node as estimated from coordinates.
"""

import numpy as np

from cubecast.overlay.coordinates import estimated_ms
from cubecast.overlay.kernel import kernel
from cubecast.overlay.trees.measured import MeasuredGraph, measured_ms
from cubecast.overlay.trees.refine import TreeState
from cubecast.overlay.trees.tree import NO_NODE
from cubecast.types import Floats, Ints


@kernel
def promising_relatives(graph: MeasuredGraph, state: TreeState, positions: Floats, count: int) -> tuple[Ints, Floats]:
    """For each node, the relatives not measured yet that are estimated to give it the least delay as its parent.

    Returns:
        relatives: shape (n, count), best first; -1 where there are fewer.
        gain_ms: shape (n, count), estimated reduction of the node's delay; negative if its delay would grow.
    """
    nodes = len(state.parent)
    relatives = np.full((nodes, count), NO_NODE, np.int64)
    best_ms = np.full((nodes, count), np.inf)
    for node in range(1, nodes):
        above = state.parent[node]
        _consider_children(graph, state, positions, node, above, NO_NODE, relatives, best_ms)
        for generation in range(3):
            if above < 0 or state.parent[above] < 0:
                break
            over = state.parent[above]
            _consider(graph, state, positions, node, over, relatives, best_ms)
            _consider_children(graph, state, positions, node, over, above, relatives, best_ms)
            if generation == 0:
                for place in range(state.copies[over]):
                    uncle = state.child[over, place]
                    if uncle != above:
                        _consider_children(graph, state, positions, node, uncle, NO_NODE, relatives, best_ms)
            above = over
    return relatives, state.delay_ms.reshape(-1, 1) - best_ms


@kernel
def _consider_children(
    graph: MeasuredGraph,
    state: TreeState,
    positions: Floats,
    node: int,
    above: int,
    without: int,
    relatives: Ints,
    best_ms: Floats,
) -> None:
    """Calls `_consider` for the children of `above` except `without`."""
    for place in range(state.copies[above]):
        if state.child[above, place] != without:
            _consider(graph, state, positions, node, state.child[above, place], relatives, best_ms)


@kernel
def _consider(
    graph: MeasuredGraph, state: TreeState, positions: Floats, node: int, other: int, relatives: Ints, best_ms: Floats
) -> None:
    """Inserts a relative into the sorted list of the node's best ones, unless it is measured or not good enough."""
    if other == node:
        return
    expected = state.delay_ms[other] + estimated_ms(positions, other, node)
    place = relatives.shape[1] - 1
    if expected >= best_ms[node, place] or measured_ms(graph, node, other) < np.inf:
        return
    while place > 0 and best_ms[node, place - 1] > expected:
        best_ms[node, place] = best_ms[node, place - 1]
        relatives[node, place] = relatives[node, place - 1]
        place -= 1
    best_ms[node, place] = expected
    relatives[node, place] = other
