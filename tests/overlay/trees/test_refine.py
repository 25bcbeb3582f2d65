"""Refinement: each move compared with a search over all moves, and what no refinement may break."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.overlay.delays import full_delays
from cubecast.overlay.trees.refine import GAIN_MIN_MS, SWEEP_GAIN_MIN, Move, best_move, refined_tree, tree_state
from cubecast.overlay.trees.tree import tree_delays
from cubecast.types import Floats, Ints
from tests.kernels import both_forms
from tests.overlay.trees.surveys import graph_of, is_tree, some_edges
from tests.strategies import matrices, trees

Case = tuple[Floats, Ints, Ints, Ints, Floats]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Delays, a tree, measured pairs with those of the tree, slots, weights."""
    matrix = draw(matrices(least=3))
    limit = draw(st.integers(1, 4))
    parent = draw(trees(len(matrix), limit))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    slots = np.full(len(matrix), limit) - rng.integers(0, 2, size=len(matrix))
    slots = np.maximum(slots, np.bincount(parent[1:], minlength=len(matrix)))
    everyone = np.argwhere(np.triu(np.ones_like(matrix), 1))  # displacements need many measured pairs
    edges = draw(st.one_of(some_edges(matrix, parent), st.just(everyone)))
    return matrix, parent, edges, slots, rng.uniform(0.1, 3, size=len(matrix))


def objective(matrix: Floats, parent: Ints, weight: Floats, link_weight: float) -> float:
    late = tree_delays(parent, full_delays(matrix))
    links = matrix[parent[1:], np.arange(1, len(parent))].sum()
    return float((late * weight).sum() + link_weight * links)


def possible(case: Case, node: int) -> Iterator[tuple[Ints, Move]]:
    """All trees that one move of a node can give, with the move."""
    matrix, parent, edges, slots, _ = case
    known = {(int(a), int(b)) for a, b in edges} | {(int(b), int(a)) for a, b in edges}
    copies = np.bincount(parent[1:], minlength=len(matrix))
    for above in range(len(matrix)):
        if (node, above) not in known or above == parent[node]:
            continue
        after = parent.copy()
        after[node] = above
        if copies[above] < slots[above]:
            if is_tree(after):
                yield after, Move(0, node, above, -1, -1)
            continue
        for out in np.flatnonzero(parent == above):
            for displaced_to in (node, parent[node]):
                swapped = after.copy()
                swapped[out] = displaced_to
                fits = (np.bincount(swapped[1:], minlength=len(matrix)) <= slots).all()
                if (int(out), int(displaced_to)) in known and fits and is_tree(swapped) and out != node:
                    yield swapped, Move(0, node, above, int(out), int(displaced_to))


@both_forms(best_move)
@given(case=cases(), link_weight=st.sampled_from([0.0, 0.5, 2.0]), data=st.data())
def test_the_best_move_is_the_best_of_all(
    run: Callable[..., Move], case: Case, link_weight: float, data: st.DataObject
) -> None:
    check_best_move(run, case, data.draw(st.integers(1, len(case[0]) - 1)), link_weight)


@pytest.mark.parametrize("seed", range(3))
def test_the_best_move_in_a_full_tree_displaces_the_right_child(seed: int) -> None:
    """All pairs are measured and few hosts may send another copy, so that most moves displace a child."""
    rng = np.random.default_rng(seed)
    nodes, raw = 15, np.triu(rng.uniform(1, 100, size=(15, 15)), 1).astype(np.float32).astype(np.float64)
    parent = (np.arange(nodes) - 1) // 2
    slots = np.maximum(np.bincount(parent[1:], minlength=nodes), rng.random(nodes) < 0.2)
    case = raw + raw.T, parent, np.argwhere(raw), slots, rng.uniform(0.1, 3, size=nodes)
    for node in range(1, nodes):
        check_best_move(best_move, case, node, 0.5)


def check_best_move(run: Callable[..., Move], case: Case, node: int, link_weight: float) -> None:
    """The gain is that of the best of all possible moves, and of the move that was chosen."""
    matrix, parent, edges, slots, weight = case
    graph = graph_of(matrix, edges)
    found = run(graph, tree_state(graph, parent, slots, weight), slots, node, link_weight)
    before = objective(matrix, parent, weight, link_weight)
    moves = list(possible(case, node))
    gains = [before - objective(matrix, after, weight, link_weight) for after, _ in moves]
    late, subtree_weight = (
        tree_delays(parent, full_delays(matrix)),
        tree_state(graph, parent, slots, weight).subtree_weight,
    )
    link = matrix[node, parent[node]]
    own = [
        (late[node] - late[m.above] - matrix[node, m.above]) * subtree_weight[node]
        + link_weight * (link - matrix[node, m.above])
        for _, m in moves
    ]
    best = max((g for g, mine in zip(gains, own, strict=True) if mine > GAIN_MIN_MS), default=0.0)
    assert found.gain == pytest.approx(max(best, GAIN_MIN_MS), rel=1e-3, abs=1e-2)
    if found.above < 0:
        return
    taken = next(
        g
        for g, (_, m) in zip(gains, moves, strict=True)
        if (m.above, m.displaced, m.displaced_to) == (found.above, found.displaced, found.displaced_to)
    )
    assert found.gain == pytest.approx(taken, rel=1e-3, abs=1e-2)


