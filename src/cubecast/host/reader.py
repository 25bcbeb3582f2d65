"""The subscriber's side of a channel's tracks (cubecast.host.tracks): frames joined with their timing records."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import moq
import msgspec

from cubecast.engine.membership import TICK_S
from cubecast.engine.parents import REPAIR_TICKS
from cubecast.errors import CubecastError, RemoteError
from cubecast.host.joining import Joiner, Progress
from cubecast.host.tasks import Tasks
from cubecast.host.tracks import (
    BROADCAST,
    FORMAT,
    MEDIA_PRIORITY,
    TIMING,
    TIMING_GROUP,
    WARM_UP,
    CopyCount,
    EndRecord,
    FrameRecord,
    parse_description,
    parse_end,
    timing_records,
)
from cubecast.media.frames import EncodedFrame, TrackFormat

REPAIR_S = REPAIR_TICKS * TICK_S + 1.0
"""Beyond its bound a subscriber waits this long for a late group before it is skipped: time for a repair."""
JOIN_S = 0.5
"""A frame waits this long for its timing record."""
VERDICT_S = REPAIR_S + 1.0
"""A broken stream waits this long for the overlay to find another parent, or to say which host was lost."""
QUEUE_MAX = 4096
REOPENS_MAX, REOPEN_PAUSE_S = 80, 0.05
END_S, LAST_S = 0.05, 0.3
"""The publisher's word that the channel is over may come so long after the end of a track, and the last frames so long
after that word, before they are fetched."""
ASK_S = 0.5
"""Whether the channel is over is asked for so long."""
STUCK_S = 0.8
"""A track without a frame for so long, while its timing records go on, is subscribed to anew."""
FILL_GROUPS_MAX, FILL_AT_ONCE, FILL_S, FILL_PAUSE_S = 1024, 128, 4.0, 0.15
"""Groups that are fetched again at most, how many at once, how long all of them may take, and the pause before one is
asked for again. A sound track has some 50 groups a second."""


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """A frame at a subscriber. `number` and `captured_s` are None when its timing record did not arrive."""

    frame: EncodedFrame
    arrived_s: float
    number: int | None
    captured_s: float | None


class ChannelReader:
    """Reads one channel from an origin: `open`, then `start`, then iterate `frames`; `stop` at the end."""

    def __init__(
        self, origin: moq.OriginProducer, bound_ms: float, copies: CopyCount, clock: Callable[[], float]
    ) -> None:
        self._origin = origin
        self._copies = copies
        self._clock = clock
        self._subscription = moq.Subscription(
            priority=MEDIA_PRIORITY, max_age_us=round(bound_ms * 1000 + REPAIR_S * 1_000_000)
        )
        self._queue: asyncio.Queue[ReceivedFrame | None] = asyncio.Queue(QUEUE_MAX)
        self._joiner = Joiner()
        self._broadcast: moq.BroadcastConsumer | None = None
        self._running: list[asyncio.Task[None]] = []
        self._reading = 0
        self._broken: dict[int, str] = {}
        self._told_end = asyncio.Event()
        self._doubted = asyncio.Event()
        """A track stands still or ends again and again, and no timing record says that the channel has."""
        self._timing_next: int | None = None
        self._verdict: asyncio.Future[CubecastError] = asyncio.get_running_loop().create_future()
        self.tracks: tuple[TrackFormat, ...] = ()
        self.replayed = 0
        """Frames that came again after a change of parents, and were dropped."""
        self.filled = 0
        """Frames that were fetched afterwards, for a parent died before it had sent them."""
        self._end: EndRecord | None = None

    @property
    def published(self) -> tuple[int, ...] | None:
        """Frames the publisher says it wrote, by track; known once the channel has ended."""
        return self._end.frames if self._end is not None else None

    async def open(self) -> None:
        """Waits for the broadcast to arrive and learns its tracks.

        Raises:
            RemoteError: what arrives is no cubecast channel.
        """
        try:
            self._broadcast = await self._origin.consume().announced_broadcast(BROADCAST)
            snapshots = await self._broadcast.subscribe_json_snapshot(FORMAT)
            self.tracks = parse_description(await anext(snapshots))
            snapshots.cancel()
        except StopAsyncIteration:
            raise RemoteError("the channel ended before it told its format") from None
        except moq.Error as error:
            raise RemoteError(f"the channel cannot be opened: {error}") from error

    def start(self, tasks: Tasks) -> None:
        """Begins to read every track."""
        assert self._broadcast is not None, "open() first"
        self._reading = len(self.tracks)
        self._running = [tasks.create_task(self._read_timing()), tasks.create_task(self._look_for_end())]
        self._running.append(tasks.create_task(self._read_warm_up(self._broadcast)))
        self._running += [tasks.create_task(self._read(n)) for n in range(len(self.tracks))]

    def stop(self) -> None:
        """Stops reading; `frames` ends."""
        for task in self._running:
            task.cancel()
        self._reading = 0
        self._wake()

    def fail(self, error: CubecastError) -> None:
        """The overlay knows that the stream is lost: `frames` raises this."""
        if not self._verdict.done():
            self._verdict.set_result(error)
        self._wake()

    async def frames(self) -> AsyncGenerator[ReceivedFrame]:
        """Frames of all tracks as they arrive, until the publisher ends the channel or `stop`.

        Raises:
            CubecastError: what `fail` was given.
            RemoteError: the stream broke and the overlay did not say why.
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
        """Reads one track to its end; a stream that broke is read on, when the overlay has found another parent.

        After a change of parents the transport may send the group under way again from its start; what was delivered
        already is dropped here.
        """
        progress = Progress()
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
                self._doubted.set()
        self._reading = max(0, self._reading - 1)
        self._wake()

    async def _read_once(self, number: int, progress: Progress) -> None:
        """Reads one subscription until it ends, breaks, or stands still while the publisher tells of more frames.

        The tracks of a channel that is over stay open for a while: the publisher's count tells that all frames came.
        """
        assert self._broadcast is not None, "open() first"
        media = await self._broadcast.subscribe_media(str(number), moq.Container.LEGACY(), self._subscription)
        coming = asyncio.ensure_future(anext(media, None))
        told = asyncio.ensure_future(self._told_end.wait())
        try:
            while not self._complete(number, progress):
                over = told.done()
                waiting, patience_s = ((coming,), LAST_S) if over else ((coming, told), STUCK_S)
                await asyncio.wait(waiting, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    raw = coming.result()
                    if raw is None:
                        return
                    coming = asyncio.ensure_future(anext(media, None))
                    if raw.payload:  # else it is the marker at the end of a group
                        await self._deliver(number, raw, progress)
                elif over or (not told.done() and self._joiner.ahead(number, progress.next_number)):
                    return
                elif not told.done():
                    self._doubted.set()
        finally:
            for future in (coming, told):
                future.cancel()
                with suppress(asyncio.CancelledError, moq.Error):
                    await future
            media.cancel()

    def _complete(self, number: int, progress: Progress) -> bool:
        """Whether the channel is over and every frame of a track has come."""
        frames = self._end.frames if self._end is not None else ()
        return number < len(frames) and (progress.next_number or 0) >= frames[number]

    async def _over(self) -> bool:
        """Whether the publisher has ended the channel; its word may come a moment after the end of a track."""
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await self._told_end.wait()
        return self._told_end.is_set()

    async def _deliver(self, number: int, raw: moq.MediaFrame, progress: Progress) -> None:
        """Hands a frame on, after those that should have come before it."""
        if not progress.is_new(raw.timestamp_us):
            self.replayed += 1
            return
        arrived_s, arrived_at = self._clock(), asyncio.get_running_loop().time()
        self._copies.into_python += 1
        self._broken.pop(number, None)
        record = await self._joiner.take(number, raw.timestamp_us, arrived_at + JOIN_S)
        if record is not None:
            progress.reopened = 0
            if progress.next_number is not None and record.number > progress.next_number:
                groups = range(max(progress.group, record.group - FILL_GROUPS_MAX + 1), record.group + 1)
                await self._fill(number, progress, groups, record)
            progress.passed(record)
        await self._queue.put(_join(number, raw, record, arrived_s))

    async def _fill(
        self, number: int, progress: Progress, groups: Sequence[int], until: FrameRecord | None = None
    ) -> None:
        """Fetches the groups of frames that were skipped: a parent may die in the middle of one."""
        until_pts_us = until.pts_us if until is not None else None
        deadline = asyncio.get_running_loop().time() + FILL_S
        for first in range(0, len(groups), FILL_AT_ONCE):
            some = groups[first : first + FILL_AT_ONCE]
            at_once = (self._fetch(number, group, until_pts_us, deadline) for group in some)
            for raw in (raw for group in await asyncio.gather(*at_once) for raw in group):
                if raw.payload and raw.timestamp_us != until_pts_us and progress.is_new(raw.timestamp_us):
                    record = await self._joiner.take(
                        number, raw.timestamp_us, asyncio.get_running_loop().time() + JOIN_S
                    )
                    if record is not None and until is not None and record.number > until.number:
                        progress.forget(raw.timestamp_us)  # its turn comes
                        continue
                    self.filled += 1
                    self._copies.into_python += 1
                    await self._queue.put(_join(number, raw, record, self._clock()))

    async def _fill_end(self, number: int, progress: Progress) -> None:
        """Fetches the last frames of a channel that is over, if they did not come."""
        last = self._end.groups[number] if self._end is not None and number < len(self._end.groups) else -1
        if not self._complete(number, progress):
            await self._fill(number, progress, range(max(progress.group, last - FILL_GROUPS_MAX + 1), last + 1))

    async def _fetch(self, number: int, group: int, until_pts_us: int | None, deadline: float) -> list[moq.MediaFrame]:
        """The frames of a group, up to one that has come: its group may be under way still.

        A route that is changing fails at first, and a new parent may not have the group yet: it is asked for again.
        """
        found: list[moq.MediaFrame] = []
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while True:
                    try:
                        await self._fetch_once(number, group, until_pts_us, found)
                    except moq.Error:
                        await asyncio.sleep(FILL_PAUSE_S)
                    else:
                        break
        return found

    async def _fetch_once(self, number: int, group: int, until_pts_us: int | None, found: list[moq.MediaFrame]) -> None:
        assert self._broadcast is not None, "open() first"
        found.clear()
        media = await self._broadcast.fetch_media_group(str(number), group, moq.Container.LEGACY())
        async with media:
            async for raw in media:
                found.append(raw)
                if not raw.payload or raw.timestamp_us == until_pts_us:
                    break

    async def _reopen(self) -> bool:
        """Waits for the broadcast to come back after a break; False when it does not, or the overlay knows it is lost."""
        if self._verdict.done():
            return False
        await asyncio.sleep(REOPEN_PAUSE_S)
        with suppress(moq.Error, TimeoutError):
            async with asyncio.timeout(VERDICT_S):
                self._broadcast = await self._announced()
                return True
        if self._told_end.is_set():  # nobody has the rest any more; the count says what is missing
            self._broken.clear()
        return False

    async def _look_for_end(self) -> None:
        """When in doubt, asks the channel's format, which tells the end too: the timing track may be what is stuck."""
        while not self._told_end.is_set() and not self._verdict.done():
            await self._doubted.wait()
            self._doubted.clear()
            assert self._broadcast is not None, "open() first"
            with suppress(moq.Error, TimeoutError, StopAsyncIteration):
                async with asyncio.timeout(ASK_S):
                    snapshots = await self._broadcast.subscribe_json_snapshot(FORMAT)
                    self._take_end(parse_end(await anext(snapshots)))
                    snapshots.cancel()

    def _take_end(self, end: EndRecord | None) -> None:
        if end is not None:
            self._end = end
            self._told_end.set()

    async def _announced(self) -> moq.BroadcastConsumer:
        broadcast: moq.BroadcastConsumer = await self._origin.consume().announced_broadcast(BROADCAST)
        return broadcast

    async def _read_timing(self) -> None:
        """Frames without a record are delivered all the same, so a break is the media tracks' to tell."""
        while not self._told_end.is_set() and not self._verdict.done():
            once = asyncio.ensure_future(self._read_timing_once())
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

    async def _read_timing_once(self) -> None:
        assert self._broadcast is not None, "open() first"
        track = await self._broadcast.subscribe_track(TIMING, self._subscription)
        reading: set[asyncio.Task[None]] = set()
        try:
            async for group in track.groups_as_arrived():
                if self._timing_next is not None:
                    for missed in range(max(self._timing_next, group.sequence - FILL_GROUPS_MAX), group.sequence):
                        refetching = asyncio.ensure_future(self._refetch_timing(missed))
                        reading.add(refetching)
                        refetching.add_done_callback(reading.discard)
                self._timing_next = max(self._timing_next or 0, group.sequence + 1)
                task = asyncio.ensure_future(self._read_group(group))
                reading.add(task)
                task.add_done_callback(reading.discard)
            if reading:
                await asyncio.wait(reading)
        finally:
            for task in reading:
                task.cancel()

    async def _read_warm_up(self, broadcast: moq.BroadcastConsumer) -> None:
        with suppress(moq.Error):
            track = await broadcast.subscribe_track(WARM_UP, moq.Subscription(max_age_us=self._subscription.max_age_us))
            group = await track.next_group()
            while group is not None and await group.read_frame() is not None:
                pass  # padding: that it crossed the path was its purpose
            track.cancel()

    async def _read_group(self, group: moq.GroupConsumer) -> None:
        read, broke = 0, True
        with suppress(moq.Error):
            async for raw in group:
                self._take_record(raw.payload)
                read += 1
            broke = False
        if broke or (read < TIMING_GROUP and not self._told_end.is_set()):  # a parent died in the middle of it
            await self._refetch_timing(group.sequence)

    async def _refetch_timing(self, sequence: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(FILL_S):
                while True:
                    try:
                        assert self._broadcast is not None, "open() first"
                        async for raw in await self._broadcast.fetch_group(TIMING, sequence):
                            self._take_record(raw.payload)
                    except moq.Error:
                        await asyncio.sleep(FILL_PAUSE_S)
                    else:
                        return

    def _take_record(self, payload: bytes) -> None:
        try:
            record = timing_records.decode(payload)
        except msgspec.DecodeError:
            return  # not ours; a frame without a record is still delivered
        if isinstance(record, EndRecord):
            self._take_end(record)
        else:
            self._joiner.add(record)


def _join(number: int, raw: moq.MediaFrame, record: FrameRecord | None, arrived_s: float) -> ReceivedFrame:
    if record is None:
        frame = EncodedFrame(number, raw.timestamp_us, raw.timestamp_us, 0, raw.keyframe, raw.payload)
        return ReceivedFrame(frame, arrived_s, None, None)
    frame = EncodedFrame(number, record.pts_us, record.dts_us, record.duration_us, raw.keyframe, raw.payload)
    return ReceivedFrame(frame, arrived_s, record.number, record.captured_s)
