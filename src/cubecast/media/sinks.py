"""Sinks write encoded frames to MPEG-TS or fragmented MP4 without delay, so that a player can play the output live."""

import io
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Protocol

import av
from av.audio.codeccontext import AudioCodecContext
from av.container import OutputContainer
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext

from cubecast.errors import ContainerUnsuitable, MediaError, OutputClosedError
from cubecast.frames import US, EncodedFrame, Kind, TrackFormat
from cubecast.media.data_sink import DataSink, data_suffix
from cubecast.media.levels import FLAC_MARKER_BYTES

_TIME_BASE = Fraction(1, US)
"""Unit of the time stamps given to FFmpeg: a microsecond, in s."""
TS_CODECS = {"h264", "hevc", "aac", "mp3", "opus"}
"""Codecs that can be written to MPEG-TS."""
MP4_CODECS = TS_CODECS | {"av1", "vp9", "flac"}
"""Codecs that can be written to MP4."""
MP4_SUFFIXES = {".mp4", ".m4s", ".m4v", ".m4a"}
"""File name suffixes that mean MP4."""
TS_SUFFIXES = {".ts", ".mts", ".m2ts", ".mpegts"}
"""File name suffixes that mean MPEG-TS."""
LATENCY_US = "200000"
"""Maximum duration of an MP4 fragment, and of the muxer's wait for a track without frames, microseconds."""
TS_TICK_US = 12
"""One tick of the 90 kHz clock of MPEG-TS in microseconds, rounded up: the minimum step of decoding times."""
HELD_US = 2 * US
"""Media that is held at the start until every track has a frame, microseconds: a group of video may be this long."""
HELD_MAX = 512
"""Frames held at most: 2 s of video and audio have fewer."""
LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 8: "7.1"}
"""FFmpeg's channel layout for each number of audio channels."""


class Container(StrEnum):
    """The container format that a sink writes."""

    TS = "ts"
    MP4 = "mp4"


class Sink(Protocol):
    """A destination for received frames."""

    def write(self, frame: EncodedFrame) -> None:
        """Writes one frame.

        Raises:
            MediaError: it cannot be written.
            OutputClosedError: the reader of the output has closed it.
        """

    def close(self) -> None:
        """Completes and closes the output.

        Raises:
            MediaError: it cannot be completed.
        """


class NullSink:
    """Discards all frames."""

    def write(self, frame: EncodedFrame) -> None:
        """See Sink."""

    def close(self) -> None:
        """See Sink."""


def container_for(output: str, requested: Container | None, tracks: Sequence[TrackFormat]) -> Container:
    """The container for an output: `requested`, else by its suffix, else MPEG-TS if it supports all codecs, else MP4.

    Raises:
        ContainerUnsuitable: the suffix is not known, or another container would support a codec.
        MediaError: no container supports a codec.
    """
    check_suffix(output, requested)
    codecs = {track.codec for track in tracks if track.kind is not Kind.DATA}
    suffix = Path(output).suffix.lower()
    chosen = requested
    if chosen is None and suffix in MP4_SUFFIXES:
        chosen = Container.MP4
    if chosen is None:
        chosen = Container.TS if codecs <= TS_CODECS or suffix in TS_SUFFIXES else Container.MP4
    supported = TS_CODECS if chosen is Container.TS else MP4_CODECS
    if not codecs <= supported:
        missing = ", ".join(sorted(codecs - supported))
        if codecs <= MP4_CODECS:
            raise ContainerUnsuitable(f"{missing} cannot be written to {chosen}; write to a .mp4 file")
        raise MediaError(f"{missing} cannot be written to {chosen}; no supported container can hold it")
    return chosen


def check_suffix(output: str, requested: Container | None) -> None:
    """Refuses a file name that no container belongs to, before anything is opened.

    Raises:
        ContainerUnsuitable: the suffix is not known, and no container is requested.
    """
    suffix = Path(output).suffix.lower()
    if requested is None and suffix and suffix not in MP4_SUFFIXES | TS_SUFFIXES:
        raise ContainerUnsuitable(f"{output} ends in {suffix}; only .ts and .mp4 can be written")


@dataclass(slots=True)
class _Pipe:
    """A file as FFmpeg's output. Errors are stored, not raised, because FFmpeg's C code calls `write`."""

    file: BinaryIO
    broken: str = ""
    closed: bool = False
    name: str = "<output>"

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest and not self.broken:
            try:
                rest = rest[os.write(self.file.fileno(), rest) :]
            except OSError as error:
                self.broken, self.closed = error.strerror or "write failed", isinstance(error, BrokenPipeError)
        return len(data)


