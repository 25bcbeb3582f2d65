"""The changes that wait to be pushed to one host over its open stream."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from cubecast.engine.directory.events import Advise, AskProbes, Assign, PushPlacement
from cubecast.engine.protocol.http_bodies import Pushed
from cubecast.engine.protocol.job_records import Job
from cubecast.engine.protocol.records import Advice, HostRecord, Placement
from cubecast.types import ChannelName, HostId

PROBES_MAX = 16
"""Maximum number of hosts that one push asks a host to measure: each probe is a handshake. The latest requests are kept."""

NOTHING = Pushed()
"""A push without content."""


@dataclass(slots=True)
class Outbox:
    """Keeps only the latest of each kind, so its size is bounded even if the host reads slowly."""

    placed: bool = False
    """Whether the host's placement may have changed."""
    version: int | None = None
    """Of the placement that was pushed last over this stream."""
    advice: dict[ChannelName, Advice] = field(default_factory=dict)
    probes: dict[HostId, HostRecord] = field(default_factory=dict)
    jobs: tuple[Job, ...] | None = None
    """All jobs of the host; None while they have not changed."""
    filled: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, effect: PushPlacement | Advise | AskProbes | Assign) -> None:
        """Adds to the next push."""
        match effect:
            case PushPlacement():
                self.placed = True
            case Advise(_, advice):
                self.advice[advice.channel] = advice
            case AskProbes(_, others):
                self.probes |= {other.host: other for other in others}
                for host in list(self.probes)[:-PROBES_MAX]:
                    del self.probes[host]
            case Assign(_, jobs):
                self.jobs = jobs
        self.filled.set()

    def take(self, placement: Callable[[], Placement]) -> Pushed | None:
        """Empties the outbox.

        Args:
            placement: gives the host's placement now; called if it may have changed, and pushed if it has.

        Returns:
            The next push; None when there is nothing to push.
        """
        if not self.filled.is_set():
            return None
        placed = placement() if self.placed else None
        if placed is not None and placed.version == self.version:
            placed = None
        elif placed is not None:
            self.version = placed.version
        pushed = Pushed(placed, tuple(self.advice.values()), tuple(self.probes.values()), self.jobs)
        self.placed, self.jobs = False, None
        self.advice.clear()
        self.probes.clear()
        self.filled.clear()
        return None if pushed == NOTHING else pushed
