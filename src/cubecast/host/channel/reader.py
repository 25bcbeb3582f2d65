"""The subscriber's side of a channel (cubecast.host.channel.tracks): frames in order, joined with timing records."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import moq

from cubecast.engine.host.config import DEFAULT
from cubecast.errors import CubecastError, RemoteError
from cubecast.frames import EncodedFrame, TrackFormat
from cubecast.host.channel.description import parse_description
from cubecast.host.channel.frame_joiner import TrackProgress
from cubecast.host.channel.gap_fill import FILL_GROUPS_MAX, fetch_groups
from cubecast.host.channel.records import FrameRecord
from cubecast.host.channel.timing import REOPEN_PAUSE_S, STUCK_S, TimingReader
from cubecast.host.channel.tracks import (
    BROADCAST,
    MEDIA_PRIORITY,
    WARM_UP,
    CopyCount,
    read_format,
)
from cubecast.host.channel.verification import Fault, Rejections, Verification
from cubecast.host.tasks import Tasks

REPAIR_S = DEFAULT.repair_s + 1.0
"""Time, s, beyond its bound for which a subscriber waits for a late group before it is skipped: that of a repair."""
VERDICT_S = REPAIR_S + 1.0
"""Longest time, s, that a broken stream waits for the overlay to find another parent, or to report which host was lost."""
QUEUE_MAX = 4096
"""Maximum number of frames that wait for the consumer: bounds memory; the reader pauses while the queue is full."""
REOPENS_MAX = 80
"""Maximum number of subscriptions in a row to a track that bring no frame; after them the track counts as broken. They
take at least 4 s (REOPEN_PAUSE_S each)."""
END_S = 0.05
"""Longest time, s, by which the EndRecord may arrive after the end of a track."""
FORMAT_PAUSE_S = 0.25
"""Pause, s, before the channel's format is read again after one that the publisher has not signed."""
LAST_S = 0.3
"""Time, s, after the EndRecord at which frames that have not arrived are fetched."""


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """A frame at a subscriber, as the publisher sent it."""

    frame: EncodedFrame
    arrived_s: float
    number: int
    captured_s: float


