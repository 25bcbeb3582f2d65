"""Refine: a local search over measured pairs that makes a tree's nodes sooner, within fan-out and bounds.

A node v moves below a measured node u that would serve it sooner. Where u sends all the copies it may, v takes the
place of a child x of u, which moves below v or below v's old parent. What counts is the weighted delay of everyone in
the moved subtrees, plus the length of the links used, which stands for the load on the physical network. No move takes
a node beyond a bound that it keeps now. One node, its measured relatives: a host can do this for itself.
"""

from typing import NamedTuple

import numpy as np

from cubecast.overlay.kernel import kernel
from cubecast.overlay.trees.measured import MeasuredGraph, measured_ms
from cubecast.overlay.trees.tree import NOBODY, PUBLISHER, breadth_first
from cubecast.types import Floats, Ints

GAIN_MIN_MS = 1e-6
"""Moves that gain less are rounding."""
SWEEP_GAIN_MIN = 1e-4
"""A sweep that gains a smaller share of all delay is the last."""


class Book(NamedTuple):
    """A tree with what its local search looks up.

    Attributes:
        parent: shape (n,).
        child: shape (n, most slots), each node's children first.
        copies: shape (n,), how many children.
        late_ms: shape (n,), delay from the publisher.
        load: shape (n,), weight of the node and all below it.
    """

    parent: Ints
    child: Ints
    copies: Ints
    late_ms: Floats
    load: Floats


class Move(NamedTuple):
    """Node `node` goes below `above`; `displaced`, if any, leaves `above` and goes below `refuge`."""

    gain: float
    node: int
    above: int
    displaced: int
    refuge: int


@kernel
def refined_tree(
    graph: MeasuredGraph,
    parent: Ints,
    slots: Ints,
    weight: Floats,
    bound_ms: Floats,
    link_weight: float,
    sweeps: int,
    rng: np.random.Generator,
) -> Ints:
    """The tree after sweeps over all nodes, each making its best move, until a sweep gains next to nothing.

    Args:
        graph: the measured pairs; every link of the tree is one of them.
        slots: shape (n,), copies each node may send.
        weight: shape (n,), what a millisecond of a node's delay counts.
        bound_ms: shape (n,), each node's own bound; infinite for none.
        link_weight: what a millisecond of a link's length counts.
    """
    book = open_book(graph, parent, slots, weight)
    stack = np.empty(len(parent), np.int64)
    for _ in range(sweeps):
        gained = 0.0
        for node in rng.permutation(len(parent)):
            if node == PUBLISHER:
                continue
            move = best_move(graph, book, slots, node, link_weight)
            if move.above >= 0 and _keeps_bounds(graph, book, move, bound_ms, stack):
                _make_move(graph, book, move, stack)
                gained += move.gain
        if gained <= SWEEP_GAIN_MIN * (book.late_ms * weight).sum():
            break
    return book.parent


@kernel
def open_book(graph: MeasuredGraph, parent: Ints, slots: Ints, weight: Floats) -> Book:
    """The book of a tree; the tree's array is copied."""
    nodes = len(parent)
    book = Book(
        parent.copy(),
        np.full((nodes, max(1, slots.max())), NOBODY, np.int64),
        np.zeros(nodes, np.int64),
        np.zeros(nodes),
        weight.copy(),
    )
    order = breadth_first(parent)
    for node in order[1:]:
        above = parent[node]
        book.child[above, book.copies[above]] = node
        book.copies[above] += 1
        book.late_ms[node] = book.late_ms[above] + measured_ms(graph, above, node)
    for node in order[:0:-1]:
        book.load[parent[node]] += book.load[node]
    return book


@kernel
def best_move(graph: MeasuredGraph, book: Book, slots: Ints, node: int, link_weight: float) -> Move:
    """The move of one node that gains most, among those that gain for the node itself; `above` is -1 when none does."""
    best = Move(GAIN_MIN_MS, node, NOBODY, NOBODY, NOBODY)
    link = measured_ms(graph, node, book.parent[node])
    for at in range(graph.first[node], graph.first[node + 1]):
        above, hop = int(graph.other[at]), float(graph.one_way_ms[at])
        gain = (book.late_ms[node] - book.late_ms[above] - hop) * book.load[node] + link_weight * (link - hop)
        if gain <= GAIN_MIN_MS or above == book.parent[node] or is_below(book.parent, above, node):
            continue
        if book.copies[above] < slots[above]:
            if gain > best.gain:
                best = Move(gain, node, above, NOBODY, NOBODY)
        else:
            best = _best_displacement(graph, book, slots, Move(gain, node, above, NOBODY, NOBODY), best, link_weight)
    return best


