"""One channel's media over a MoQ broadcast.

Tracks `0`, `1`, ... carry the encoded frames; the side track `timing` carries what MoQ media frames do not: each
frame's number, decoding time, duration and the publisher's capture time; `format` describes the tracks. A frame and its
timing record travel separately and are joined again by (track, pts) in cubecast.host.channel.frame_joiner.
"""

import base64
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import moq
import msgspec
from msgspec import Meta

from cubecast.engine.protocol.ranges import END, INTEGER_MAX, Number
from cubecast.errors import MediaError, RemoteError
from cubecast.frames import EncodedFrame, Kind, TrackFormat

BROADCAST = "stream"
"""Name of the broadcast in the channel's origin."""
TIMING = "timing"
"""Name of the side track of timing records."""
FORMAT = "format"
"""Name of the side track that describes the media tracks, and has the channel's end once it has ended."""
WARM_UP = "warm-up"
"""Name of the side track of padding."""
WARM_UP_FRAMES = 16
"""Number of frames of padding sent to each new reader. A QUIC session starts with a window of about 14 kB, so that a first
keyframe would take several round trips on every hop; the padding opens the windows along the path before the media needs
them."""
WARM_UP_BYTES = 16 * 1024
"""Size of a frame of padding, bytes; WARM_UP_FRAMES of them are 256 KiB."""
MEDIA_PRIORITY = 100
"""MoQ priority of the media and timing tracks."""
TIMING_GROUP = 64
"""Number of timing records in one group: a group that was lost is fetched again as a whole."""
TRACKS_MAX = 16
"""Maximum number of tracks of one channel; a format that describes more is refused."""
CAPTURED_MAX_S = 1e11
"""Latest capture time that is accepted, s since the Unix epoch: the year 5138."""
EXTRADATA_CHARACTERS_MAX = 1 << 20
"""Maximum length of a codec's configuration in a format, in base64: that of video is some 100 bytes, a font's may be long."""
FRAME_RATE_MAX = 1e6
"""Greatest frame rate that is accepted, Hz."""
SAMPLE_RATE_MAX = 1 << 31
"""Greatest sample rate that is accepted, Hz."""
CHANNELS_MAX = 1024
"""Greatest number of audio channels that is accepted."""
Pixels: TypeAlias = Annotated[int, Meta(ge=0, le=65_536)]
"""Width or height of a picture: codecs carry 65 536 at most."""
PLAIN = {"pcm_mulaw"}
"""Codecs that moq has no name for and that need no configuration; carried as data tracks are."""


Times: TypeAlias = Annotated[int, Meta(ge=-INTEGER_MAX, le=INTEGER_MAX)]
"""A time of presentation or decoding, microseconds; the first ones of a stream may be negative."""


