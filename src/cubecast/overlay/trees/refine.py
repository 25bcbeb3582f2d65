"""Refinement: a local search over measured pairs that reduces the delays of a tree, within fan-outs and bounds.

In a move, a node v leaves its parent and becomes the child of a measured node u if this reduces the delay of v. If u
has its maximum fan-out, v replaces a child x of u, and x becomes the child of v or of v's old parent. The gain of a move
is the reduction of the weighted delay of all nodes in the moved subtrees, plus the weighted reduction of link length,
which stands for the load on the physical network. No move makes a node break a bound that it keeps. A move concerns one
node and nodes whose delay to it is measured, so a host can make it by itself.
"""

from typing import NamedTuple

import numpy as np

from cubecast.overlay.kernel import kernel
from cubecast.overlay.trees.measured import MeasuredGraph, measured_ms
from cubecast.overlay.trees.tree import NO_NODE, PUBLISHER, breadth_first
from cubecast.types import Floats, Ints

GAIN_MIN_MS = 1e-6
"""Minimum gain of a move, ms; smaller ones are rounding errors."""
SWEEP_GAIN_MIN = 1e-4
"""The search ends after a sweep that reduces the weighted delay of all nodes by a smaller share than this."""


class TreeState(NamedTuple):
    """A tree with the quantities that the local search needs; changed in place by moves.

    Attributes:
        parent: shape (n,).
        child: shape (n, greatest fan-out), the children of each node in the first `copies` entries.
        copies: shape (n,), number of children.
        delay_ms: shape (n,), delay from the publisher along the tree.
        subtree_weight: shape (n,), weight of the node and all its descendants.
    """

    parent: Ints
    child: Ints
    copies: Ints
    delay_ms: Floats
    subtree_weight: Floats


class Move(NamedTuple):
    """A change of the tree: `node` becomes a child of `above`.

    If `displaced` is not -1, this child of `above` becomes a child of `displaced_to`.
    """

    gain: float
    node: int
    above: int
    displaced: int
    displaced_to: int


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
    """The parents after at most `sweeps` sweeps; in each, every node in random order makes its best move.

    Args:
        graph: the measured pairs; every link of the tree is one of them.
        parent: shape (n,), the tree before.
        slots: shape (n,), maximum fan-out of each node.
        weight: shape (n,), weight of 1 ms of each node's delay.
        bound_ms: shape (n,), bound of each node; infinite for none.
        link_weight: weight of 1 ms of link length.
        sweeps: maximum number of sweeps; the search ends earlier after one with too small a gain (SWEEP_GAIN_MIN).
    """
    state = tree_state(graph, parent, slots, weight)
    stack = np.empty(len(parent), np.int64)
    for _ in range(sweeps):
        gained = 0.0
        for node in rng.permutation(len(parent)):
            if node == PUBLISHER:
                continue
            move = best_move(graph, state, slots, node, link_weight)
            if move.above >= 0 and _keeps_bounds(graph, state, move, bound_ms, stack):
                _make_move(graph, state, move, stack)
                gained += move.gain
        if gained <= SWEEP_GAIN_MIN * (state.delay_ms * weight).sum():
            break
    return state.parent


@kernel
def tree_state(graph: MeasuredGraph, parent: Ints, slots: Ints, weight: Floats) -> TreeState:
    """Computes the state of a tree; `parent` and `weight` are copied."""
    nodes = len(parent)
    state = TreeState(
        parent.copy(),
        np.full((nodes, max(1, slots.max())), NO_NODE, np.int64),
        np.zeros(nodes, np.int64),
        np.zeros(nodes),
        weight.copy(),
    )
    order = breadth_first(parent)
    for node in order[1:]:
        above = parent[node]
        state.child[above, state.copies[above]] = node
        state.copies[above] += 1
        state.delay_ms[node] = state.delay_ms[above] + measured_ms(graph, above, node)
    for node in order[:0:-1]:
        state.subtree_weight[parent[node]] += state.subtree_weight[node]
    return state


@kernel
def best_move(graph: MeasuredGraph, state: TreeState, slots: Ints, node: int, link_weight: float) -> Move:
    """The move of one node with the greatest gain, among those that gain for this node's subtree alone.

    `above` is -1 if there is no such move. Bounds are not checked here.
    """
    best = Move(GAIN_MIN_MS, node, NO_NODE, NO_NODE, NO_NODE)
    link = measured_ms(graph, node, state.parent[node])
    for at in range(graph.first[node], graph.first[node + 1]):
        above, hop = int(graph.other[at]), float(graph.one_way_ms[at])
        gain = (state.delay_ms[node] - state.delay_ms[above] - hop) * state.subtree_weight[node]
        gain += link_weight * (link - hop)
        if gain <= GAIN_MIN_MS or above == state.parent[node] or is_below(state.parent, above, node):
            continue
        if state.copies[above] < slots[above]:
            if gain > best.gain:
                best = Move(gain, node, above, NO_NODE, NO_NODE)
        else:
            best = _best_displacement(graph, state, slots, Move(gain, node, above, NO_NODE, NO_NODE), best, link_weight)
    return best


