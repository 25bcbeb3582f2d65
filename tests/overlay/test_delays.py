"""Delays: all functions give the same delay for a pair of hosts."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cubecast.overlay.delays import Delays, delay_matrix, delay_ms, delays_between, delays_from, full_delays
from cubecast.types import Floats
from tests.strategies import matrices, some_delays


@given(some_delays())
def test_all_functions_agree_and_a_host_has_no_delay_to_itself(delays: Delays) -> None:
    hosts = len(delays.at)
    matrix = delay_matrix(delays)
    assert np.allclose(matrix, matrix.T)
    assert (np.diag(matrix) == 0).all()
    for a in range(hosts):
        assert np.allclose(delays_from(delays, a), matrix[a])
        for b in range(hosts):
            assert np.isclose(delay_ms(delays, a, b), matrix[a, b])


@given(matrices(), st.data())
def test_a_full_matrix_is_stored_without_change(matrix: Floats, data: st.DataObject) -> None:
    delays = full_delays(matrix)
    assert np.allclose(delay_matrix(delays), matrix)
    a, b = (data.draw(st.integers(0, len(matrix) - 1)) for _ in range(2))
    assert np.isclose(delays_between(delays, np.array([a]), np.array([b]))[0], matrix[a, b])
