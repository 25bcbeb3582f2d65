"""Which hosts can be dialled: each is dialled back when it joins, and again at intervals."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.directory.events import HostTested
from cubecast.errors import AddressError, DirectoryError

DIAL_BACK_INTERVAL_S = 60.0
"""Hosts are dialled back once in this time, s."""
DIAL_BACKS_MAX = 64
"""Maximum number of hosts dialled back at the same time, each with a socket: 1000 hidden hosts take 15 s (0.9 s each), and
an ordinary limit of 1024 open files leaves most of them to requests."""
DialBack = Callable[[str], Awaitable[bool]]


class DialBacks:
    """Dials hosts back, and reports to the engine."""

    def __init__(
        self, engine: DirectoryEngine, handle: Callable[[HostTested], object], dial_back: DialBack | None
    ) -> None:
        """Nobody is dialled yet.

        Args:
            handle: passes an event to the engine.
            dial_back: finds out whether a host can be dialled at an address; without it every host counts as reachable.
        """
        self._engine = engine
        self._handle = handle
        self._dial_back = dial_back
        self._joining = asyncio.Semaphore(DIAL_BACKS_MAX)
        """Held by each join that dials its host back: so many more sockets at most."""

    async def joining(self, address: str) -> bool:
        """Whether a host that is about to join can be dialled."""
        async with self._joining:
            return await self._reachable(address)

    async def run(self, stopping: asyncio.Event) -> None:
        """Dials every host back at intervals, until stopped: a NAT or firewall may have changed."""
        while not stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), DIAL_BACK_INTERVAL_S)
            await self.dial_all(stopping)

    async def dial_all(self, stopping: asyncio.Event) -> None:
        """Dials every host back once, DIAL_BACKS_MAX at a time; a host that has moved or left meanwhile keeps its state."""
        remaining = iter(list(self._engine.members))

        async def dial() -> None:
            for host in remaining:
                member = self._engine.members.get(host)
                if member is None or stopping.is_set():
                    continue
                address = member.record.address
                reachable = await self._reachable(address)
                now = self._engine.members.get(host)
                if now is not None and now.record.address == address:
                    with suppress(
                        DirectoryError
                    ):  # the store failed; the caller that runs the super-node has the reason
                        self._handle(HostTested(host, reachable))

        await asyncio.gather(*(dial() for _ in range(DIAL_BACKS_MAX)))

    async def _reachable(self, address: str) -> bool:
        if self._dial_back is None:
            return True
        try:
            return await self._dial_back(address)
        except AddressError:
            return False
