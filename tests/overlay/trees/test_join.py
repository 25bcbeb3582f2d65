"""Joins keep the bound and the number of probes, and make a counter-offer that could be kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.overlay.trees.join import REFUSED, join, join_candidates
from cubecast.overlay.trees.measured import run_survey
from cubecast.types import Floats
from tests.strategies import matrices


@given(matrices(least=3), st.integers(1, 20), st.floats(1, 300), st.data())
def test_a_join_takes_the_best_measured_parent_or_counter_offers_its_delay(
    matrix: Floats, probes: int, bound_ms: float, data: st.DataObject
) -> None:
    nodes = len(matrix)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    late = np.where(rng.random(nodes) < 0.3, np.inf, rng.uniform(0, 100, size=nodes))
    open_hosts = rng.random(nodes) < 0.7
    open_hosts[-1] = False
    positions = rng.uniform(0, 100, size=(nodes, 2))
    joined, asked = run_survey(
        join(late, open_hosts, positions, nodes - 1, bound_ms, probes), lambda p: matrix[p[:, 0], p[:, 1]]
    )
    able = np.flatnonzero(open_hosts & np.isfinite(late))
    assert asked == joined.probes == min(probes, len(able))
    shortlist = join_candidates(late, open_hosts, positions, nodes - 1, probes)
    assert set(shortlist) <= set(able)
    if not len(able):
        assert joined.parent == REFUSED
        assert np.isinf(joined.best_ms)
        return
    expected = late + np.linalg.norm(positions - positions[-1], axis=1)
    assert expected[shortlist] == pytest.approx(np.sort(expected[able])[:probes])
    best = (late[shortlist] + matrix[shortlist, nodes - 1]).min()
    assert joined.best_ms == pytest.approx(best)
    assert (joined.parent == REFUSED) == (best > bound_ms)
    if joined.parent != REFUSED:
        assert late[joined.parent] + matrix[joined.parent, nodes - 1] == pytest.approx(best)