class MediaSink:
    """Writes frames to an open file as MPEG-TS or MP4."""

    def __init__(
        self, file: BinaryIO, name: str, container: Container, tracks: Sequence[TrackFormat], *, beside: bool = False
    ) -> None:
        """Prepares the output.

        Args:
            file: written through its file descriptor; closed by `close`.
            name: path, or what to call the output in errors.
            container: format of the output.
            tracks: formats of the tracks.
            beside: write data tracks to files NAME.CODEC.jsonl, or NAME.TRACK.CODEC.jsonl where several have the same codec;
                otherwise they are discarded.

        Raises:
            MediaError: the container cannot hold a track.
        """
        self._name = name
        self._pipe = _Pipe(file)
        options = {"max_interleave_delta": LATENCY_US}
        if container is Container.MP4:
            options |= {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": LATENCY_US}
        format_name = "mpegts" if container is Container.TS else "mp4"
        try:
            self._out: OutputContainer = av.open(self._pipe, mode="w", format=format_name, options=options)
            self._streams = {n: _add_track(self._out, t) for n, t in enumerate(tracks) if t.kind is not Kind.DATA}
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaError(f"cannot write {name}: {error}") from error
        data = {n: Path(f"{name}{data_suffix(n, tracks)}") for n, t in enumerate(tracks) if t.kind is Kind.DATA}
        self._data = {number: DataSink(path) if beside else NullSink() for number, path in data.items()}
        self._held: list[EncodedFrame] | None = []
        """The first frames, until the time at which the output starts is known; None from then on."""
        self._offset_us = 0
        self._last_dts_us = [-1 << 62] * len(tracks)

    def write(self, frame: EncodedFrame) -> None:
        """See Sink."""
        if frame.track in self._data:
            self._data[frame.track].write(frame)
        elif self._held is None:
            self._mux(frame)
        else:
            self._held.append(frame)
            if self._starts(self._held):
                self._start()

    def _starts(self, held: list[EncodedFrame]) -> bool:
        """Whether every track has a frame, or one lags so far behind that the others are not held for it."""
        times_us = [frame.dts_us for frame in held]
        complete = {frame.track for frame in held} == self._streams.keys()
        return complete or max(times_us) - min(times_us) >= HELD_US or len(held) >= HELD_MAX

    def _start(self) -> None:
        """The output starts at 0 with the earliest of the first frames, whichever arrived first."""
        held, self._held = self._held or [], None
        if held:
            self._offset_us = -min(min(frame.dts_us, frame.pts_us) for frame in held)
        for frame in held:
            self._mux(frame)

    def _mux(self, frame: EncodedFrame) -> None:
        dts_us = max(frame.dts_us + self._offset_us, self._last_dts_us[frame.track] + TS_TICK_US)
        pts_us = max(frame.pts_us + self._offset_us, dts_us)
        if dts_us < 0:
            return  # of a track that came much later than the others, from before they start
        self._last_dts_us[frame.track] = dts_us
        packet = av.Packet(frame.payload)
        packet.stream, packet.time_base = self._streams[frame.track], _TIME_BASE
        packet.pts, packet.dts, packet.duration = pts_us, dts_us, frame.duration_us
        packet.is_keyframe = frame.keyframe
        try:
            self._out.mux_one(packet)
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaError(f"cannot write {self._name}: {getattr(error, 'strerror', error)}") from error
        if self._pipe.closed:
            raise OutputClosedError(f"cannot write {self._name}: its reader has closed it")
        if self._pipe.broken:
            raise MediaError(f"cannot write {self._name}: {self._pipe.broken}")

    def close(self) -> None:
        """See Sink."""
        for sink in self._data.values():
            sink.close()
        try:
            self._start()
            self._out.close()
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaError(f"cannot complete {self._name}: {error}") from error
        finally:
            with suppress(OSError):
                self._pipe.file.close()


def _add_track(out: OutputContainer, track: TrackFormat) -> Stream:
    """Adds a stream for encoded frames; PyAV needs a template, whose encoder is never opened."""
    template = av.open(io.BytesIO(), mode="w", format="null").add_stream(track.codec)
    stream = out.add_stream_from_template(template, opaque=True)
    context = stream.codec_context
    if isinstance(context, VideoCodecContext):
        context.width, context.height = track.width, track.height
    elif isinstance(context, AudioCodecContext):
        context.sample_rate = track.sample_rate
        context.layout = LAYOUTS.get(track.channels, f"{track.channels}c")
    if track.extradata:
        context.extradata = track.extradata[FLAC_MARKER_BYTES if track.codec == "flac" else 0 :]
    stream.time_base = _TIME_BASE
    return stream
