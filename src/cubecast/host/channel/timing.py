"""The subscriber's side of the timing track: each frame's record, and the end of the channel."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import moq
import msgspec

from cubecast.engine.protocol.ranges import INTEGER_MAX
from cubecast.errors import RemoteError
from cubecast.host.channel.description import parse_description
from cubecast.host.channel.frame_joiner import FrameJoiner
from cubecast.host.channel.gap_fill import FILL_GROUPS_MAX, FILL_PAUSE_S, FILL_S
from cubecast.host.channel.records import (
    BATCH_FRAMES_MAX,
    BATCH_S,
    BatchContent,
    BatchEnd,
    BatchStart,
    EndRecord,
    FrameRecord,
    decode_record,
)
from cubecast.host.channel.tracks import TIMING, read_format
from cubecast.host.channel.verification import Fault, Verification
from cubecast.host.tasks import Tasks

DOUBT_S = 0.5
"""Longest time, s, that a frame waits for its timing record before the timing track is subscribed to again."""
JOIN_S = 1.5
"""Longest time, s, that a frame waits for its timing record; then it is lost, and the parent that sends none is left."""
SIGNED_S = BATCH_S + 0.5
"""Time, s, after which a batch without a signature is fetched: the publisher signs it within BATCH_S."""
RENEW_S = 1.0
"""Longest wait, s, for the broadcast to be announced before it is tried as it was."""
UNSIGNED_MAX = 8
"""Number of times a batch is fetched that ends without a signature, every FILL_PAUSE_S; then the parent has left it out."""
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
        renew: Callable[[], Awaitable[None]],
        subscription: moq.Subscription,
        verification: Verification,
        is_lost: Callable[[], bool],
    ) -> None:
        """Reads nothing before `start`.

        Args:
            broadcast: the channel's, as it was announced last.
            renew: waits until it is announced, and renews it.
            verification: checks the records.
            is_lost: whether the overlay has given the stream up.
        """
        self._broadcast = broadcast
        self._renew = renew
        self._subscription = subscription
        self._verification = verification
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
        now = asyncio.get_running_loop().time()
        return await self._joiner.take(track, pts_us, now + DOUBT_S, now + JOIN_S)

    def ahead(self, track: int, next_number: int | None) -> bool:
        """Whether there are timing records of frames of a track that have not arrived."""
        return self._joiner.ahead(track, next_number)

    def newest(self, track: int, next_number: int | None) -> FrameRecord | None:
        """The last of these timing records."""
        return self._joiner.newest(track, next_number)

    async def _read(self) -> None:
        """Reads until the end. A break here is not reported: the media tracks break, too, or the parent is left."""
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
            with suppress(moq.Error, TimeoutError):  # the media tracks may be waiting for records, and do not renew it
                async with asyncio.timeout(RENEW_S):
                    await self._renew()

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
        batch = _Batch(group.sequence)
        with suppress(moq.Error, TimeoutError):
            async with asyncio.timeout(SIGNED_S):
                async for raw in group:
                    await self._take(batch, raw.payload)
        if not batch.checked:  # the parent died while it sent the group, or leaves the signature out
            await self._fetch(group.sequence, batch.content.records)

    async def _fetch(self, sequence: int, read: int = 0) -> None:
        """Requests a batch until it arrives with its signature.

        Args:
            read: number of its records that have arrived.
        """
        unsigned = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(FILL_S):
                while unsigned < UNSIGNED_MAX:
                    batch = _Batch(sequence)
                    try:
                        async for raw in await self._broadcast().fetch_group(TIMING, sequence):
                            await self._take(batch, raw.payload)
                    except moq.Error:
                        pass
                    else:
                        unsigned += 1
                    read = max(read, batch.content.records)
                    if batch.checked:
                        return
                    await asyncio.sleep(FILL_PAUSE_S)
        if unsigned == UNSIGNED_MAX:
            self._verification.reject(Fault.UNSIGNED, max(1, read))
        elif read and not self._is_lost():
            self._verification.cut_off(read)

    async def _look_for_end(self) -> None:
        """Whenever `doubted` is set, reads the channel's format for the end: the timing track itself may be stuck."""
        while not self.over.is_set() and not self._is_lost():
            await self.doubted.wait()
            self.doubted.clear()
            with suppress(moq.Error, TimeoutError, RemoteError):
                async with asyncio.timeout(ASK_S):
                    await self._take_description(await read_format(self._broadcast()))

    async def _take_description(self, value: object) -> None:
        try:
            description = parse_description(value)
        except RemoteError:
            return
        accepted = await self._verification.accepts(description.publication)
        if accepted and self._verification.format(description.signature, description.content):
            self._take_end(description.end)

    async def _take(self, batch: "_Batch", payload: bytes) -> None:
        """Uses a record of a batch; malformed ones, and those of another publication, have no effect."""
        if batch.checked:
            return
        try:
            record = decode_record(payload)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            self.malformed += 1
            batch.content.add(payload)
            return
        if isinstance(record, BatchStart):
            batch.accepted = await self._verification.accepts(record.publication)
            batch.checked = not batch.accepted
        elif isinstance(record, BatchEnd):
            batch.checked = True
            self._verification.batch(batch.content, record)
        elif batch.accepted and batch.content.records <= BATCH_FRAMES_MAX:
            batch.content.add(payload)
            if isinstance(record, FrameRecord):
                self._add(record)
            elif self._verification.end(record):
                self._take_end(record)

    def _add(self, record: FrameRecord) -> None:
        if record.group > record.number or record.number > self._greatest(record.track):
            self.malformed += 1
            return
        self._newest[record.track] = max(record.number, self._newest.get(record.track, 0))
        self._joiner.add(record)

    def _take_end(self, end: EndRecord | None) -> None:
        if end is None:
            return
        if any(frames > self._greatest(track) + 1 for track, frames in enumerate(end.frames)):
            self.malformed += 1
            return
        self.end = end
        self.over.set()

    def _greatest(self, track: int) -> int:
        """The greatest number that the next frame of a track may have."""
        newest = self._newest.get(track)
        return INTEGER_MAX if newest is None else newest + JUMP_MAX


class _Batch:
    """One batch while it is read."""

    def __init__(self, sequence: int) -> None:
        self.content = BatchContent(sequence)
        self.accepted = False
        """Whether it is of the right publication."""
        self.checked = False
        """Whether its signature was checked, or need not be."""
