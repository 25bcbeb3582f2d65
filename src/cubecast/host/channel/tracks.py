"""One channel's media over a MoQ broadcast.

Tracks `0`, `1`, ... carry the encoded frames; the side track `timing` carries what MoQ media frames do not: each
frame's number, decoding time, duration, digest and the publisher's capture time; `format` describes the tracks. A frame
and its timing record travel separately and are joined again by (track, pts) in cubecast.host.channel.frame_joiner.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import moq
import msgspec

from cubecast.engine.protocol.ranges import INTEGER_MAX
from cubecast.errors import MediaError, RemoteError
from cubecast.frames import EncodedFrame, Kind, TrackFormat
from cubecast.host.channel.description import describe
from cubecast.host.channel.records import (
    BATCH_FRAMES_MAX,
    BATCH_S,
    CAPTURED_MAX_S,
    BatchContent,
    BatchEnd,
    BatchStart,
    EndRecord,
    FrameRecord,
    encode_record,
)
from cubecast.host.channel.signing import BATCH, END, ChannelSigner

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
PLAIN = {"pcm_mulaw"}
"""Codecs that moq has no name for and that need no configuration; carried as data tracks are."""


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

    def __init__(
        self, origin: moq.OriginProducer, tracks: Sequence[TrackFormat], copies: CopyCount, signer: ChannelSigner
    ) -> None:
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
        self._signer = signer
        self._timing = self._broadcast.publish_track(TIMING)
        self._batch: _Batch | None = None
        self._format = self._broadcast.publish_json_snapshot(FORMAT)
        self._warm_up = _publish_warm_up(self._broadcast)
        self._formats = tuple(tracks)
        self._format.update(describe(tracks, signer))
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
        track = self._tracks[frame.track]
        try:
            payload = track.write_frame(frame)
        except (moq.Error, ValueError) as error:
            raise MediaError(f"track {frame.track} refuses a frame: {error}") from error
        record = FrameRecord(
            frame.track,
            self._counts[frame.track],
            frame.pts_us,
            frame.dts_us,
            frame.duration_us,
            frame.keyframe,
            captured_s,
            max(0, group),
            b"",
        )
        times = (frame.pts_us, frame.dts_us, frame.duration_us)
        if max(map(abs, times)) > INTEGER_MAX or frame.duration_us < 0 or not 0 <= captured_s <= CAPTURED_MAX_S:
            raise MediaError(f"track {frame.track} refuses a frame: a time is out of range")
        digest = self._signer.digest(record, payload)
        self._groups[frame.track] = group
        self._counts[frame.track] += 1
        self.bytes_written += len(frame.payload)
        self._copies.out_of_python += 1
        self._record(msgspec.structs.replace(record, digest=digest))

    def finish(self) -> None:
        """Announces the end. The tracks stay until `close`: frames lost near the end can still be fetched."""
        end = EndRecord(self.published, tuple(self._groups))
        self._record(msgspec.structs.replace(end, signature=self._signer.sign(END, end.frames, end.groups)))
        self._sign()
        self._format.update(describe(self._formats, self._signer, end))
        for track in self._tracks:
            with suppress(moq.Error):
                track.cut()

    def close(self) -> None:
        """Ends the tracks and the broadcast; no host below can subscribe to it any more."""
        self._sign()
        for end in (*(t.finish for t in self._tracks), self._timing.finish, self._warm_up.finish, self._format.finish):
            with suppress(moq.Error):
                end()
        self._broadcast.close()

    def _record(self, record: FrameRecord | EndRecord) -> None:
        if self._batch is None:
            due = asyncio.get_running_loop().call_later(BATCH_S, self._sign)
            self._batch = _Batch(self._timing.append_group(), due)
            self._batch.group.write_frame(encode_record(BatchStart(self._signer.publication.number)))
        self._batch.write(encode_record(record))
        if self._batch.content.records == BATCH_FRAMES_MAX:
            self._sign()

    def _sign(self) -> None:
        """Signs the records since the last signature, if there are any."""
        batch, self._batch = self._batch, None
        if batch is None:
            return
        batch.due.cancel()
        signature = self._signer.sign(BATCH, *batch.content.signed)
        with suppress(moq.Error):  # the broadcast is closed
            batch.group.write_frame(encode_record(BatchEnd(batch.content.records, signature)))
            batch.group.finish()


class _Batch:
    """Records that are not signed yet: a group of the timing track, and the timer that signs it."""

    def __init__(self, group: moq.GroupProducer, due: asyncio.TimerHandle) -> None:
        self.group, self.due = group, due
        self.content = BatchContent(group.sequence)

    def write(self, record: bytes) -> None:
        self.group.write_frame(record)
        self.content.add(record)


def _publish_warm_up(broadcast: moq.BroadcastProducer) -> moq.TrackProducer:
    track = broadcast.publish_track(WARM_UP)
    group = track.append_group()
    for _ in range(WARM_UP_FRAMES):
        group.write_frame(bytes(WARM_UP_BYTES))
    group.finish()
    return track


class _CodecTrack:
    """A track whose content moq knows."""

    def __init__(self, track: moq.MediaProducer, *, each_a_group: bool) -> None:
        self._track = track
        self._each_a_group = each_a_group

    def write_frame(self, frame: EncodedFrame) -> bytes:
        """Sends a frame and returns its payload as it is on the wire."""
        self._track.write_frame(frame.payload, max(0, frame.pts_us))
        if self._each_a_group:
            self._track.cut()
        return frame.payload

    def cut(self) -> None:
        """Ends the group."""
        self._track.cut()

    def finish(self) -> None:
        self._track.finish()

    def demand(self) -> moq.TrackDemand:
        return self._track.demand()


class _PlainTrack:
    """A track of any content, framed like moq's own media tracks: each frame with its time first as a QUIC varint."""

    def __init__(self, track: moq.TrackProducer) -> None:
        self._track = track

    def write_frame(self, frame: EncodedFrame) -> bytes:
        """Sends a frame as a group and returns its payload as it is on the wire."""
        group = self._track.append_group()
        group.write_frame(_varint(max(0, frame.pts_us)) + frame.payload)
        group.finish()
        return frame.payload

    def cut(self) -> None:
        """Nothing to do: every frame is a group already."""

    def finish(self) -> None:
        self._track.finish()

    def demand(self) -> moq.TrackDemand:
        return self._track.demand()


