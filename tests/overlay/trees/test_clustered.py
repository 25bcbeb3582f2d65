"""Laws of the clustered tree alone, before the nodes left over are attached."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.overlay.trees.clustered import clustered_tree
from cubecast.overlay.trees.measured import Measured, run_survey
from cubecast.overlay.trees.tree import fan_out
from cubecast.types import Floats, Ints
from tests.strategies import matrices


def clustered(matrix: Floats, slots: Ints, seed: int) -> Ints:
    rng = np.random.default_rng(seed)
    positions = rng.uniform(0, 100, size=(len(matrix), 3))
    survey = clustered_tree(Measured(len(matrix), 10_000), positions, slots, rng)
    return run_survey(survey, lambda pairs: matrix[pairs[:, 0], pairs[:, 1]])[0]


@given(matrices(), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_a_publisher_that_may_send_to_all_leaves_none_over_though_no_other_host_sends(
    matrix: Floats, spare: int, seed: int
) -> None:
    slots = np.zeros(len(matrix), np.int64)
    slots[0] = max(2, len(matrix) - 1 + spare)
    assert clustered(matrix, slots, seed).tolist() == [-1] + [0] * (len(matrix) - 1)


@given(matrices(), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_equal_fan_outs_of_two_or_more_leave_none_over(matrix: Floats, limit: int, seed: int) -> None:
    parent = clustered(matrix, np.full(len(matrix), limit), seed)
    assert (parent[1:] >= 0).all()
    assert fan_out(parent).max() <= limit


@given(matrices(), st.integers(0, 2**32 - 1))
def test_hosts_that_send_one_copy_only_leave_none_over_beside_others_that_send_more(matrix: Floats, seed: int) -> None:
    slots = np.random.default_rng(seed).integers(1, 4, size=len(matrix))
    slots[-1] = 2
    parent = clustered(matrix, slots, seed)
    assert (parent[1:] >= 0).all()
    assert (np.bincount(parent[1:], minlength=len(matrix)) <= slots).all()


@given(matrices(least=3), st.integers(0, 2**32 - 1))
def test_a_publisher_that_may_not_send_leaves_all_over(matrix: Floats, seed: int) -> None:
    slots = np.full(len(matrix), 2)
    slots[0] = 0
    assert (clustered(matrix, slots, seed) == -1).all()


@pytest.mark.parametrize("seed", range(3))
def test_each_distant_region_is_served_through_one_host(seed: int) -> None:
    """The publisher may send one copy to each of the regions, which lie at different distances from it."""
    rng, each = np.random.default_rng(seed), 6
    middles = np.array([[1000.0, 0.0], [3000.0, 0.0], [0.0, 2000.0], [-1000.0, -1000.0]])
    region = np.repeat(np.arange(len(middles)), each)
    positions = np.concatenate([np.zeros((1, 2)), middles[region] + rng.uniform(0, 10, size=(len(region), 2))])
    survey = clustered_tree(Measured(len(positions), 10_000), positions, np.full(len(positions), len(middles)), rng)
    parent, _ = run_survey(
        survey, lambda pairs: np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    )
    heads = np.flatnonzero(parent == 0)
    assert sorted(region[heads - 1]) == list(range(len(middles)))
    others = np.flatnonzero(parent > 0)
    assert (region[others - 1] == region[parent[others] - 1]).all()


def test_a_region_is_served_through_a_host_that_may_send_copies_though_others_are_nearer() -> None:
    positions = np.array([[0.0], [100.0], [10.0], [20.0], [30.0]])
    survey = clustered_tree(Measured(5, 100), positions, np.array([1, 3, 0, 0, 0]), np.random.default_rng(1))
    parent, _ = run_survey(survey, lambda pairs: np.abs(positions[pairs[:, 0], 0] - positions[pairs[:, 1], 0]))
    assert parent.tolist() == [-1, 0, 1, 1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_hosts_at_one_place_are_served_through_one_of_them_wherever_the_places_are(seed: int) -> None:
    """There are as many places as copies that the publisher may send."""
    places = np.array([[100.0, -100.0], [-100.0, 100.0], [200.0, 40.0], [-300.0, -60.0], [40.0, 400.0]])
    place = np.repeat(np.arange(len(places)), 4)
    positions = np.concatenate([np.zeros((1, 2)), places[place]])
    slots = np.full(len(positions), len(places))
    survey = clustered_tree(Measured(len(positions), 10_000), positions, slots, np.random.default_rng(seed))
    parent, _ = run_survey(
        survey, lambda pairs: np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    )
    assert sorted(place[np.flatnonzero(parent == 0) - 1]) == list(range(len(places)))
