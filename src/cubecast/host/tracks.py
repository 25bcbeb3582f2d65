"""One channel's media over a MoQ broadcast.

Tracks `0`, `1`, ... carry the encoded frames; the side track `timing` carries what MoQ media frames do not: each
frame's number, decoding time, duration and the publisher's capture time; `format` says what the tracks are. A frame
and its timing record travel apart and are joined here by (track, pts).
"""

import asyncio
import base64
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import moq
import msgspec

from cubecast.errors import CubecastError, MediaError, RemoteError
from cubecast.host.tasks import Tasks
from cubecast.media.frames import EncodedFrame, Kind, TrackFormat

BROADCAST = "stream"
TIMING, FORMAT, WARM_UP = "timing", "format", "warm-up"
WARM_UP_FRAMES, WARM_UP_BYTES = 16, 16 * 1024
"""A QUIC session starts with a window of about 14 kB, so a first keyframe would take several round trips on every hop.
Each new reader is sent this much padding, which opens the windows along its path before the media needs them."""
MEDIA_PRIORITY = 100
TIMING_GROUP = 64
REPAIR_S = 5.0
"""Beyond its bound a subscriber waits this long for a late group before it is skipped: time for a repair."""
JOIN_S = 0.5
"""A frame waits this long for its timing record."""
VERDICT_S = 2.0
"""A broken stream waits this long for the overlay to say which host was lost."""
RECORDS_MAX = 8192
QUEUE_MAX = 4096
TRACKS_MAX = 16


