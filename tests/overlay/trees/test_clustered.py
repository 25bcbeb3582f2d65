"""Laws of the clustered tree alone, before the nodes left over are attached."""

import numpy as np
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
