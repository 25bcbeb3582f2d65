"""Relatives: the nodes around a node in the tree that are worth a probe.

Siblings, uncles, cousins, and the ancestors two levels further up with their children: a node knows them from its
parent alone. The most promising are those that would serve the node soonest, by their own delay and the coordinates.
"""

import numpy as np

from cubecast.overlay.coordinates import estimated_ms
from cubecast.overlay.kernel import kernel
from cubecast.overlay.trees.measured import MeasuredGraph, measured_ms
from cubecast.overlay.trees.refine import Book
from cubecast.overlay.trees.tree import NOBODY
from cubecast.types import Floats, Ints


@kernel
def promising_relatives(graph: MeasuredGraph, book: Book, positions: Floats, count: int) -> tuple[Ints, Floats]:
    """The unmeasured relatives that would serve each node soonest.

    Returns:
        relatives: shape (n, count), best first, -1 where there are fewer.
        sooner_ms: shape (n, count), how much sooner than now, as far as coordinates tell; negative for later.
    """
    nodes = len(book.parent)
    relatives = np.full((nodes, count), NOBODY, np.int64)
    late = np.full((nodes, count), np.inf)
    for node in range(1, nodes):
        above = book.parent[node]
        _consider_children(graph, book, positions, node, above, NOBODY, relatives, late)
        for generation in range(3):
            if above < 0 or book.parent[above] < 0:
                break
            over = book.parent[above]
            _consider(graph, book, positions, node, over, relatives, late)
            _consider_children(graph, book, positions, node, over, above, relatives, late)
            if generation == 0:
                for place in range(book.copies[over]):
                    uncle = book.child[over, place]
                    if uncle != above:
                        _consider_children(graph, book, positions, node, uncle, NOBODY, relatives, late)
            above = over
    return relatives, book.late_ms.reshape(-1, 1) - late


@kernel
def _consider_children(
    graph: MeasuredGraph,
    book: Book,
    positions: Floats,
    node: int,
    above: int,
    without: int,
    relatives: Ints,
    late: Floats,
) -> None:
    """Considers the children of a node, less one that was considered already."""
    for place in range(book.copies[above]):
        if book.child[above, place] != without:
            _consider(graph, book, positions, node, book.child[above, place], relatives, late)


@kernel
def _consider(
    graph: MeasuredGraph, book: Book, positions: Floats, node: int, other: int, relatives: Ints, late: Floats
) -> None:
    """Puts a relative in its place among the node's best, unless it is measured already."""
    if other == node:
        return
    expected = book.late_ms[other] + estimated_ms(positions, other, node)
    place = relatives.shape[1] - 1
    if expected >= late[node, place] or measured_ms(graph, node, other) < np.inf:
        return
    while place > 0 and late[node, place - 1] > expected:
        late[node, place] = late[node, place - 1]
        relatives[node, place] = relatives[node, place - 1]
        place -= 1
    late[node, place] = expected
    relatives[node, place] = other