@kernel
def _best_displacement(
    graph: MeasuredGraph, state: TreeState, slots: Ints, move: Move, best: Move, link_weight: float
) -> Move:
    """The best of `best` and the variants of `move` in which `node` replaces a child of `above`, which is full.

    The delay of the displaced child's new link is looked up only if the move would be the best with a delay of 0.
    """
    node, above = move.node, move.above
    displaced_to = int(state.parent[node])
    delay = state.delay_ms[above] + measured_ms(graph, above, node)
    branch = _child_towards(state.parent, above, node)
    for place in range(state.copies[above]):
        out = int(state.child[above, place])
        hop = state.delay_ms[out] - state.delay_ms[above]
        subtree_weight = state.subtree_weight[out]
        if out == branch:
            subtree_weight -= state.subtree_weight[node]
        gain = move.gain + (state.delay_ms[out] - delay) * subtree_weight + link_weight * hop
        if gain > best.gain and state.copies[node] < slots[node]:
            gain -= measured_ms(graph, out, node) * (subtree_weight + link_weight)
            if gain > best.gain:
                best = Move(gain, node, above, out, node)
        gain = move.gain + (state.delay_ms[out] - state.delay_ms[displaced_to]) * subtree_weight + link_weight * hop
        if gain > best.gain and out != branch and displaced_to != above:
            gain -= measured_ms(graph, out, displaced_to) * (subtree_weight + link_weight)
            if gain > best.gain and not is_below(state.parent, displaced_to, out):
                best = Move(gain, node, above, out, displaced_to)
    return best


@kernel
def _child_towards(parent: Ints, above: int, node: int) -> int:
    """The child of `above` that is `node` or an ancestor of it; -1 if `node` is not a descendant of `above`."""
    while node >= 0 and parent[node] != above:
        node = parent[node]
    return node


@kernel
def is_below(parent: Ints, node: int, top: int) -> bool:
    """Whether `node` is `top` or a descendant of it."""
    while node >= 0:
        if node == top:
            return True
        node = parent[node]
    return False


@kernel
def _keeps_bounds(graph: MeasuredGraph, state: TreeState, move: Move, bound_ms: Floats, stack: Ints) -> bool:
    """Whether every node that keeps its bound before the move keeps it after the move."""
    delay = state.delay_ms[move.above] + measured_ms(graph, move.above, move.node)
    if not _may_shift(state, move.node, NO_NODE, delay - state.delay_ms[move.node], bound_ms, stack):
        return False
    if move.displaced < 0:
        return True
    start = delay if move.displaced_to == move.node else state.delay_ms[move.displaced_to]
    delay = start + measured_ms(graph, move.displaced_to, move.displaced)
    return _may_shift(state, move.displaced, move.node, delay - state.delay_ms[move.displaced], bound_ms, stack)


@kernel
def _may_shift(state: TreeState, top: int, without: int, later_ms: float, bound_ms: Floats, stack: Ints) -> bool:
    """Whether the delay of a subtree may grow by `later_ms` without breaking a bound that one of its nodes keeps.

    Args:
        top: root of the subtree.
        without: a child whose subtree is excluded; -1 for none.
        stack: shape (n,), working space.
    """
    if later_ms <= 0:
        return True
    stack[0], held = top, 1
    while held > 0:
        held -= 1
        node = stack[held]
        if state.delay_ms[node] <= bound_ms[node] < state.delay_ms[node] + later_ms:
            return False
        for place in range(state.copies[node]):
            if state.child[node, place] != without:
                stack[held] = state.child[node, place]
                held += 1
    return True


@kernel
def _make_move(graph: MeasuredGraph, state: TreeState, move: Move, stack: Ints) -> None:
    _detach(state, move.node)
    if move.displaced >= 0:
        _detach(state, move.displaced)
    _attach(graph, state, move.node, move.above, stack)
    if move.displaced >= 0:
        _attach(graph, state, move.displaced, move.displaced_to, stack)


@kernel
def _detach(state: TreeState, node: int) -> None:
    above = state.parent[node]
    last = state.copies[above] - 1
    for place in range(last):
        if state.child[above, place] == node:
            state.child[above, place] = state.child[above, last]
    state.copies[above] = last
    state.parent[node] = NO_NODE
    while above >= 0:
        state.subtree_weight[above] -= state.subtree_weight[node]
        above = state.parent[above]


@kernel
def _attach(graph: MeasuredGraph, state: TreeState, node: int, above: int, stack: Ints) -> None:
    later_ms = state.delay_ms[above] + measured_ms(graph, above, node) - state.delay_ms[node]
    state.parent[node] = above
    state.child[above, state.copies[above]] = node
    state.copies[above] += 1
    while above >= 0:
        state.subtree_weight[above] += state.subtree_weight[node]
        above = state.parent[above]
    stack[0], held = node, 1
    while held > 0:
        held -= 1
        below = stack[held]
        state.delay_ms[below] += later_ms
        for place in range(state.copies[below]):
            stack[held] = state.child[below, place]
            held += 1
