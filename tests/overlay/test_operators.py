"""Properties of operator placement."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.overlay.operators import rank_sites


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sites, consumers = draw(st.integers(1, 12)), draw(st.integers(0, 8))
    input_ms = np.where(rng.random(sites) < 0.2, np.inf, rng.uniform(0, 100, sites))
    bounds_ms = rng.uniform(50, 200, consumers)
    copies = rng.integers(0, 3, sites)
    return input_ms, rng.uniform(0, 100, (sites, consumers)), bounds_ms, copies, rng.random(sites) < 0.7


@given(problems())
def test_every_usable_site_is_ranked_once_and_none_before_one_that_breaks_fewer_bounds(
    problem: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    input_ms, to_ms, bounds_ms, _, open_sites = problem
    ranked = rank_sites(*problem).tolist()
    assert sorted(ranked) == [n for n in range(len(input_ms)) if open_sites[n] and np.isfinite(input_ms[n])]
    broken = [int(((input_ms[n] + to_ms[n]) > bounds_ms).sum()) for n in ranked]
    assert broken == sorted(broken)


@given(problems())
def test_a_site_that_is_better_in_all_respects_is_ranked_before(
    problem: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    input_ms, to_ms, bounds_ms, copies, open_sites = problem
    ranked = rank_sites(*problem).tolist()
    best = np.append(input_ms, np.nanmin(np.append(input_ms, 0.0)) - 1.0)
    to_best = np.vstack([to_ms, to_ms.min(axis=0)])
    with_best = rank_sites(best, to_best, bounds_ms, np.append(copies, 0), np.append(open_sites, True))
    assert with_best.tolist() == [len(input_ms), *ranked]


@pytest.mark.parametrize(("copies", "chosen"), [([0, 0], 0), ([1, 0], 0), ([3, 0], 1)])
def test_an_additional_copy_outweighs_some_delay_but_not_more(copies: list[int], chosen: int) -> None:
    near, far = 10.0, 20.0
    ranked = rank_sites(np.array([near, far]), np.zeros((2, 0)), np.zeros(0), np.array(copies), np.ones(2, bool))
    assert ranked[0] == chosen
