"""Sources read any file, stream or pipe that FFmpeg can demux, and give encoded frames in decoding order.

Tracks whose codec MoQ media tracks carry are passed through unchanged; others are transcoded to H.264 or AAC, and
`MediaSource.notes` reports this.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Self

import av
from av.container import InputContainer
from av.packet import Packet as AvPacket
from av.stream import Disposition, Stream

from cubecast.errors import MediaError
from cubecast.frames import EncodedFrame
from cubecast.media.transcoding import PassThrough, Transcoder, passes_through

PROBE_PACKETS_MAX = 512
"""Maximum number of packets read to find the format of every track; tracks without one then are dropped."""
REORDER_US = 500_000
"""Maximum difference of decoding times over which frames of different tracks are sorted, microseconds."""
TRACKS_MAX = 16
"""Maximum number of tracks; further ones are ignored."""
STDIN = "pipe:0"
"""FFmpeg's name for standard input."""
STDIN_OPTIONS = {"analyzeduration": "1500000"}
"""FFmpeg probes a pipe for 1.5 s of media; its default of 5 s would delay the start of a live stream by 5 s."""


@dataclass(slots=True)
class _SourceTrack:
    """A track of the source and the converter of its packets to frames."""

    track: int
    converter: PassThrough | Transcoder
    last_dts_us: int | None = None


class MediaSource:
    """An open source. Use it as a context manager; `frames` can be iterated once.

    Attributes:
        name: the location, for messages.
        tracks: format of each track.
        notes: messages to the user about tracks that are transcoded.
    """

    def __init__(self, location: str, loop: bool = False) -> None:
        """Opens and probes the source.

        Args:
            location: a path or URL that FFmpeg can open, or `-` for standard input.
            loop: repeat the source without end; times continue to increase.

        Raises:
            MediaError: it cannot be opened, or contains neither video nor audio.
        """
        self.name = "standard input" if location == "-" else location
        self._input, self._options = (STDIN, STDIN_OPTIONS) if location == "-" else (location, {})
        self._loop = loop
        self._stack = ExitStack()
        self._container = self._open()
        self._selected = self._select_tracks()
        self._probed: list[EncodedFrame] = []
        self._packets = self._demux(self._container)
        self._probe()
        self.tracks = tuple(each.converter.format for each in self._selected.values())
        self.notes = tuple(each.converter.note for each in self._selected.values() if each.converter.note)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the source."""
        self._stack.close()

    def frames(self) -> Iterator[EncodedFrame]:
        """All frames in decoding order, with times shifted so that the first is 0.

        Raises:
            MediaError: reading failed, or a looped source changed.
        """
        offset_us = 0
        while True:
            end_us = 0
            shift_us: int | None = None
            for frame in self._in_order():
                if shift_us is None:
                    # frames are sorted by decoding time, so the first one is the earliest
                    shift_us = offset_us - min(frame.dts_us, frame.pts_us)
                shifted = replace(frame, pts_us=frame.pts_us + shift_us, dts_us=frame.dts_us + shift_us)
                end_us = max(end_us, shifted.pts_us + max(shifted.duration_us, 1))
                yield shifted
            if not self._loop or shift_us is None:
                return
            offset_us = end_us
            self._rewind()

    def _open(self) -> InputContainer:
        try:
            container = self._stack.enter_context(closing(av.open(self._input, mode="r", options=self._options)))
        except (av.error.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise MediaError(f"cannot read {self.name}: {reason}; give a media file that FFmpeg can read") from error
        return container

    def _select_tracks(self) -> dict[int, _SourceTrack]:
        selected: dict[int, _SourceTrack] = {}
        for stream in self._container.streams:
            if stream.type not in ("video", "audio") or stream.disposition & Disposition.attached_pic:
                continue
            if stream.codec_context is None or len(selected) >= TRACKS_MAX:
                continue
            converter = PassThrough(stream) if passes_through(stream) else Transcoder(stream)
            selected[stream.index] = _SourceTrack(len(selected), converter)
        if not selected:
            raise MediaError(f"{self.name} contains neither video nor audio; give a media file")
        return selected

    def _probe(self) -> None:
        """Reads until the format of every track is known; keeps the frames and drops tracks without a format."""
        for _ in range(PROBE_PACKETS_MAX):
            if all(each.converter.ready for each in self._selected.values()):
                return
            frames = next(self._packets, None)
            if frames is None:
                break
            self._probed += frames
        unknown = [index for index, each in self._selected.items() if not each.converter.ready]
        for index in unknown:
            del self._selected[index]
        if not self._selected:
            raise MediaError(f"{self.name} contains no decodable video or audio; give another file")
        renumber = {each.track: new for new, each in enumerate(self._selected.values())}
        self._probed = [replace(frame, track=renumber[frame.track]) for frame in self._probed]
        for new, each in enumerate(self._selected.values()):
            each.track = new

    def _rewind(self) -> None:
        """Opens the source again; the kinds of its tracks must not have changed."""
        self._stack.close()
        self._container = self._open()
        streams = {s.index: s.type for s in self._container.streams}
        if any(streams.get(index) != each.converter.format.kind for index, each in self._selected.items()):
            raise MediaError(f"{self.name} was changed while it was looped; publish it again")
        for index, each in self._selected.items():
            each.converter.restart(self._container.streams[index])
            each.last_dts_us = None
        self._packets = self._demux(self._container)

    def _demux(self, container: InputContainer) -> Iterator[list[EncodedFrame]]:
        streams = [container.streams[index] for index in self._selected]
        try:
            for packet in container.demux(streams):
                each = self._selected.get(packet.stream_index)
                if each is not None and packet.size:
                    yield self._convert(each, packet)
            for each in self._selected.values():
                yield self._convert(each, None)
        except (av.error.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise MediaError(f"reading {self.name} failed: {reason}") from error

    def _convert(self, each: _SourceTrack, packet: AvPacket[Stream] | None) -> list[EncodedFrame]:
        frames = []
        for converted in each.converter.convert(packet):
            dts_us = converted.dts_us
            if each.last_dts_us is not None and dts_us < each.last_dts_us:
                dts_us = each.last_dts_us
            each.last_dts_us = dts_us
            frames.append(
                EncodedFrame(
                    each.track,
                    converted.pts_us,
                    dts_us,
                    converted.duration_us,
                    converted.keyframe,
                    converted.payload,
                )
            )
        return frames

    def _in_order(self) -> Iterator[EncodedFrame]:
        """The frames of all tracks sorted by decoding time, because containers may interleave tracks in long runs."""
        waiting: list[tuple[int, int, EncodedFrame]] = []
        counter = 0
        newest_us: dict[int, int] = {}
        batch: list[EncodedFrame] | None = self._probed
        while batch is not None:
            for frame in batch:
                heapq.heappush(waiting, (frame.dts_us, counter, frame))
                counter += 1
                newest_us[frame.track] = frame.dts_us
            all_seen = len(newest_us) == len(self._selected)
            safe_us = min(newest_us.values(), default=0) if all_seen else None
            late_us = max(newest_us.values(), default=0) - REORDER_US
            while waiting and (waiting[0][0] <= late_us or (safe_us is not None and waiting[0][0] <= safe_us)):
                yield heapq.heappop(waiting)[2]
            batch = next(self._packets, None)
        self._probed = []
        while waiting:
            yield heapq.heappop(waiting)[2]
