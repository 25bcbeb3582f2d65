"""Delays: one definition, one host at a time or many."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cubecast.overlay.delays import Delays, delay_matrix, delay_ms, delays_between, delays_from, full_delays
from cubecast.types import Floats
from tests.strategies import matrices, some_delays


@given(some_delays())
def test_all_forms_agree_and_a_host_is_no_time_from_itself(delays: Delays) -> None:
    hosts = len(delays.at)
    matrix = delay_matrix(delays)
    assert np.allclose(matrix, matrix.T)
    assert (np.diag(matrix) == 0).all()
    for a in range(hosts):
        assert np.allclose(delays_from(delays, a), matrix[a])
        for b in range(hosts):
            assert np.isclose(delay_ms(delays, a, b), matrix[a, b])


@given(matrices(), st.data())
def test_a_full_matrix_comes_back_as_it_was(matrix: Floats, data: st.DataObject) -> None:
    delays = full_delays(matrix)
    assert np.allclose(delay_matrix(delays), matrix)
    a, b = (data.draw(st.integers(0, len(matrix) - 1)) for _ in range(2))
    assert np.isclose(delays_between(delays, np.array([a]), np.array([b]))[0], matrix[a, b])