@kernel
def _best_displacement(
    graph: MeasuredGraph, book: Book, slots: Ints, wish: Move, best: Move, link_weight: float
) -> Move:
    """The better of `best` and the moves that carry out `wish` by displacing a child of its full host.

    A displaced child's new link is looked up only where a link of no length would be good enough.
    """
    node, above = wish.node, wish.above
    refuge = int(book.parent[node])
    late = book.late_ms[above] + measured_ms(graph, above, node)
    holder = _child_towards(book.parent, above, node)
    for place in range(book.copies[above]):
        out = int(book.child[above, place])
        hop = book.late_ms[out] - book.late_ms[above]
        load = book.load[out] - book.load[node] if out == holder else book.load[out]
        gain = wish.gain + (book.late_ms[out] - late) * load + link_weight * hop
        if gain > best.gain and book.copies[node] < slots[node]:
            gain -= measured_ms(graph, out, node) * (load + link_weight)
            if gain > best.gain:
                best = Move(gain, node, above, out, node)
        gain = wish.gain + (book.late_ms[out] - book.late_ms[refuge]) * load + link_weight * hop
        if gain > best.gain and out != holder and refuge != above:
            gain -= measured_ms(graph, out, refuge) * (load + link_weight)
            if gain > best.gain and not is_below(book.parent, refuge, out):
                best = Move(gain, node, above, out, refuge)
    return best


@kernel
def _child_towards(parent: Ints, above: int, node: int) -> int:
    """The child of `above` that `node` hangs on; -1 when it does not hang on `above`."""
    while node >= 0 and parent[node] != above:
        node = parent[node]
    return node


@kernel
def is_below(parent: Ints, node: int, top: int) -> bool:
    """Whether `node` is `top` or hangs on it."""
    while node >= 0:
        if node == top:
            return True
        node = parent[node]
    return False


@kernel
def _keeps_bounds(graph: MeasuredGraph, book: Book, move: Move, bound_ms: Floats, stack: Ints) -> bool:
    """Whether nobody who keeps a bound now breaks it after the move."""
    late = book.late_ms[move.above] + measured_ms(graph, move.above, move.node)
    if not _may_shift(book, move.node, NOBODY, late - book.late_ms[move.node], bound_ms, stack):
        return False
    if move.displaced < 0:
        return True
    start = late if move.refuge == move.node else book.late_ms[move.refuge]
    late = start + measured_ms(graph, move.refuge, move.displaced)
    return _may_shift(book, move.displaced, move.node, late - book.late_ms[move.displaced], bound_ms, stack)


@kernel
def _may_shift(book: Book, top: int, without: int, later_ms: float, bound_ms: Floats, stack: Ints) -> bool:
    """Whether a subtree, less another one, may become later without breaking a bound it keeps."""
    if later_ms <= 0:
        return True
    stack[0], held = top, 1
    while held > 0:
        held -= 1
        node = stack[held]
        if book.late_ms[node] <= bound_ms[node] < book.late_ms[node] + later_ms:
            return False
        for place in range(book.copies[node]):
            if book.child[node, place] != without:
                stack[held] = book.child[node, place]
                held += 1
    return True


@kernel
def _make_move(graph: MeasuredGraph, book: Book, move: Move, stack: Ints) -> None:
    _detach(book, move.node)
    if move.displaced >= 0:
        _detach(book, move.displaced)
    _attach(graph, book, move.node, move.above, stack)
    if move.displaced >= 0:
        _attach(graph, book, move.displaced, move.refuge, stack)


@kernel
def _detach(book: Book, node: int) -> None:
    above = book.parent[node]
    last = book.copies[above] - 1
    for place in range(last):
        if book.child[above, place] == node:
            book.child[above, place] = book.child[above, last]
    book.copies[above] = last
    book.parent[node] = NOBODY
    while above >= 0:
        book.load[above] -= book.load[node]
        above = book.parent[above]


@kernel
def _attach(graph: MeasuredGraph, book: Book, node: int, above: int, stack: Ints) -> None:
    later_ms = book.late_ms[above] + measured_ms(graph, above, node) - book.late_ms[node]
    book.parent[node] = above
    book.child[above, book.copies[above]] = node
    book.copies[above] += 1
    while above >= 0:
        book.load[above] += book.load[node]
        above = book.parent[above]
    stack[0], held = node, 1
    while held > 0:
        held -= 1
        below = stack[held]
        book.late_ms[below] += later_ms
        for place in range(book.copies[below]):
            stack[held] = book.child[below, place]
            held += 1