@both_forms(refined_tree)
@given(case=cases(), link_weight=st.sampled_from([0.0, 0.5]), seed=st.integers(0, 2**32 - 1), slack=st.floats(0.5, 2))
def test_a_refined_tree_is_a_tree_no_worse_within_fan_outs_and_bounds(
    run: Callable[..., Ints], case: Case, link_weight: float, seed: int, slack: float
) -> None:
    matrix, parent, edges, slots, weight = case
    graph = graph_of(matrix, edges)
    before = tree_delays(parent, full_delays(matrix))
    bounds = np.where(np.arange(len(matrix)) % 2, before * slack + 0.01, np.inf)
    after = run(graph, parent, slots, weight, bounds, link_weight, 10, np.random.default_rng(seed))
    assert is_tree(after)
    assert (np.bincount(after[1:], minlength=len(matrix)) <= slots).all()
    known = {(int(a), int(b)) for a, b in edges} | {(int(b), int(a)) for a, b in edges}
    assert all((node, int(above)) in known for node, above in enumerate(after[1:], start=1))
    gain = objective(matrix, parent, weight, link_weight) - objective(matrix, after, weight, link_weight)
    assert gain >= -1e-2
    late = tree_delays(after, full_delays(matrix))
    assert (late[before <= bounds] <= bounds[before <= bounds] + 1e-3).all()


@given(cases(), st.integers(0, 2**32 - 1))
def test_a_node_at_its_bound_never_gets_later(case: Case, seed: int) -> None:
    """The nodes of little weight are at their bounds: they may neither move to a later place nor be displaced to one."""
    matrix, parent, edges, slots, weight = case
    before = tree_delays(parent, full_delays(matrix))
    bounds = np.where(weight < 1.5, before + 1e-6, np.inf)
    after = refined_tree(graph_of(matrix, edges), parent, slots, weight, bounds, 0.5, 10, np.random.default_rng(seed))
    late = tree_delays(after, full_delays(matrix))
    assert (late <= bounds + 1e-3).all()


@given(cases(), st.integers(0, 2**32 - 1))
def test_a_tree_refined_to_the_end_has_no_move_left_worth_making(case: Case, seed: int) -> None:
    matrix, parent, edges, slots, weight = case
    graph = graph_of(matrix, edges)
    none = np.full(len(matrix), np.inf)
    after = refined_tree(graph, parent, slots, weight, none, 0.0, 500, np.random.default_rng(seed))
    state = tree_state(graph, after, slots, weight)
    for node in range(1, len(matrix)):
        gain = best_move(graph, state, slots, node, 0.0).gain
        assert gain <= 2 * SWEEP_GAIN_MIN * objective(matrix, after, weight, 0.0) + 1e-2


@pytest.mark.parametrize("seed", range(5))
def test_every_sweep_starts_from_the_delays_that_the_moves_before_have_left(seed: int) -> None:
    """Deep subtrees move, from a chain of hosts; with outdated delays below them the search would end too early."""
    nodes, rng = 30, np.random.default_rng(seed)
    raw = np.triu(rng.uniform(1, 100, size=(nodes, nodes)), 1).astype(np.float32).astype(np.float64)
    matrix, slots, weight, none = raw + raw.T, np.full(nodes, 3), np.ones(nodes), np.full(nodes, np.inf)
    graph = graph_of(matrix, np.argwhere(raw))
    after = refined_tree(graph, np.arange(nodes) - 1, slots, weight, none, 0.0, 500, rng)
    state = tree_state(graph, after, slots, weight)
    left = max(best_move(graph, state, slots, node, 0.0).gain for node in range(1, nodes))
    assert left <= SWEEP_GAIN_MIN * objective(matrix, after, weight, 0.0)


@pytest.mark.parametrize(("bound_ms", "parents"), [(11.0, [-1, 2, 0]), (10.5, [-1, 0, 1])])
def test_a_node_is_displaced_to_a_later_place_only_within_its_bound(bound_ms: float, parents: list[int]) -> None:
    """The publisher sends one copy. Node 2 is near it, and node 1, at 10 ms, would be at 11 ms behind node 2."""
    matrix = np.array([[0.0, 10.0, 1.0], [10.0, 0.0, 10.0], [1.0, 10.0, 0.0]])
    graph, bounds = graph_of(matrix, np.array([[0, 1], [0, 2], [1, 2]])), np.array([np.inf, bound_ms, np.inf])
    chain, ones = np.array([-1, 0, 1]), np.ones(3)
    after = refined_tree(graph, chain, np.array([1, 1, 1]), ones, bounds, 0.0, 10, np.random.default_rng(1))
    assert after.tolist() == parents


def test_the_search_ends_after_a_sweep_that_gains_a_smaller_share_of_the_delays_than_the_least_worth_it() -> None:
    """Node 2 gains 1 of 25 000 ms behind node 1, and then node 3 as much behind node 2: in the same sweep or not at all."""
    matrix = np.full((4, 4), np.inf)
    for a, b, ms in ((0, 1, 5000.0), (0, 2, 10_000.0), (0, 3, 10_001.0), (1, 2, 4999.0), (2, 3, 1.0)):
        matrix[a, b] = matrix[b, a] = ms
    graph = graph_of(matrix, np.argwhere(np.isfinite(np.triu(matrix))))
    star, slots, ones, none = np.array([-1, 0, 0, 0]), np.full(4, 3), np.ones(4), np.full(4, np.inf)
    found = {
        tuple(refined_tree(graph, star, slots, ones, none, 0.0, 10, np.random.default_rng(seed)).tolist())
        for seed in range(20)
    }
    assert found == {(-1, 0, 1, 0), (-1, 0, 1, 2)}
