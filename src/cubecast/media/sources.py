"""Sources: any file, stream or pipe FFmpeg demuxes, as encoded frames in decoding order.

Codecs that MoQ media tracks carry pass through untouched; others are transcoded to H.264 and AAC, and `notes` says so.
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
"""Packets read before a track must have told its format."""
REORDER_US = 500_000
"""Packets of different tracks are put in order of decoding time over at most this span."""
TRACKS_MAX = 16
STDIN = "pipe:0"
STDIN_OPTIONS = {"analyzeduration": "1500000"}
"""A live pipe is probed for 1.5 s of media; FFmpeg's 5 s would be that much silence at the start."""


@dataclass(slots=True)
class _Lane:
    """One track on its way from packets to frames."""

    track: int
    converter: PassThrough | Transcoder
    last_dts_us: int | None = None


class MediaSource:
    """An open source. Use as a context manager; `frames` may be iterated once."""

    def __init__(self, location: str, loop: bool = False) -> None:
        """Opens and probes the source.

        Args:
            location: a path or URL FFmpeg knows, or `-` for standard input.
            loop: start again at the end, times going on.

        Raises:
            MediaError: it cannot be opened, or holds neither video nor audio.
        """
        self.name = "standard input" if location == "-" else location
        self._input, self._options = (STDIN, STDIN_OPTIONS) if location == "-" else (location, {})
        self._loop = loop
        self._stack = ExitStack()
        self._container = self._open()
        self._lanes = self._make_lanes()
        self._head: list[EncodedFrame] = []
        self._packets = self._demux(self._container)
        self._probe()
        self.tracks = tuple(lane.converter.format for lane in self._lanes.values())
        self.notes = tuple(lane.converter.note for lane in self._lanes.values() if lane.converter.note)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the file."""
        self._stack.close()

    def frames(self) -> Iterator[EncodedFrame]:
        """Every frame, times shifted so that the earliest of a whole source is 0.

        Raises:
            MediaError: the source broke in the middle.
        """
        offset_us = 0
        while True:
            end_us = 0
            shift_us: int | None = None
            for frame in self._in_order():
                if shift_us is None:
                    shift_us = offset_us - min(frame.dts_us, frame.pts_us)  # the first to decode is the earliest
                shifted = replace(frame, pts_us=frame.pts_us + shift_us, dts_us=frame.dts_us + shift_us)
                end_us = max(end_us, shifted.pts_us + max(shifted.duration_us, 1))
                yield shifted
            if not self._loop or shift_us is None:
                return
            offset_us = end_us
            self._rewind()

    # ------------------------------------------------------------------ opening

    def _open(self) -> InputContainer:
        try:
            container = self._stack.enter_context(closing(av.open(self._input, mode="r", options=self._options)))
        except (av.error.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise MediaError(f"cannot read {self.name}: {reason}; give a media file FFmpeg knows") from error
        return container

    def _make_lanes(self) -> dict[int, _Lane]:
        lanes: dict[int, _Lane] = {}
        for stream in self._container.streams:
            if stream.type not in ("video", "audio") or stream.disposition & Disposition.attached_pic:
                continue
            if stream.codec_context is None or len(lanes) >= TRACKS_MAX:
                continue
            converter = PassThrough(stream) if passes_through(stream) else Transcoder(stream)
            lanes[stream.index] = _Lane(len(lanes), converter)
        if not lanes:
            raise MediaError(f"{self.name} holds neither video nor audio; give a media file")
        return lanes

    def _probe(self) -> None:
        """Reads until every track has told its format, keeping the frames."""
        for _ in range(PROBE_PACKETS_MAX):
            if all(lane.converter.ready for lane in self._lanes.values()):
                return
            frames = next(self._packets, None)
            if frames is None:
                break
            self._head += frames
        silent = [index for index, lane in self._lanes.items() if not lane.converter.ready]
        for index in silent:
            del self._lanes[index]
        if not self._lanes:
            raise MediaError(f"{self.name} holds no decodable video or audio; give another file")
        renumber = {lane.track: new for new, lane in enumerate(self._lanes.values())}
        self._head = [replace(frame, track=renumber[frame.track]) for frame in self._head]
        for new, lane in enumerate(self._lanes.values()):
            lane.track = new

    def _rewind(self) -> None:
        """Opens the source again; formats must not change between rounds."""
        self._stack.close()
        self._container = self._open()
        streams = {s.index: s.type for s in self._container.streams}
        if any(streams.get(index) != lane.converter.format.kind for index, lane in self._lanes.items()):
            raise MediaError(f"{self.name} was changed while it was looped; publish it anew")
        for index, lane in self._lanes.items():
            lane.converter.restart(self._container.streams[index])
            lane.last_dts_us = None
        self._packets = self._demux(self._container)

    # ------------------------------------------------------------------ reading

    def _demux(self, container: InputContainer) -> Iterator[list[EncodedFrame]]:
        streams = [container.streams[index] for index in self._lanes]
        try:
            for packet in container.demux(streams):
                lane = self._lanes.get(packet.stream_index)
                if lane is not None and packet.size:
                    yield self._convert(lane, packet)
            for lane in self._lanes.values():
                yield self._convert(lane, None)
        except (av.error.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise MediaError(f"{self.name} broke while it was read: {reason}") from error

    def _convert(self, lane: _Lane, packet: AvPacket[Stream] | None) -> list[EncodedFrame]:
        frames = []
        for converted in lane.converter.convert(packet):
            dts_us = converted.dts_us
            if lane.last_dts_us is not None and dts_us < lane.last_dts_us:
                dts_us = lane.last_dts_us
            lane.last_dts_us = dts_us
            frames.append(
                EncodedFrame(
                    lane.track,
                    converted.pts_us,
                    dts_us,
                    converted.duration_us,
                    converted.keyframe,
                    converted.payload,
                )
            )
        return frames

    def _in_order(self) -> Iterator[EncodedFrame]:
        """Frames of all tracks by decoding time: containers may interleave coarsely."""
        waiting: list[tuple[int, int, EncodedFrame]] = []
        counter = 0
        newest_us: dict[int, int] = {}
        batch: list[EncodedFrame] | None = self._head
        while batch is not None:
            for frame in batch:
                heapq.heappush(waiting, (frame.dts_us, counter, frame))
                counter += 1
                newest_us[frame.track] = frame.dts_us
            all_seen = len(newest_us) == len(self._lanes)
            safe_us = min(newest_us.values(), default=0) if all_seen else None
            late_us = max(newest_us.values(), default=0) - REORDER_US
            while waiting and (waiting[0][0] <= late_us or (safe_us is not None and waiting[0][0] <= safe_us)):
                yield heapq.heappop(waiting)[2]
            batch = next(self._packets, None)
        self._head = []
        while waiting:
            yield heapq.heappop(waiting)[2]