class ChannelReader:
    """Reads one channel from an origin: `open`, then `start`, then iterate `frames`; `stop` at the end."""

    def __init__(
        self,
        origin: moq.OriginProducer,
        bound_ms: float,
        copies: CopyCount,
        clock: Callable[[], float],
        verification: Verification,
    ) -> None:
        self._origin = origin
        self._verification = verification
        self._copies = copies
        self._clock = clock
        self._bound_us = round(bound_ms * 1000)
        self._subscription = moq.Subscription(
            priority=MEDIA_PRIORITY, max_age_us=self._bound_us + round(REPAIR_S * 1_000_000)
        )
        self._recent = moq.Subscription(priority=MEDIA_PRIORITY, max_age_us=self._bound_us)
        """Finds the group that a new subscriber begins with. `_subscription` would begin with ten seconds of old frames,
        since its max_age includes the time for repairs."""
        self._queue: asyncio.Queue[ReceivedFrame | None] = asyncio.Queue(QUEUE_MAX)
        self._broadcast: moq.BroadcastConsumer | None = None
        self._running: list[asyncio.Task[None]] = []
        self._reading = 0
        self._broken: dict[int, str] = {}
        self._verdict: asyncio.Future[CubecastError] = asyncio.get_running_loop().create_future()
        self._timing = TimingReader(self._current, self._renew, self._subscription, verification, self._verdict.done)
        self.tracks: tuple[TrackFormat, ...] = ()
        self.replayed = 0
        """Number of frames that arrived again after a change of parents, and were dropped."""
        self.filled = 0
        """Number of frames that were fetched, since a parent died before it had sent them."""

    @property
    def rejections(self) -> Rejections:
        """What was rejected so far, by kind."""
        return self._verification.rejections

    @property
    def published(self) -> tuple[int, ...] | None:
        """Frames that the publisher wrote, by track; known once the channel has ended."""
        return self._timing.end.frames if self._timing.end is not None else None

    @property
    def malformed(self) -> int:
        """Number of timing records that were dropped: not decodable, or with numbers that cannot be."""
        return self._timing.malformed

    async def open(self) -> None:
        """Waits for the broadcast to be announced, and for a format of it that the publisher has signed.

        Raises:
            RemoteError: what arrives is not a cubecast channel.
        """
        try:
            while not await self._read_format():
                pass
        except moq.Error as error:
            raise RemoteError(f"the channel cannot be opened: {error}") from error

    async def _read_format(self) -> bool:
        """Reads the format; False, after a pause, if it is not the publisher's."""
        await self._renew()
        description = parse_description(await read_format(self._current()))
        accepted = await self._verification.accepts(description.publication)
        if not accepted or not self._verification.format(description.signature, description.content):
            await asyncio.sleep(FORMAT_PAUSE_S)
            return False
        self.tracks = description.tracks
        return True

    def start(self, tasks: Tasks) -> None:
        """Starts tasks that read every track."""
        self._reading = len(self.tracks)
        self._running = [*self._timing.start(tasks), tasks.create_task(self._read_warm_up(self._current()))]
        self._running += [tasks.create_task(self._read(n)) for n in range(len(self.tracks))]

    def stop(self) -> None:
        """Stops reading; `frames` ends."""
        for task in self._running:
            task.cancel()
        self._reading = 0
        self._wake()

    def fail(self, error: CubecastError) -> None:
        """The overlay reports that the stream is lost: `frames` raises this."""
        if not self._verdict.done():
            self._verdict.set_result(error)
        self._wake()

    async def frames(self) -> AsyncGenerator[ReceivedFrame]:
        """Frames of all tracks as they arrive, until the publisher ends the channel or `stop`.

        Raises:
            CubecastError: what `fail` was called with.
            RemoteError: the stream broke and the overlay did not report why.
        """
        while self._reading or not self._queue.empty():
            item = await self._queue.get()
            if item is not None:
                yield item
            elif self._verdict.done():
                raise self._verdict.result()
        if self._broken:
            with suppress(TimeoutError):
                raise await asyncio.wait_for(asyncio.shield(self._verdict), VERDICT_S)
            raise RemoteError(next(iter(self._broken.values())))

    def _wake(self) -> None:
        with suppress(asyncio.QueueFull):  # then `frames` is awake anyway
            self._queue.put_nowait(None)

    async def _read(self, number: int) -> None:
        """Reads one track to its end; after a break it continues once the overlay has found another parent.

        After a change of parents the transport may send the current group again from its start; frames that were
        delivered already are dropped here.
        """
        progress = TrackProgress()
        while progress.reopened < REOPENS_MAX:
            try:
                await self._read_once(number, progress)
                if await self._over():
                    await self._fill_end(number, progress)
                    self._broken.pop(number, None)
                    break
                self._broken[number] = f"track {number} ended before the channel"
            except moq.Error as error:
                self._broken[number] = f"track {number} broke: {error}"
            progress.reopened += 1
            if self._complete(number, progress):
                self._broken.pop(number, None)
                break
            if not await self._reopen():
                break
            if progress.reopened > 1:
                self._timing.doubted.set()
                await self._fill_ahead(number, progress)
        self._reading = max(0, self._reading - 1)
        self._wake()

    async def _read_once(self, number: int, progress: TrackProgress) -> None:
        """Reads one subscription until it ends, breaks, or stalls while timing records of more frames arrive.

        The tracks of a channel that has ended stay open for a while: the publisher's count of frames shows whether all
        have arrived.
        """
        media = self._frames(number, progress)
        next_frame = asyncio.ensure_future(_next(media))
        ended = asyncio.ensure_future(self._timing.over.wait())
        try:
            while not self._complete(number, progress):
                over = ended.done()
                waiting, patience_s = ((next_frame,), LAST_S) if over else ((next_frame, ended), STUCK_S)
                await asyncio.wait(waiting, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                if next_frame.done():
                    raw = next_frame.result()
                    if raw is None:
                        return
                    next_frame = asyncio.ensure_future(_next(media))
                    if raw.payload:  # else it is the marker at the end of a group
                        await self._deliver(number, raw, progress)
                elif over or (not ended.done() and self._timing.ahead(number, progress.next_number)):
                    return
                elif not ended.done():
                    self._timing.doubted.set()
        finally:
            for future in (next_frame, ended):
                future.cancel()
                with suppress(asyncio.CancelledError, moq.Error):
                    await future
            await media.aclose()

    async def _frames(self, number: int, progress: TrackProgress) -> AsyncGenerator[moq.MediaFrame]:
        """The frames of one subscription, from the first group on, or from the group at which reading stopped."""
        with ExitStack() as finding, ExitStack() as reading:
            if progress.group is None:
                recent = await self._current().subscribe_track(str(number), self._recent)
                finding.callback(recent.cancel)
                group = await recent.next_group()
                progress.group = None if group is None else group.sequence
            known = self._subscription
            wanted = moq.Subscription(priority=known.priority, max_age_us=known.max_age_us, group_start=progress.group)
            media = await self._current().subscribe_media(str(number), moq.Container.LEGACY(), wanted)
            reading.callback(media.cancel)
            async for raw in media:
                finding.close()  # not sooner: were it the track's only subscription, its group would stay incomplete
                yield raw

    def _complete(self, number: int, progress: TrackProgress) -> bool:
        """Whether the channel has ended and every frame of a track was delivered."""
        frames = self.published or ()
        return number < len(frames) and (progress.next_number or 0) >= frames[number]

    async def _over(self) -> bool:
        """Whether the publisher has ended the channel; the EndRecord may arrive a moment after the end of a track."""
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await self._timing.over.wait()
        return self._timing.over.is_set()

    async def _deliver(self, number: int, raw: moq.MediaFrame, progress: TrackProgress) -> None:
        """Queues a frame, after fetching those that should have arrived before it."""
        if not progress.is_new(raw.timestamp_us):
            self.replayed += 1
            return
        arrived_s = self._clock()
        self._copies.into_python += 1
        self._broken.pop(number, None)
        record = await self._timing.record(number, raw.timestamp_us)
        if record is None:
            progress.forget(raw.timestamp_us)
            self._verification.reject(Fault.UNSIGNED)
            return
        progress.reopened = 0
        if progress.next_number is not None and record.number > progress.next_number:
            await self._fill(number, progress, record.group, record)
        progress.passed(record)
        if self._verification.frame(record, raw.payload):
            await self._queue.put(_join(raw, record, arrived_s))

    async def _fill(self, number: int, progress: TrackProgress, last: int, until: FrameRecord | None = None) -> None:
        """Fetches the frames that were skipped up to a group, or up to a frame of it that has arrived."""
        groups = range(max(progress.group or 0, last - FILL_GROUPS_MAX + 1), last + 1)
        until_pts_us = until.pts_us if until is not None else None
        async for raw in fetch_groups(self._current, number, groups, until_pts_us):
            if not progress.is_new(raw.timestamp_us):
                continue
            record = await self._timing.record(number, raw.timestamp_us)
            if record is None or (until is not None and record.number > until.number):
                progress.forget(raw.timestamp_us)  # without a record, or it is delivered later, in order
                continue
            self._copies.into_python += 1
            if self._verification.frame(record, raw.payload):
                self.filled += 1
                await self._queue.put(_join(raw, record, self._clock()))

    async def _fill_ahead(self, number: int, progress: TrackProgress) -> None:
        """Fetches the frames whose timing records have arrived, if a second subscription in a row brought none.

        A group that the host below has in part, and never gets to its end, would hold up the track for good.
        """
        newest = self._timing.newest(number, progress.next_number)
        if newest is not None:
            progress.group = newest.group if progress.group is None else progress.group
            await self._fill(number, progress, newest.group, newest)
            progress.group, progress.next_number = newest.group, newest.number

    async def _fill_end(self, number: int, progress: TrackProgress) -> None:
        """Fetches the last frames of a channel that has ended, if they did not arrive."""
        groups = self._timing.end.groups if self._timing.end is not None else ()
        if number < len(groups) and not self._complete(number, progress):
            await self._fill(number, progress, groups[number])

    async def _reopen(self) -> bool:
        """Waits for the broadcast to be announced again after a break; False if it is not, or the stream is given up."""
        if self._verdict.done():
            return False
        await asyncio.sleep(REOPEN_PAUSE_S)
        with suppress(moq.Error, TimeoutError):
            async with asyncio.timeout(VERDICT_S):
                await self._renew()
                return True
        if self._timing.over.is_set():  # no host has the rest; the publisher's count shows what is missing
            self._broken.clear()
        return False

    def _current(self) -> moq.BroadcastConsumer:
        """The broadcast as it is announced now."""
        assert self._broadcast is not None, "open() first"
        return self._broadcast

    async def _renew(self) -> None:
        """Waits until the broadcast is announced."""
        self._broadcast = await self._origin.consume().announced_broadcast(BROADCAST)

    async def _read_warm_up(self, broadcast: moq.BroadcastConsumer) -> None:
        with suppress(moq.Error):
            track = await broadcast.subscribe_track(WARM_UP, moq.Subscription(max_age_us=self._subscription.max_age_us))
            group = await track.next_group()
            while group is not None and await group.read_frame() is not None:
                pass  # padding: that it crossed the path was its purpose
            track.cancel()


async def _next(media: AsyncGenerator[moq.MediaFrame]) -> moq.MediaFrame | None:
    """The next frame; None at the end. A coroutine, so that a task can be made of it."""
    async for raw in media:
        return raw
    return None


def _join(raw: moq.MediaFrame, record: FrameRecord, arrived_s: float) -> ReceivedFrame:
    header = (record.track, record.pts_us, record.dts_us, record.duration_us, record.keyframe)
    return ReceivedFrame(EncodedFrame(*header, raw.payload), arrived_s, record.number, record.captured_s)