class FrameRecord(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    """One frame's timing record; `group` is the sequence number of the group that carries the frame."""

    track: Annotated[int, Meta(ge=0, le=TRACKS_MAX - 1)]
    number: Number
    pts_us: Times
    dts_us: Times
    duration_us: Number
    captured_s: Annotated[float, Meta(ge=0, le=CAPTURED_MAX_S)]
    group: Number = 0


Counts: TypeAlias = Annotated[tuple[Number, ...], Meta(max_length=TRACKS_MAX)]
"""Numbers of frames, by track."""
LastGroups: TypeAlias = Annotated[tuple[Annotated[int, Meta(ge=-1, le=INTEGER_MAX)], ...], Meta(max_length=TRACKS_MAX)]
"""Numbers of the last groups, by track; -1 for a track that had none."""


class EndRecord(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    """The channel's end: frames published and number of the last group, by track."""

    frames: Counts
    groups: LastGroups = ()


timing_records = msgspec.msgpack.Decoder(FrameRecord | EndRecord)
_encode_record = msgspec.msgpack.Encoder().encode


class _TrackDescription(msgspec.Struct, frozen=True):
    kind: Kind
    codec: Annotated[str, Meta(max_length=32, pattern=rf"^[A-Za-z0-9_-]+{END}")]
    extradata: Annotated[str, Meta(max_length=EXTRADATA_CHARACTERS_MAX, pattern=rf"^[A-Za-z0-9+/=]*{END}")] = ""
    width: Pixels = 0
    height: Pixels = 0
    frame_rate: Annotated[float, Meta(ge=0, le=FRAME_RATE_MAX)] = 0.0
    sample_rate: Annotated[int, Meta(ge=0, le=SAMPLE_RATE_MAX)] = 0
    channels: Annotated[int, Meta(ge=0, le=CHANNELS_MAX)] = 0


class _Description(msgspec.Struct, frozen=True):
    version: Number
    tracks: Annotated[tuple[_TrackDescription, ...], Meta(max_length=TRACKS_MAX)]
    frames: Counts | None = None
    groups: LastGroups = ()
    """`frames` and `groups` as in EndRecord, once the channel has ended."""


@dataclass(slots=True)
class CopyCount:
    """Media frames that crossed between Rust and Python for one channel; a pure relay counts none."""

    into_python: int = 0
    out_of_python: int = 0

    @property
    def relayed(self) -> int:
        """Frames that were read into Python and written out again; 0 at a relay that forwards in Rust."""
        return min(self.into_python, self.out_of_python)


class ChannelWriter:
    """Publishes one channel into an origin."""

    def __init__(self, origin: moq.OriginProducer, tracks: Sequence[TrackFormat], copies: CopyCount) -> None:
        """Creates and announces the broadcast; subscribers may attach before the first frame.

        Raises:
            MediaError: a track's codec configuration is not accepted.
        """
        self._copies = copies
        self._counts = [0] * len(tracks)
        self.bytes_written = 0
        """Of all frames so far."""
        self._groups = [-1] * len(tracks)
        self._broadcast = origin.create_broadcast(BROADCAST)
        self._tracks = [_publish(self._broadcast, number, track) for number, track in enumerate(tracks)]
        self._video = [track.kind is Kind.VIDEO for track in tracks]
        self._timing = self._broadcast.publish_track(TIMING)
        self._group: moq.GroupProducer | None = None
        self._in_group = 0
        self._format = self._broadcast.publish_json_snapshot(FORMAT)
        self._warm_up = _publish_warm_up(self._broadcast)
        self._described = _describe(tracks)
        self._format.update(msgspec.to_builtins(self._described))
        self._broadcast.announce()

    @property
    def published(self) -> tuple[int, ...]:
        """Frames written so far, by track."""
        return tuple(self._counts)

    def write(self, frame: EncodedFrame, captured_s: float) -> None:
        """Sends one frame; `captured_s` is its capture time, s since the Unix epoch.

        Raises:
            MediaError: the frame is not accepted: its times do not fit 62 bits, or its time lies before that of the last keyframe, for example. Later frames of a
                video track may be refused, too, until the next keyframe.
        """
        begins = not self._video[frame.track] or frame.keyframe
        group = self._groups[frame.track] + begins  # that of a refused frame does not exist
        record = FrameRecord(
            frame.track,
            self._counts[frame.track],
            frame.pts_us,
            frame.dts_us,
            frame.duration_us,
            captured_s,
            max(0, group),
        )
        times = (frame.pts_us, frame.dts_us, frame.duration_us)
        if max(map(abs, times)) > INTEGER_MAX or frame.duration_us < 0 or not 0 <= captured_s <= CAPTURED_MAX_S:
            raise MediaError(f"track {frame.track} refuses a frame: a time is out of range")
        try:
            self._tracks[frame.track].write_frame(frame.payload, max(0, frame.pts_us))
            if not self._video[frame.track]:
                self._tracks[frame.track].cut()
        except (moq.Error, ValueError) as error:
            raise MediaError(f"track {frame.track} refuses a frame: {error}") from error
        self._groups[frame.track] = group
        self._counts[frame.track] += 1
        self.bytes_written += len(frame.payload)
        self._copies.out_of_python += 1
        self._record(_encode_record(record))

    def finish(self) -> None:
        """Announces the end. The tracks stay until `close`: frames lost near the end can still be fetched."""
        end = EndRecord(self.published, tuple(self._groups))
        self._record(_encode_record(end))
        over = msgspec.structs.replace(self._described, frames=end.frames, groups=end.groups)
        self._format.update(msgspec.to_builtins(over))
        if self._group is not None:
            self._group.finish()
        for track in self._tracks:
            with suppress(moq.Error):
                track.cut()

    def close(self) -> None:
        """Ends the tracks and the broadcast; no host below can subscribe to it any more."""
        for end in (*(t.finish for t in self._tracks), self._timing.finish, self._warm_up.finish, self._format.finish):
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


class _PlainTrack:
    """A track of any content, framed like moq's own media tracks: each frame a group, its time first as a QUIC varint."""

    def __init__(self, track: moq.TrackProducer) -> None:
        self._track = track

    def write_frame(self, payload: bytes, timestamp_us: int) -> None:
        group = self._track.append_group()
        group.write_frame(_varint(timestamp_us) + payload)
        group.finish()

    def cut(self) -> None:
        """Nothing to do: every frame is a group already."""

    def finish(self) -> None:
        self._track.finish()


def _varint(value: int) -> bytes:
    """A number as QUIC writes it. Source: RFC 9000, 16."""
    for power, size in enumerate((1, 2, 4, 8)):
        if value < 1 << (8 * size - 2):
            return (value | power << (8 * size - 2)).to_bytes(size, "big")
    raise ValueError(f"{value} is too large a time")


def _publish(broadcast: moq.BroadcastProducer, number: int, track: TrackFormat) -> moq.MediaProducer | _PlainTrack:
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
    if track.kind is Kind.DATA or track.codec in PLAIN:
        return _PlainTrack(broadcast.publish_track(name))
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


async def read_format(broadcast: moq.BroadcastConsumer) -> object:
    """What a channel's format says now.

    Raises:
        RemoteError: it is not JSON, or the channel has ended before it came.
        moq.Error: the broadcast broke.
    """
    snapshots = await broadcast.subscribe_json_snapshot(FORMAT)
    try:
        return await anext(snapshots)
    except StopAsyncIteration:
        raise RemoteError("the channel ended before its format arrived") from None
    except (ValueError, RecursionError) as error:
        raise RemoteError(f"the channel's format is malformed: {error}") from error
    finally:
        snapshots.cancel()


def parse_end(value: object) -> EndRecord | None:
    """The end, from the format of a channel that has ended; None before, or if it is malformed."""
    try:
        description = msgspec.convert(value, _Description)
    except (msgspec.ValidationError, RecursionError):
        return None
    return None if description.frames is None else EndRecord(description.frames, description.groups)


def parse_description(value: object) -> tuple[TrackFormat, ...]:
    """The tracks that a channel's format describes.

    Raises:
        RemoteError: it is malformed.
    """
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
    except (msgspec.ValidationError, ValueError, RecursionError) as error:
        raise RemoteError(f"the channel's format is malformed: {error}") from error
    if not 0 < len(tracks) <= TRACKS_MAX:
        raise RemoteError(f"the channel has {len(tracks)} tracks; 1 to {TRACKS_MAX} are possible")
    return tracks
