"""Chord."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.lab.rivals.chord import chord, chord_routes
from cubecast.overlay.delays import Delays, delay_ms
from tests.kernels import both_forms
from tests.strategies import some_delays


@both_forms(chord_routes)
@pytest.mark.parametrize("proximity", [False, True])
@given(delays=some_delays(most=40), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_a_route_takes_one_finger_for_each_bit_of_the_distance(
    run: Callable[..., tuple[np.ndarray, np.ndarray]], proximity: bool, delays: Delays, seed: int, data: st.DataObject
) -> None:
    hosts = len(delays.at)
    ring = chord(hosts, np.random.default_rng(seed))
    source, target = (data.draw(st.integers(0, hosts - 1)) for _ in range(2))
    late, hops = run(ring, delays, np.array([source]), np.array([target]), proximity)
    at, expected, count = source, 0.0, 0
    while at != target:
        ahead = int(ring.place[target] - ring.place[at]) % hosts
        fingers = [bit for bit in reversed(range(hosts.bit_length())) if ahead >> bit & 1]
        jumps = [int(ring.host[(ring.place[at] + 2**bit) % hosts]) for bit in fingers]
        there = min(jumps, key=lambda jump: delay_ms(delays, at, jump)) if proximity else jumps[0]
        expected, count, at = expected + delay_ms(delays, at, there), count + 1, there
    assert hops[0] == count == (int(ring.place[target] - ring.place[source]) % hosts).bit_count()
    assert late[0] == pytest.approx(expected)
