"""Label swaps."""

from collections import Counter
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.overlay.cube import Cube, label_count
from cubecast.overlay.delays import Delays, delay_matrix, full_delays
from cubecast.overlay.many_routes import neighbour_table
from cubecast.overlay.placement import mean_link_ms, swap_gain_ms, swapped_labels
from tests.kernels import both_forms
from tests.strategies import cubes


@st.composite
def placements(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, Delays, np.ndarray]:
    shape = draw(cubes(64))
    hosts = label_count(shape)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spots = rng.uniform(0, 100, size=(hosts, 2))
    matrix = np.linalg.norm(spots[:, None] - spots[None], axis=2)
    close = np.argsort(matrix, axis=1)[:, 1:4].astype(np.int32)
    return neighbour_table(shape), rng.permutation(hosts).astype(np.int32), full_delays(matrix), close


@both_forms(swap_gain_ms)
@given(case=placements(), data=st.data())
def test_the_gain_is_the_difference_of_all_links_before_and_after(
    run: Callable[..., float], case: tuple[np.ndarray, np.ndarray, Delays, np.ndarray], data: st.DataObject
) -> None:
    neighbour, host, delays, _ = case
    a, b = data.draw(st.lists(st.integers(0, len(host) - 1), min_size=2, max_size=2, unique=True))
    matrix = delay_matrix(delays)

    def total(seats: np.ndarray) -> float:
        """Every link that touches a or b, once for each of its ends that is one of them."""
        links = {(min(x, y), max(x, y)) for x in (a, b) for y in neighbour[x]}
        return sum(float(matrix[seats[x], seats[y]]) for x, y in links)

    after = host.copy()
    after[[a, b]] = host[[b, a]]
    if neighbour.shape[1] == len({*neighbour[a]}) == len({*neighbour[b]}):
        assert run(neighbour, host, delays, a, b) == pytest.approx(total(host) - total(after), abs=1e-2)


@both_forms(swapped_labels)
@given(case=placements(), tries=st.integers(0, 200), seed=st.integers(0, 2**32 - 1))
def test_swaps_only_shorten_the_links_and_keep_every_host(
    run: Callable[..., np.ndarray],
    case: tuple[np.ndarray, np.ndarray, Delays, np.ndarray],
    tries: int,
    seed: int,
) -> None:
    neighbour, host, delays, close = case
    after = run(neighbour, host, delays, close, tries, np.random.default_rng(seed))
    assert sorted(after) == sorted(host)
    assert mean_link_ms(neighbour, after, delays) <= mean_link_ms(neighbour, host, delays) + 1e-4


@pytest.mark.parametrize("seed", range(4))
def test_an_attempt_makes_every_swap_that_gains_among_those_it_may_try(seed: int) -> None:
    """The first attempt takes any label and a neighbour of the seat of a host close to its host."""
    rng = np.random.default_rng(seed)
    neighbour, host = neighbour_table(Cube(2, 3)), rng.permutation(8).astype(np.int32)
    close = rng.integers(0, 8, size=(8, 2), dtype=np.int32)
    spots = rng.uniform(0, 100, size=(8, 2))
    delays = full_delays(np.linalg.norm(spots[:, None] - spots[None], axis=2))
    possible = {tuple(host.tolist())}
    for a, near, port in product(range(8), range(2), range(3)):
        b = int(neighbour[np.flatnonzero(host == close[host[a], near])[0], port])
        if a != b and swap_gain_ms(neighbour, host, delays, a, b) > 0:
            after = host.copy()
            after[[a, b]] = host[[b, a]]
            possible.add(tuple(after.tolist()))
    found = {
        tuple(swapped_labels(neighbour, host, delays, close, 1, np.random.default_rng(draw)).tolist())
        for draw in range(800)
    }
    assert found == possible


def test_an_attempt_tries_all_labels_close_hosts_and_neighbours_equally_often() -> None:
    """So the share of the attempts that leave an arrangement is that of the choices that lead to it."""
    rng, draws = np.random.default_rng(1), 10_000
    neighbour, host = neighbour_table(Cube(2, 3)), rng.permutation(8).astype(np.int32)
    close = rng.integers(0, 8, size=(8, 2), dtype=np.int32)
    spots = rng.uniform(0, 100, size=(8, 2))
    delays = full_delays(np.linalg.norm(spots[:, None] - spots[None], axis=2))
    expected: Counter[tuple[int, ...]] = Counter()
    for a, near, port in product(range(8), range(2), range(3)):
        b, after = int(neighbour[np.flatnonzero(host == close[host[a], near])[0], port]), host.copy()
        if a != b and swap_gain_ms(neighbour, host, delays, a, b) > 0:
            after[[a, b]] = host[[b, a]]
        expected[tuple(after.tolist())] += 1
    found = Counter(
        tuple(swapped_labels(neighbour, host, delays, close, 1, np.random.default_rng(draw)).tolist())
        for draw in range(draws)
    )
    apart = sum(abs(found[after] / draws - count / expected.total()) for after, count in expected.items())
    assert apart < 0.07, f"{apart:.3f} of a greatest possible 2"
