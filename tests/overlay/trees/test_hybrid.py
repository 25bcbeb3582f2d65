"""Parts of the hybrid tree: how far a refinement searches, and what measuring relatives is good for."""

from collections.abc import Callable

import numpy as np
import pytest

from cubecast.overlay.trees import hybrid
from cubecast.overlay.trees.hybrid import (
    EFFORT,
    clustered_alone,
    clustered_refined,
    equal_requirements,
    objective,
    refined,
)
from cubecast.overlay.trees.measured import Measured, Survey, run_survey
from cubecast.types import Floats, Ints


def all_measured(matrix: Floats) -> Measured:
    measured = Measured(len(matrix), len(matrix) ** 2)
    a, b = np.triu_indices(len(matrix), 1)
    run_survey(measured.measure(a, b), lambda pairs: matrix[pairs[:, 0], pairs[:, 1]])
    return measured


@pytest.mark.parametrize(("sweeps", "improves"), [(0.99, False), (1.0, True)])
def test_a_deep_tree_gets_fewer_sweeps_so_that_their_work_keeps_its_limit(
    sweeps: float, improves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work of one sweep is the number of measured pairs, in both directions, times the depth of the tree."""
    nodes = 12
    matrix = np.ones((nodes, nodes)) - np.eye(nodes)
    chain = np.arange(nodes) - 1
    measured, required = all_measured(matrix), equal_requirements(nodes, nodes - 1)
    monkeypatch.setattr(hybrid, "SWEEP_WORK_MAX", int(sweeps * nodes * (nodes - 1) * (nodes - 1)))
    after = refined(measured, chain, required, EFFORT, np.random.default_rng(1))
    assert (objective(measured, after, required, EFFORT) < objective(measured, chain, required, EFFORT)) == improves


@pytest.mark.parametrize(("more", "improves"), [(10_000, True), (10_001, False)])
def test_the_work_of_a_refinement_may_reach_four_billion_steps_but_not_exceed_them(more: int, improves: bool) -> None:
    """A chain of 40 000 hops with 50 000 measured pairs, one of them a shorter way, gets one sweep: 2 * 50 000 * 40 000."""
    depth = 40_000
    hosts = np.arange(depth + 1)
    measured, required = Measured(len(hosts), 2 * depth), equal_requirements(len(hosts), 2)
    a, b = np.concatenate([hosts[:-1], hosts[:more]]), np.concatenate([hosts[1:], hosts[:more] + 2])
    run_survey(measured.measure(a, b), lambda pairs: np.where(pairs[:, 0] == 0, 1.0, pairs[:, 1] - pairs[:, 0]))
    after = refined(measured, hosts - 1, required, EFFORT, np.random.default_rng(1))
    assert after[2] == (0 if improves else 1)


@pytest.mark.parametrize("seed", range(5))
def test_measuring_relatives_makes_a_clustered_tree_better(seed: int) -> None:
    nodes = 24
    raw = np.triu(np.random.default_rng(seed).uniform(1, 100, size=(nodes, nodes)), 1)
    matrix = raw + raw.T
    required, measured = equal_requirements(nodes, 3), all_measured(matrix)

    def cost(method: Callable[..., Survey[Ints]]) -> float:
        survey = method(required, np.random.default_rng(seed))
        parent, _ = run_survey(survey, lambda pairs: matrix[pairs[:, 0], pairs[:, 1]])
        return objective(measured, parent, required, EFFORT)

    assert cost(clustered_refined) < cost(clustered_alone)


def test_the_objective_is_the_sum_of_the_delays_and_of_the_weighted_lengths_of_the_links() -> None:
    """A chain of 10 and 5 ms: delays of 10 and 15 ms, 15 ms of links, which weigh 2 each."""
    matrix = np.array([[0.0, 10.0, 30.0], [10.0, 0.0, 5.0], [30.0, 5.0, 0.0]])
    effort = EFFORT._replace(link_weight=2 * hybrid.LOADED_NODES / 3)
    cost = objective(all_measured(matrix), np.array([-1, 0, 1]), equal_requirements(3, 2), effort)
    assert cost == pytest.approx(10 + 15 + 2 * 15)


def completed(parent: list[int], slots: list[int]) -> list[int]:
    """Nodes on a line, the publisher first."""
    positions = np.arange(len(slots), dtype=float)[:, None]
    after = np.array(parent)
    survey = hybrid.complete_tree(Measured(len(slots), 100), after, positions, np.array(slots))
    run_survey(survey, lambda pairs: np.abs(pairs[:, 0] - pairs[:, 1]).astype(float))
    parents: list[int] = after.tolist()
    return parents


def test_a_node_that_finds_no_copy_left_takes_the_place_of_a_leaf_that_sends_none() -> None:
    assert completed([-1, 0, -1], [1, 0, 1]) == [-1, 2, 0]


def test_of_the_nodes_left_over_those_that_send_the_most_copies_are_attached_first() -> None:
    assert completed([-1, -1, -1, -1], [1, 1, 2, 0]) == [-1, 2, 0, 2]


def test_a_group_with_probes_enough_for_all_pairs_measures_them_all() -> None:
    nodes, rng = 30, np.random.default_rng(1)
    raw = np.triu(rng.uniform(1, 100, size=(nodes, nodes)), 1)
    matrix = raw + raw.T
    survey = hybrid.hybrid_tree(equal_requirements(nodes, 2), rng)
    _, asked = run_survey(survey, lambda pairs: matrix[pairs[:, 0], pairs[:, 1]])
    assert asked == nodes * (nodes - 1) // 2
