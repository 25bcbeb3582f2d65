"""Joins frames with their timing records, which arrive separately and may be late, duplicated or lost."""

import asyncio
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field

from cubecast.host.channel.records import FrameRecord

RECORDS_MAX = 8192
"""Maximum number of timing records that wait for their frames: bounds memory; the oldest are dropped first."""
SEEN_MAX = 4096
"""Maximum number of frames of a track whose times are stored, to recognise those that are sent again after a change of
parents. A smaller one would deliver some of them twice."""


@dataclass(slots=True)
class FrameJoiner:
    """Timing records that wait for their frames."""

    records: OrderedDict[tuple[int, int], FrameRecord] = field(default_factory=OrderedDict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    missed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set after a timing-record timeout; later frames do not wait until records arrive again."""

    def ahead(self, track: int, next_number: int | None) -> bool:
        """Whether there are records of frames of a track that have not arrived."""
        return self.newest(track, next_number) is not None

    def newest(self, track: int, next_number: int | None) -> FrameRecord | None:
        """The last of these records."""
        ahead = (r for r in self.records.values() if r.track == track and r.number >= (next_number or 0))
        return max(ahead, key=lambda record: record.number, default=None)

    def add(self, record: FrameRecord) -> None:
        """Adds a record."""
        self.missed.clear()
        self.records[record.track, max(0, record.pts_us)] = record  # MoQ carries no negative time
        while len(self.records) > RECORDS_MAX:
            self.records.popitem(last=False)
        self.arrived.set()

    async def take(self, track: int, pts_us: int, doubt: float, until: float) -> FrameRecord | None:
        """Waits for the record of a frame; None if it does not arrive.

        Args:
            doubt: time of the loop's clock at which `missed` is set, so that the timing track is subscribed to again.
            until: the same, at which waiting ends. A frame that arrives while `missed` is set does not wait.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() if self.missed.is_set() else until
        while True:
            record = self.records.pop((track, pts_us), None)
            if record is not None:
                return record
            now = loop.time()
            if now >= doubt or now >= until:
                self.missed.set()
            if now >= until:
                return None
            self.arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.arrived.wait(), max(0.001, (doubt if now < doubt else until) - now))


@dataclass(slots=True)
class TrackProgress:
    """The position up to which one track has been read."""

    seen: OrderedDict[int, None] = field(default_factory=OrderedDict)
    next_number: int | None = None
    group: int | None = None
    """The newest group delivered; None before the first."""
    reopened: int = 0
    """Subscriptions in a row that brought no frame."""

    def is_new(self, pts_us: int) -> bool:
        """Whether a frame was not delivered yet; marks it as delivered."""
        if pts_us in self.seen:
            return False
        self.seen[pts_us] = None
        while len(self.seen) > SEEN_MAX:
            self.seen.popitem(last=False)
        return True

    def forget(self, pts_us: int) -> None:
        """Marks a frame as not delivered."""
        self.seen.pop(pts_us, None)

    def passed(self, record: FrameRecord) -> None:
        """Records that a frame was delivered in order."""
        self.next_number = max(self.next_number or 0, record.number + 1)
        self.group = max(self.group or 0, record.group)
