"""The subscriber's side of the timing track: each frame's record, and the end of the channel."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import moq
import msgspec

from cubecast.engine.protocol.ranges import INTEGER_MAX
from cubecast.errors import RemoteError
from cubecast.host.channel.frame_joiner import FrameJoiner
from cubecast.host.channel.gap_fill import FILL_GROUPS_MAX, FILL_PAUSE_S, FILL_S
from cubecast.host.channel.tracks import (
    TIMING,
    TIMING_GROUP,
    EndRecord,
    FrameRecord,
    parse_end,
    read_format,
    timing_records,
)
from cubecast.host.tasks import Tasks

JOIN_S = 0.5
"""Longest time, s, that a frame waits for its timing record; then it is delivered without one."""
ASK_S = 0.5
"""Time limit, s, for reading the channel's format, which shows whether the channel has ended."""
STUCK_S = 0.8
"""Time, s, after which a track without a frame is subscribed to again, if its timing records continue to arrive."""
JUMP_MAX = 1_000_000
"""Greatest number of frames of a track that may be missing between two records, or before the end: 15 s, after which a
stream is given up, have far fewer. Numbers beyond it are not believed, since losses are counted from them."""
REOPEN_PAUSE_S = 0.05
"""Pause, s, before a track is subscribed to again."""


class TimingReader:
    """Reads the timing track; groups it has missed are fetched."""

    def __init__(
        self,
        broadcast: Callable[[], moq.BroadcastConsumer],
        subscription: moq.Subscription,
        is_lost: Callable[[], bool],
    ) -> None:
        """Reads nothing before `start`.

        Args:
            broadcast: the channel's, as it is announced now.
            is_lost: whether the overlay has given the stream up.
        """
        self._broadcast = broadcast
        self._subscription = subscription
        self._is_lost = is_lost
        self._joiner = FrameJoiner()
        self._next: int | None = None
        self._newest: dict[int, int] = {}
        """By track: the greatest number of a frame so far."""
        self.malformed = 0
        """Records that were dropped: not decodable, or with numbers that cannot be."""
        self.over = asyncio.Event()
        """Set once the publisher has ended the channel."""
        self.doubted = asyncio.Event()
        """Set when a track stalls or ends repeatedly although no timing record says that the channel has ended."""
        self.end: EndRecord | None = None
        """The publisher's counts at the end."""

    def start(self, tasks: Tasks) -> list[asyncio.Task[None]]:
        """Starts the tasks that read."""
        return [tasks.create_task(self._read()), tasks.create_task(self._look_for_end())]

    async def record(self, track: int, pts_us: int) -> FrameRecord | None:
        """The timing record of a frame that has arrived; None when it does not arrive in time."""
        return await self._joiner.take(track, pts_us, asyncio.get_running_loop().time() + JOIN_S)

    def ahead(self, track: int, next_number: int | None) -> bool:
        """Whether there are timing records of frames of a track that have not arrived."""
        return self._joiner.ahead(track, next_number)

    def newest(self, track: int, next_number: int | None) -> FrameRecord | None:
        """The last of these timing records."""
        return self._joiner.newest(track, next_number)

    async def _read(self) -> None:
        """Reads until the end. Frames without a record are delivered too, so a break here is not reported."""
        while not self.over.is_set() and not self._is_lost():
            once = asyncio.ensure_future(self._read_once())
            missed = asyncio.ensure_future(self._joiner.missed.wait())
            try:
                await asyncio.wait((once,), timeout=STUCK_S)
                await asyncio.wait((once, missed), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for waiting in (once, missed):
                    waiting.cancel()
                    with suppress(asyncio.CancelledError, moq.Error):
                        await waiting
            await asyncio.sleep(REOPEN_PAUSE_S)

    async def _read_once(self) -> None:
        track = await self._broadcast().subscribe_track(TIMING, self._subscription)
        reading: set[asyncio.Task[None]] = set()
        try:
            async for group in track.groups_as_arrived():
                if self._next is not None:
                    for missed in range(max(self._next, group.sequence - FILL_GROUPS_MAX), group.sequence):
                        refetching = asyncio.ensure_future(self._fetch(missed))
                        reading.add(refetching)
                        refetching.add_done_callback(reading.discard)
                self._next = max(self._next or 0, group.sequence + 1)
                task = asyncio.ensure_future(self._read_group(group))
                reading.add(task)
                task.add_done_callback(reading.discard)
            if reading:
                await asyncio.wait(reading)
        finally:
            for task in reading:
                task.cancel()

    async def _read_group(self, group: moq.GroupConsumer) -> None:
        read, broke = 0, True
        with suppress(moq.Error):
            async for raw in group:
                self._take(raw.payload)
                read += 1
            broke = False
        if broke or (read < TIMING_GROUP and not self.over.is_set()):  # the parent died while it sent the group
            await self._fetch(group.sequence)

    async def _fetch(self, sequence: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(FILL_S):
                while True:
                    try:
                        async for raw in await self._broadcast().fetch_group(TIMING, sequence):
                            self._take(raw.payload)
                    except moq.Error:
                        await asyncio.sleep(FILL_PAUSE_S)
                    else:
                        return

    async def _look_for_end(self) -> None:
        """Whenever `doubted` is set, reads the channel's format for the end: the timing track itself may be stuck."""
        while not self.over.is_set() and not self._is_lost():
            await self.doubted.wait()
            self.doubted.clear()
            with suppress(moq.Error, TimeoutError, RemoteError):
                async with asyncio.timeout(ASK_S):
                    self._take_end(parse_end(await read_format(self._broadcast())))

    def _take(self, payload: bytes) -> None:
        try:
            record = timing_records.decode(payload)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            self.malformed += 1  # its frame is delivered without a record
            return
        if isinstance(record, EndRecord):
            self._take_end(record)
        elif record.group > record.number or record.number > self._greatest(record.track):
            self.malformed += 1
        else:
            self._newest[record.track] = max(record.number, self._newest.get(record.track, 0))
            self._joiner.add(record)

    def _greatest(self, track: int) -> int:
        """The greatest number that the next frame of a track may have."""
        newest = self._newest.get(track)
        return INTEGER_MAX if newest is None else newest + JUMP_MAX

    def _take_end(self, end: EndRecord | None) -> None:
        if end is None:
            return
        if any(frames > self._greatest(track) + 1 for track, frames in enumerate(end.frames)):
            self.malformed += 1
            return
        self.end = end
        self.over.set()
