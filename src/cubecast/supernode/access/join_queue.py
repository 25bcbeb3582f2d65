"""The queue of joins of new hosts: they wait while the super-node is busy, so that the requests of hosts that are in go first."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from cubecast.errors import DirectoryBusy
from cubecast.supernode.access.rates import Bucket

JOINS_PER_S = 100.0
"""Joins of new hosts a second, of all tokens together: each changes the placements of some hosts, and takes about 2 ms."""
JOINS_BURST = 200.0
"""Such joins at once."""
WAITING_MAX = 256
"""Maximum number of joins that wait: bounds memory, and as many as are served within WAIT_S."""
WAITING_PER_TOKEN_MAX = 64
"""Maximum number of joins of one token that wait, so that no token takes the whole queue."""
WAIT_S = 2.5
"""Longest time that a join waits, s: the host gives its request up after 5 s, and is dialled back meanwhile."""
LATE_S = 0.05
"""A turn of the event loop that takes longer than this, s, is one in which the hosts that are in had requests to be served."""
PAUSE_S = 0.02
"""Time between two looks at the event loop, s."""


class JoinQueue:
    """Lets joins pass in order, one at a time."""

    def __init__(
        self,
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Nobody waits.

        Args:
            now_s: of a clock that never steps back.
            sleep: waits for a time on this clock, s.
        """
        self._now_s = now_s
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._allowance = Bucket(JOINS_BURST, now_s())
        self._waiting: Counter[str] = Counter()

    async def wait(self, token_id: str) -> None:
        """Waits for this join's turn.

        Raises:
            DirectoryBusy: too many wait, or it took too long.
        """
        if self._waiting.total() >= WAITING_MAX or self._waiting[token_id] >= WAITING_PER_TOKEN_MAX:
            raise _overloaded()
        self._waiting[token_id] += 1
        try:
            await self._passed(self._now_s() + WAIT_S)
        finally:
            self._waiting[token_id] -= 1
            if not self._waiting[token_id]:
                del self._waiting[token_id]

    async def _passed(self, deadline_s: float) -> None:
        async with self._turn:  # in order of arrival
            while True:
                if self._now_s() > deadline_s:
                    raise _overloaded()
                began_s = self._now_s()
                await self._sleep(0.0)
                late = self._now_s() - began_s > LATE_S
                wait_s = PAUSE_S if late else self._allowance.take(JOINS_PER_S, JOINS_BURST, self._now_s())
                if not wait_s:
                    return
                await self._sleep(wait_s)


def _overloaded() -> DirectoryBusy:
    return DirectoryBusy("too many hosts want to join at once; those that are in go first", WAIT_S, overloaded=True)
