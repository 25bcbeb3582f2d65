"""Clocks that disagree, and clocks that are stepped while a stream runs: nobody rejoins, and no frame is lost."""

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass

import pytest

import cubecast
from cubecast.client.host import Host
from cubecast.host import runtime
from cubecast.host.directory import supernode_time
from cubecast.supernode import clock
from cubecast.supernode.access import gate
from tests.client.numbers import numbers
from tests.conditions import eventually

HOUR_S = 3600.0


@dataclass
class Clock:
    """The clock of a machine: as far from this machine's as it was set."""

    ahead_s: float = 0.0

    def time(self) -> float:
        return time.time() + self.ahead_s

    def monotonic(self) -> float:
        return time.monotonic()


@pytest.fixture
def supernode_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the super-node's machine; made before the super-node starts."""
    machine = Clock()
    for module in (clock, gate):
        monkeypatch.setattr(module, "time", machine)
    return machine


@pytest.fixture
def host_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the hosts' machine."""
    machine = Clock()
    for module in (runtime, supernode_time):
        monkeypatch.setattr(module, "time", machine)
    return machine


def join(name: str, notices: list[object]) -> contextlib.AbstractAsyncContextManager[Host]:
    return cubecast.join(name=name, listen="127.0.0.1:0", on_event=notices.append)


class Received:
    """Reads a channel of numbers, of which none may be missing."""

    def __init__(self, subscription: cubecast.Subscription) -> None:
        self.numbers: list[int] = []
        self.task = asyncio.create_task(self._read(subscription))

    async def _read(self, subscription: cubecast.Subscription) -> None:
        async for frame in subscription:
            number = json.loads(frame.payload)
            assert not self.numbers or number == self.numbers[-1] + 1
            self.numbers.append(number)

    async def more(self, count: int) -> None:
        """Waits for further numbers."""
        before = len(self.numbers)
        await eventually(lambda: self.task.done() or len(self.numbers) >= before + count)
        assert not self.task.done(), self.task.exception()


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
async def test_a_host_whose_clock_is_an_hour_off_takes_part_as_any_other(
    host_clock: Clock, supernode: str, ahead_s: float
) -> None:
    assert supernode
    notices: list[object] = []
    async with join("p", notices) as publisher, numbers(publisher):
        host_clock.ahead_s = ahead_s
        async with (
            join("s", notices) as subscriber,
            subscriber.subscribe("numbers", bound_ms=2000) as subscription,
        ):
            received = Received(subscription)
            await received.more(20)
            received.task.cancel()
    assert not [notice for notice in notices if "join" in str(notice) and "again" in str(notice)]


@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S])
@pytest.mark.parametrize("machine", ["super-node", "hosts"])
async def test_a_clock_that_is_stepped_while_a_stream_runs_ends_nothing(
    supernode_clock: Clock, host_clock: Clock, supernode: str, machine: str, step_s: float
) -> None:
    assert supernode
    notices: list[object] = []
    async with (
        join("p", notices) as publisher,
        join("s", notices) as subscriber,
        numbers(publisher),
        subscriber.subscribe("numbers", bound_ms=2000) as subscription,
    ):
        received = Received(subscription)
        await received.more(20)
        (supernode_clock if machine == "super-node" else host_clock).ahead_s = step_s
        await received.more(200)  # longer than two refreshes
        async with join("late", notices) as late, late.subscribe("numbers", bound_ms=2000) as another:
            second = Received(another)
            await second.more(20)
            second.task.cancel()
        received.task.cancel()
    assert not [notice for notice in notices if "again" in str(notice)]