class _FrameRecord(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    track: int
    number: int
    pts_us: int
    dts_us: int
    duration_us: int
    captured_s: float


class _EndRecord(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    frames: tuple[int, ...]


_records = msgspec.msgpack.Decoder(_FrameRecord | _EndRecord)
_encode_record = msgspec.msgpack.Encoder().encode


class _TrackDescription(msgspec.Struct, frozen=True):
    kind: Kind
    codec: str
    extradata: str = ""
    width: int = 0
    height: int = 0
    frame_rate: float = 0.0
    sample_rate: int = 0
    channels: int = 0


class _Description(msgspec.Struct, frozen=True):
    version: int
    tracks: tuple[_TrackDescription, ...]


@dataclass(slots=True)
class CopyCount:
    """Media frames that crossed between Rust and Python for one channel; a pure relay counts none."""

    into_python: int = 0
    out_of_python: int = 0

    @property
    def relayed(self) -> int:
        """Frames that were read into Python and written out again: copies of a relay that is not pass-through."""
        return min(self.into_python, self.out_of_python)


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """A frame at a subscriber. `number` and `captured_s` are None when its timing record did not arrive."""

    frame: EncodedFrame
    arrived_s: float
    number: int | None
    captured_s: float | None


class ChannelWriter:
    """Publishes one channel into an origin."""

    def __init__(self, origin: moq.OriginProducer, tracks: Sequence[TrackFormat], copies: CopyCount) -> None:
        """Creates and announces the broadcast; subscribers may attach before the first frame.

        Raises:
            MediaError: a track's codec configuration is not accepted.
        """
        self._copies = copies
        self._counts = [0] * len(tracks)
        self._broadcast = origin.create_broadcast(BROADCAST)
        self._tracks = [_publish(self._broadcast, number, track) for number, track in enumerate(tracks)]
        self._audio = [track.kind is Kind.AUDIO for track in tracks]
        self._timing = self._broadcast.publish_track(TIMING)
        self._group: moq.GroupProducer | None = None
        self._in_group = 0
        self._format = self._broadcast.publish_json_snapshot(FORMAT)
        self._warm_up = _publish_warm_up(self._broadcast)
        self._format.update(msgspec.to_builtins(_describe(tracks)))
        self._broadcast.announce()

    @property
    def published(self) -> tuple[int, ...]:
        """Frames written so far, by track."""
        return tuple(self._counts)

    def write(self, frame: EncodedFrame, captured_s: float) -> None:
        """Sends one frame; `captured_s` is its capture time, s since the Unix epoch.

        Raises:
            MediaError: the frame is not accepted.
        """
        record = _FrameRecord(
            frame.track, self._counts[frame.track], frame.pts_us, frame.dts_us, frame.duration_us, captured_s
        )
        try:
            self._tracks[frame.track].write_frame(frame.payload, max(0, frame.pts_us))
            if self._audio[frame.track]:
                self._tracks[frame.track].cut()
        except (moq.Error, ValueError) as error:
            raise MediaError(f"track {frame.track} refuses a frame: {error}") from error
        self._counts[frame.track] += 1
        self._copies.out_of_python += 1
        self._record(_encode_record(record))

    def finish(self) -> None:
        """Ends every track, then the broadcast."""
        self._record(_encode_record(_EndRecord(self.published)))
        if self._group is not None:
            self._group.finish()
        raw = [self._timing.finish, self._warm_up.finish, self._format.finish]
        for end in [track.finish for track in self._tracks] + raw:
            with suppress(moq.Error):
                end()
        self._broadcast.close()

    def _record(self, payload: bytes) -> None:
        if self._group is None or self._in_group == TIMING_GROUP:
            if self._group is not None:
                self._group.finish()
            self._group, self._in_group = self._timing.append_group(), 0
        self._group.write_frame(payload)
        self._in_group += 1


def _publish_warm_up(broadcast: moq.BroadcastProducer) -> moq.TrackProducer:
    track = broadcast.publish_track(WARM_UP)
    group = track.append_group()
    for _ in range(WARM_UP_FRAMES):
        group.write_frame(bytes(WARM_UP_BYTES))
    group.finish()
    return track


def _publish(broadcast: moq.BroadcastProducer, number: int, track: TrackFormat) -> moq.MediaProducer:
    video = {"av1": moq.VideoFormat.AV01, "vp8": moq.VideoFormat.VP8, "vp9": moq.VideoFormat.VP9}
    audio = {
        "aac": moq.AudioFormat.AAC,
        "opus": moq.AudioFormat.OPUS,
        "flac": moq.AudioFormat.FLAC,
        "mp3": moq.AudioFormat.MP3,
    }
    configured = track.extradata[:1] == b"\x01"  # avcC and hvcC; Annex B begins with a start code
    video["h264"] = moq.VideoFormat.AVC1 if configured else moq.VideoFormat.AVC3
    video["hevc"] = moq.VideoFormat.HVC1 if configured else moq.VideoFormat.HEV1
    name = str(number)
    init = b"" if track.codec in ("vp8", "vp9") else track.extradata
    try:
        if track.kind is Kind.AUDIO:
            return broadcast.publish_audio(audio[track.codec], init, track=name)
        return broadcast.publish_video(video[track.codec], init, track=name)
    except KeyError as error:
        raise MediaError(f"MoQ media tracks do not carry {track.codec}") from error
    except moq.Error as error:
        raise MediaError(f"the {track.codec} configuration is not accepted: {error}") from error


def _describe(tracks: Sequence[TrackFormat]) -> _Description:
    return _Description(
        1,
        tuple(
            _TrackDescription(
                t.kind,
                t.codec,
                base64.b64encode(t.extradata).decode(),
                t.width,
                t.height,
                t.frame_rate,
                t.sample_rate,
                t.channels,
            )
            for t in tracks
        ),
    )


@dataclass(slots=True)
class _Joiner:
    """Joins frames with their timing records; both sides are bounded, the oldest goes first."""

    records: OrderedDict[tuple[int, int], _FrameRecord] = field(default_factory=OrderedDict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, record: _FrameRecord) -> None:
        self.records[record.track, record.pts_us] = record
        while len(self.records) > RECORDS_MAX:
            self.records.popitem(last=False)
        self.arrived.set()

    async def take(self, track: int, pts_us: int, until: float) -> _FrameRecord | None:
        """The record of a frame, waited for until a time of the loop's clock."""
        loop = asyncio.get_running_loop()
        while True:
            record = self.records.pop((track, pts_us), None)
            if record is not None or loop.time() >= until:
                return record
            self.arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.arrived.wait(), max(0.001, until - loop.time()))


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
        self._joiner = _Joiner()
        self._broadcast: moq.BroadcastConsumer | None = None
        self._running: list[asyncio.Task[None]] = []
        self._reading = 0
        self._broken = ""
        self._verdict: asyncio.Future[CubecastError] = asyncio.get_running_loop().create_future()
        self.tracks: tuple[TrackFormat, ...] = ()
        self.published: tuple[int, ...] | None = None
        """Frames the publisher says it wrote, by track; known once the channel has ended."""

    async def open(self) -> None:
        """Waits for the broadcast to arrive and learns its tracks.

        Raises:
            RemoteError: what arrives is no cubecast channel.
        """
        try:
            self._broadcast = await self._origin.consume().announced_broadcast(BROADCAST)
            snapshots = await self._broadcast.subscribe_json_snapshot(FORMAT)
            self.tracks = _parse_description(await anext(snapshots))
            snapshots.cancel()
        except StopAsyncIteration:
            raise RemoteError("the channel ended before it told its format") from None
        except moq.Error as error:
            raise RemoteError(f"the channel cannot be opened: {error}") from error

    def start(self, tasks: Tasks) -> None:
        """Begins to read every track."""
        assert self._broadcast is not None, "open() first"
        self._reading = len(self.tracks)
        self._running = [tasks.create_task(self._read_timing(self._broadcast))]
        self._running.append(tasks.create_task(self._read_warm_up(self._broadcast)))
        self._running += [tasks.create_task(self._read(self._broadcast, n)) for n in range(len(self.tracks))]

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
            raise RemoteError(self._broken)

    def _wake(self) -> None:
        with suppress(asyncio.QueueFull):  # then `frames` is awake anyway
            self._queue.put_nowait(None)

    async def _read(self, broadcast: moq.BroadcastConsumer, number: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            media = await broadcast.subscribe_media(str(number), moq.Container.LEGACY(), self._subscription)
            async for raw in media:
                arrived_s, arrived_at = self._clock(), loop.time()
                if not raw.payload:
                    continue  # the marker at the end of a group
                self._copies.into_python += 1
                record = await self._joiner.take(number, raw.timestamp_us, arrived_at + JOIN_S)
                await self._queue.put(_join(number, raw, record, arrived_s))
        except moq.Error as error:
            self._broken = f"track {number} broke: {error}"
        await self._end_of_track()

    async def _end_of_track(self) -> None:
        """The last track to end waits for the publisher's count, which travels on its own."""
        if self._reading == 1 and not self._broken:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._running[0]), JOIN_S)
        self._reading = max(0, self._reading - 1)
        self._wake()

    async def _read_timing(self, broadcast: moq.BroadcastConsumer) -> None:
        try:
            track = await broadcast.subscribe_track(TIMING, self._subscription)
            async with asyncio.TaskGroup() as groups:
                async for group in track.groups_as_arrived():
                    groups.create_task(self._read_group(group))
        except* moq.Error:
            pass  # frames without a record are delivered all the same; the media tracks tell why

    async def _read_warm_up(self, broadcast: moq.BroadcastConsumer) -> None:
        with suppress(moq.Error):
            track = await broadcast.subscribe_track(WARM_UP, moq.Subscription(max_age_us=self._subscription.max_age_us))
            group = await track.next_group()
            while group is not None and await group.read_frame() is not None:
                pass  # padding: that it crossed the path was its purpose
            track.cancel()

    async def _read_group(self, group: moq.GroupConsumer) -> None:
        async for raw in group:
            try:
                record = _records.decode(raw.payload)
            except msgspec.DecodeError:
                continue  # not ours; a frame without a record is still delivered
            if isinstance(record, _EndRecord):
                self.published = record.frames
            else:
                self._joiner.add(record)


def _join(number: int, raw: moq.MediaFrame, record: _FrameRecord | None, arrived_s: float) -> ReceivedFrame:
    if record is None:
        frame = EncodedFrame(number, raw.timestamp_us, raw.timestamp_us, 0, raw.keyframe, raw.payload)
        return ReceivedFrame(frame, arrived_s, None, None)
    frame = EncodedFrame(number, record.pts_us, record.dts_us, record.duration_us, raw.keyframe, raw.payload)
    return ReceivedFrame(frame, arrived_s, record.number, record.captured_s)


def _parse_description(value: object) -> tuple[TrackFormat, ...]:
    try:
        description = msgspec.convert(value, _Description)
        tracks = tuple(
            TrackFormat(
                t.kind,
                t.codec,
                base64.b64decode(t.extradata, validate=True),
                t.width,
                t.height,
                t.frame_rate,
                t.sample_rate,
                t.channels,
            )
            for t in description.tracks
        )
    except (msgspec.ValidationError, ValueError) as error:
        raise RemoteError(f"the channel's format is malformed: {error}") from error
    if not 0 < len(tracks) <= TRACKS_MAX:
        raise RemoteError(f"the channel has {len(tracks)} tracks; 1 to {TRACKS_MAX} are possible")
    return tracks
