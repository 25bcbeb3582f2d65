"""The rights of the hosts that the super-node has issued credentials to, and their end."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

from cubecast.errors import TokenError
from cubecast.supernode.access.gate import Gate
from cubecast.supernode.clock import SupernodeClock
from cubecast.tokens.authority import Bearer
from cubecast.types import NO_CHANNEL, ChannelName, HostId

HOSTS_MAX = 65_536
"""Maximum number of hosts whose rights are followed; beyond it those heard from longest ago are forgotten. A host that has
left is followed too: it may still receive over a session that it opened before."""


class HostRights:
    """Follows which rights were issued, and makes known which have ended."""

    def __init__(self, gate: Gate, clock: SupernodeClock) -> None:
        self._gate = gate
        self._clock = clock
        self._bearers: OrderedDict[HostId, Bearer] = OrderedDict()
        """As each host last showed itself, with the sources of its jobs; the one heard from longest ago first."""

    def credential(self, bearer: Bearer, sources: Iterable[ChannelName]) -> str:
        """A fresh credential for a host.

        Args:
            sources: of the jobs that it has; what it might receive only for jobs that it no longer has, it may not any more.
        """
        jobs = tuple(dict.fromkeys(sources))
        before = self._bearers.pop(bearer.host, None)
        if before is not None and before.key == bearer.key:
            own = bearer.permission.with_jobs(())
            for channel in before.permission.jobs:
                if channel not in jobs and not own.may_receive(channel):
                    self._end(bearer, channel)
        current = replace(bearer, permission=bearer.permission.with_jobs(jobs))
        self._bearers[bearer.host] = current
        if len(self._bearers) > HOSTS_MAX:
            self._bearers.popitem(last=False)
        return self._gate.credential(current)

    def end_expired(self) -> list[Bearer]:
        """Ends all rights of the hosts whose join tokens have expired or were revoked; returns these hosts."""
        expired = []
        for bearer in list(self._bearers.values()):
            try:
                self._gate.check_current(bearer)
            except TokenError:
                expired.append(bearer)
                self.end(bearer)
        return expired

    def end(self, bearer: Bearer) -> None:
        """Ends all rights of a host."""
        known = self._bearers.get(bearer.host)
        if known is not None and known.key == bearer.key:
            del self._bearers[bearer.host]
        self._end(bearer, NO_CHANNEL)

    def _end(self, bearer: Bearer, channel: ChannelName) -> None:
        self._gate.revocations.end(bearer.host, bearer.key, channel, self._clock.now_s())