class _AnnexBTrack:
    """H.264 or HEVC in Annex B, framed likewise: moq would change its frames after their digest is taken."""

    def __init__(self, track: moq.TrackProducer, parameter_sets: bytes) -> None:
        self._track = track
        self._parameter_sets = parameter_sets
        self._group: moq.GroupProducer | None = None
        self._keyframe_us = 0

    def write_frame(self, frame: EncodedFrame) -> bytes:
        """Sends a frame and returns its payload as it is on the wire: keyframes begin with the parameter sets."""
        time_us, payload = max(0, frame.pts_us), frame.payload
        if time_us < self._keyframe_us or (self._group is None and not frame.keyframe):
            raise ValueError("its time lies before the last keyframe, or there is no keyframe yet")
        if frame.keyframe:
            self.cut()
            self._group, self._keyframe_us = self._track.append_group(), time_us
            if self._parameter_sets not in payload:
                payload = self._parameter_sets + payload
        assert self._group is not None, "there was a keyframe"
        self._group.write_frame(_varint(time_us) + payload)
        return payload

    def cut(self) -> None:
        """Ends the group."""
        if self._group is not None:
            self._group.finish()
            self._group = None

    def finish(self) -> None:
        self._track.finish()

    def demand(self) -> moq.TrackDemand:
        return self._track.demand()


def _varint(value: int) -> bytes:
    """A number as QUIC writes it. Source: RFC 9000, 16."""
    for power, size in enumerate((1, 2, 4, 8)):
        if value < 1 << (8 * size - 2):
            return (value | power << (8 * size - 2)).to_bytes(size, "big")
    raise ValueError(f"{value} is too large a time")


def _publish(
    broadcast: moq.BroadcastProducer, number: int, track: TrackFormat
) -> _CodecTrack | _PlainTrack | _AnnexBTrack:
    video = {"av1": moq.VideoFormat.AV01, "vp8": moq.VideoFormat.VP8, "vp9": moq.VideoFormat.VP9}
    audio = {
        "aac": moq.AudioFormat.AAC,
        "opus": moq.AudioFormat.OPUS,
        "flac": moq.AudioFormat.FLAC,
        "mp3": moq.AudioFormat.MP3,
    }
    video |= {"h264": moq.VideoFormat.AVC1, "hevc": moq.VideoFormat.HVC1}
    configured = track.extradata[:1] == b"\x01"  # avcC and hvcC; Annex B begins with a start code
    name = str(number)
    if track.kind is Kind.DATA or track.codec in PLAIN:
        return _PlainTrack(broadcast.publish_track(name))
    if track.codec in ("h264", "hevc") and not configured:
        return _AnnexBTrack(broadcast.publish_track(name), track.extradata)
    init = b"" if track.codec in ("vp8", "vp9") else track.extradata
    try:
        if track.kind is Kind.AUDIO:
            return _CodecTrack(broadcast.publish_audio(audio[track.codec], init, track=name), each_a_group=True)
        return _CodecTrack(broadcast.publish_video(video[track.codec], init, track=name), each_a_group=False)
    except KeyError as error:
        raise MediaError(f"MoQ media tracks do not carry {track.codec}") from error
    except moq.Error as error:
        raise MediaError(f"the {track.codec} configuration is not accepted: {error}") from error


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
