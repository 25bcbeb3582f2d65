"""Which hosts can be dialled: each is dialled back when it joins, and again at intervals."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from cubecast.addresses import Scope, scope_of, scope_of_origin
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.directory.events import HostTested
from cubecast.engine.directory.state import Member
from cubecast.errors import DirectoryError, UsageError
from cubecast.supernode.reachability import FAILED_S, Claim
from cubecast.types import HostId

DIAL_BACK_INTERVAL_S = 60.0
"""Hosts are dialled back once in this time, s."""
DIAL_BACKS_MAX = 64
"""Maximum number of hosts dialled back at the same time, each with a socket: 1000 hidden hosts take 10 s (0.6 s each), and
an ordinary limit of 1024 open files leaves most of them to requests."""
TRIES = 3
"""Number of dial-backs that fail before a host that was proved counts as hidden: datagrams may be lost."""
DialBack = Callable[[Claim], Awaitable[bool]]


class DialBacks:
    """Dials hosts back, and reports to the engine."""

    def __init__(
        self, engine: DirectoryEngine, handle: Callable[[HostTested], object], dial_back: DialBack | None
    ) -> None:
        """Nobody is dialled yet.

        Args:
            handle: passes an event to the engine.
            dial_back: finds out whether a host is at its address; without it every host counts as reachable.
        """
        self._engine = engine
        self._handle = handle
        self._dial_back = dial_back
        self._joining = asyncio.Semaphore(DIAL_BACKS_MAX)
        """Held by each join that dials its host back: so many more sockets at most."""
        self._origins: dict[HostId, Scope] = {}
        """From where each host sent its last request; one that has left is forgotten with the next round."""

    def heard(self, host: HostId, origin: str) -> None:
        """A host has sent a request.

        Args:
            origin: the IP address that it came from.
        """
        self._origins[host] = scope_of_origin(origin)

    async def joining(self, host: HostId, claim: Claim, origin: str) -> bool:
        """Whether a host that is about to join is at its address; then no other host is.

        A request from elsewhere must not have this super-node dial inside its own machine or network.

        Raises:
            DirectoryError: the store failed.
        """
        if self._dial_back is None:
            return True
        if scope_of(claim.address) < scope_of_origin(origin):
            return False
        loop = asyncio.get_running_loop()
        async with self._joining:
            began_s = loop.time()
            proved = await self._dial_back(claim)
        if not proved:
            await asyncio.sleep(began_s + FAILED_S - loop.time())
            return False
        former = self._engine.host_at(claim.address)
        if former not in (None, host):
            self._handle(HostTested(former, reachable=False))
        return True

    async def run(self, stopping: asyncio.Event) -> None:
        """Dials every host back at intervals, until stopped: a NAT or firewall may have changed."""
        while not stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), DIAL_BACK_INTERVAL_S)
            await self.dial_all(stopping)

    async def dial_all(self, stopping: asyncio.Event) -> None:
        """Dials every host back, DIAL_BACKS_MAX at a time; a host that has moved or left meanwhile keeps its state."""
        members = self._engine.members
        self._origins = {host: scope for host, scope in self._origins.items() if host in members}
        remaining = iter(list(members))

        async def dial() -> None:
            for host in remaining:
                member = members.get(host)
                if member is None or stopping.is_set():
                    continue
                claim = _claim(member)
                proved = await self._proved_again(member)
                now = members.get(host)
                if now is not None and _claim(now) == claim:
                    with suppress(
                        DirectoryError
                    ):  # the store failed; the caller that runs the super-node has the reason
                        self._handle(HostTested(host, proved))

        await asyncio.gather(*(dial() for _ in range(DIAL_BACKS_MAX)))

    async def _proved_again(self, member: Member) -> bool:
        if self._dial_back is None:
            return True
        reachable = member.record.reachable
        # After a restart the origin is unknown: a host that was proved was within its address's scope.
        origin = self._origins.get(member.record.host, Scope.MACHINE if reachable else Scope.INTERNET)
        try:
            if scope_of(member.address) < origin:
                return False
        except UsageError:  # stored by an older super-node, which accepted names
            return False
        claim = _claim(member)
        for _ in range(TRIES if reachable else 1):
            if await self._dial_back(claim):
                return True
        return False


def _claim(member: Member) -> Claim:
    return Claim(member.address, member.record.fingerprint, member.record.key)
