"""The relay benchmark's calibration, and the load it sends over a path."""

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.bench.relay import BISECTIONS, DELIVERED_MIN, SLOWER_MAX, bisected, is_carried
from cubecast.bench.relay_paths import Load, Traffic, bare_path, cpu_s


@given(capacity=st.integers(500, 32_000))
def test_bisection_ends_at_a_carried_rate_close_to_the_greatest(capacity: int) -> None:
    carried = 500
    while 2 * carried <= capacity:
        carried *= 2
    trials: list[int] = []

    async def carries(rate: int) -> bool:
        trials.append(rate)
        return rate <= capacity

    found = asyncio.run(bisected(carried, 2 * carried, carries))
    assert found <= capacity < found + carried / 2**BISECTIONS + BISECTIONS
    assert len(trials) == BISECTIONS


@pytest.mark.parametrize(
    ("delivered", "seconds", "carried"),
    [(10_000, 1.0, True), (9_990, 1.0, True), (9_989, 1.0, False), (10_000, 1.1, True), (10_000, 1.2, False)],
)
def test_a_load_is_carried_if_it_arrives_and_was_sent_on_time(delivered: int, seconds: float, carried: bool) -> None:
    assert (DELIVERED_MIN, SLOWER_MAX) == (0.999, 1.1)
    assert is_carried(Load(10_000, delivered, seconds, 0.1, 0.01), 1.0) == carried


def test_the_cpu_clock_is_that_of_the_process() -> None:
    before = cpu_s(os.getpid())
    spent = os.times()
    while os.times().user + os.times().system < spent.user + spent.system + 0.05:
        pass
    assert cpu_s(os.getpid()) - before >= 0.03


@pytest.mark.system
async def test_a_bare_relay_carries_a_small_load() -> None:
    async with bare_path() as path, asyncio.TaskGroup() as group:
        traffic = Traffic(path, 1200)
        await traffic.start(group)
        load = await traffic.offer(50, 0.4)
        traffic.stop()
    assert load.sent == 20
    assert load.delivered == 20
    assert load.idle_share >= 0
