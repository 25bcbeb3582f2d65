"""Joins of new hosts wait while the super-node is busy, in bounded number and for a bounded time."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from cubecast.errors import DirectoryBusy
from cubecast.supernode.access.join_queue import (
    JOINS_BURST,
    JOINS_PER_S,
    LATE_S,
    WAIT_S,
    WAITING_MAX,
    WAITING_PER_TOKEN_MAX,
    JoinQueue,
)


class Loop:
    """A clock that only sleeping moves, and a turn of the event loop that takes `turn_s`."""

    def __init__(self, turn_s: float = 0.0) -> None:
        self.time_s, self.turn_s = 0.0, turn_s

    def now_s(self) -> float:
        return self.time_s

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.time_s += max(seconds, self.turn_s)


async def refused(waits: list[Awaitable[None]]) -> int:
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert all(result is None or (isinstance(result, DirectoryBusy) and result.overloaded) for result in results)
    return sum(result is not None for result in results)


async def one_after_another(queue: JoinQueue, loop: Loop, seconds: float) -> int:
    passed = 0
    while loop.time_s < seconds:
        await queue.wait(f"token {passed}")
        passed += 1
    return passed


async def test_joins_pass_at_their_rate_in_all() -> None:
    loop = Loop()
    passed = await one_after_another(JoinQueue(loop.now_s, loop.sleep), loop, 10.0)
    assert passed == pytest.approx(JOINS_BURST + 10.0 * JOINS_PER_S, abs=2)


async def test_they_wait_while_the_event_loop_is_late_and_pass_when_it_is_not_any_more() -> None:
    loop = Loop(turn_s=2 * LATE_S)
    queue = JoinQueue(loop.now_s, loop.sleep)
    waiting = asyncio.create_task(queue.wait("a"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    loop.turn_s = 0.0
    await waiting


async def test_one_that_waited_too_long_is_told_to_come_again() -> None:
    loop = Loop(turn_s=2 * LATE_S)
    queue = JoinQueue(loop.now_s, loop.sleep)
    with pytest.raises(DirectoryBusy, match="those that are in go first") as busy:
        await queue.wait("a")
    assert busy.value.overloaded
    assert busy.value.wait_s > 0
    assert WAIT_S <= loop.time_s <= WAIT_S + 1.0
    loop.turn_s = 0.0
    await queue.wait("a")


@pytest.mark.parametrize(
    ("token_of", "waiting_max"),
    [(lambda _: "a", WAITING_PER_TOKEN_MAX), (lambda number: f"token {number}", WAITING_MAX)],
)
async def test_so_many_wait_and_no_more(token_of: Callable[[int], str], waiting_max: int) -> None:
    loop = Loop()
    queue = JoinQueue(loop.now_s, loop.sleep)
    waits = [queue.wait(token_of(number)) for number in range(waiting_max + 10)]
    assert await refused([*waits]) == 10
    await queue.wait("a")  # nobody waits any more


async def test_a_token_that_has_many_waiting_does_not_keep_others_out() -> None:
    loop = Loop()
    queue = JoinQueue(loop.now_s, loop.sleep)
    many = asyncio.gather(*(queue.wait("many") for _ in range(10_000)), return_exceptions=True)
    await asyncio.sleep(0)
    await queue.wait("one")
    assert any(isinstance(outcome, DirectoryBusy) for outcome in await many), "the others were too many"
