"""Metrics: cases worked out by hand, and properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.overlay.metrics import (
    Stress,
    delay_penalty,
    lateness,
    link_stress,
    relative_average_delay,
    success_ratio,
)

delays = st.lists(st.floats(0.1, 1e4), min_size=1, max_size=30).map(np.array)


@given(delays)
def test_direct_delivery_has_penalty_one_and_no_lateness_at_its_own_bound(direct: np.ndarray) -> None:
    assert delay_penalty(direct, direct) == pytest.approx(np.ones(len(direct)))
    assert relative_average_delay(direct, direct) == pytest.approx(1)
    assert lateness(direct, direct).sum() == 0


@given(delays, st.floats(1, 10))
def test_penalty_and_lateness_scale_with_the_delay(direct: np.ndarray, factor: float) -> None:
    assert delay_penalty(factor * direct, direct) == pytest.approx(factor)
    assert relative_average_delay(factor * direct, direct) == pytest.approx(factor)
    assert lateness(factor * direct, direct) == pytest.approx(factor - 1)
    assert (lateness(direct / factor, direct) == 0).all(), "early is not negative lateness"


def test_stress_counts_copies_over_links() -> None:
    star = [[1, 2], [1, 3], [1, 4]]
    assert link_stress(star) == Stress(mean=6 / 4, max=3, traversals=6)
    assert link_stress([]) == Stress(0.0, 0, 0)


def test_success_ratio_is_the_share_served() -> None:
    assert success_ratio([True, True, False, True]) == 0.75
    assert success_ratio([]) == 1.0


@pytest.mark.parametrize("function", [delay_penalty, relative_average_delay, lateness])
def test_shapes_that_differ_and_impossible_values_are_refused(function: object) -> None:
    assert callable(function)
    with pytest.raises(ValueError, match="one shape"):
        function(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="positive"):
        function(np.ones(2), np.zeros(2))
    with pytest.raises(ValueError, match="positive"):
        function(np.ones(2), -np.ones(2))
