"""The exchange of frames with an extension through its tables: the same for a sandboxed module and for trusted code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.frames import EncodedFrame, Kind, TrackFormat
from cubecast.sandbox.abi import FRAME, KEYFRAME, LAYOUT, TRACK, EventKind, Layout, Manifest

OUTPUT_BYTES_MAX = 64 * 2**20
"""Of one call."""
_I64, _U32 = 2**63 - 1, 2**32 - 1
_KINDS = {Kind.VIDEO: 0, Kind.AUDIO: 1, Kind.DATA: 2}


class Code(Protocol):
    """An extension's code and its memory; calls raise ExtensionFailed."""

    layout: Layout

    def memory(self) -> memoryview:
        """What offsets of tables count in, as it is now."""

    def payload(self, data: int, size: int) -> bytes | None:
        """Bytes that it points at; None where there are none."""

    def init(self, count: int) -> int:
        """See docs/abi.md."""

    def process_batch(self, count: int) -> int:
        """See docs/abi.md."""

    def on_event(self, kind: int, time_us: int, value: float) -> int:
        """See docs/abi.md; only where the manifest names events."""

    def memory_bytes(self) -> int:
        """What it takes."""

    def close(self) -> None:
        """Frees it; views of its memory are gone with it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a call gave.

    Attributes:
        frames: what the extension emitted.
        skipped: frames that were too large for its buffer and were not shown to it.
    """

    frames: list[EncodedFrame]
    skipped: list[EncodedFrame]


class Exchange:
    """One instance of an extension at work. After ExtensionFailed it is of no use any more."""

    def __init__(
        self, code: Code, manifest: Manifest, tracks: Sequence[TrackFormat], config: Mapping[str, str]
    ) -> None:
        """Initialises it.

        Args:
            tracks: of the stream it will be given.
            config: on top of the manifest's defaults.

        Raises:
            ExtensionRefused: it does not accept the tracks or the configuration.
            ExtensionFailed: it failed while it began.
        """
        self.manifest = manifest
        self._code = code
        self._layout = code.layout
        self.tracks = self._init(tracks, config)

    def process(self, frames: Sequence[EncodedFrame]) -> Batch:
        """Gives it frames, as many calls as they need.

        Raises:
            ExtensionFailed: it trapped, took too long, gave an error, or what it emitted makes no sense.
        """
        emitted: list[EncodedFrame] = []
        skipped: list[EncodedFrame] = []
        begin = 0
        while begin < len(frames):
            count = lay(self._code, frames[begin : begin + self._layout.frames_in_max])
            if count:
                emitted += self._emitted("process_batch", self._code.process_batch(count))
            else:
                skipped.append(frames[begin])
            begin += max(1, count)
        return Batch(emitted, skipped)

    def on_event(self, kind: EventKind, time_us: int, value: float) -> list[EncodedFrame]:
        """Tells it of an event; it may emit frames.

        Raises:
            ExtensionFailed: as process.
        """
        if kind not in self.manifest.event_kinds():
            return []
        return self._emitted("on_event", self._code.on_event(int(kind), time_us, value))

    def memory_bytes(self) -> int:
        """Its linear memory now."""
        return self._code.memory_bytes()

    def close(self) -> None:
        """Frees its memory."""
        self._code.close()

    def _emitted(self, name: str, count: int) -> list[EncodedFrame]:
        if count < 0:
            raise ExtensionFailed("error", f"{name} gave error {count}")
        if count > self._layout.frames_out_max:
            raise ExtensionFailed("output", f"{name} says {count} frames; its table has room for fewer")
        view = self._code.memory()
        frames, total = [], 0
        for pts_us, dts_us, duration_us, data, size, track, flags in np.frombuffer(
            view, FRAME, count, self._layout.frames_out
        ).tolist():
            total += size
            if track >= len(self.tracks):
                raise ExtensionFailed("output", f"{name} emitted a frame of track {track}; it has {len(self.tracks)}")
            if total > OUTPUT_BYTES_MAX:
                raise ExtensionFailed("output", f"{name} emitted more than {OUTPUT_BYTES_MAX} bytes at once")
            payload = self._code.payload(data, size)
            if payload is None:
                raise ExtensionFailed("output", f"{name} emitted a frame that lies outside its memory")
            frames.append(EncodedFrame(track, pts_us, dts_us, duration_us, bool(flags & KEYFRAME), payload))
        return frames

    def _init(self, tracks: Sequence[TrackFormat], config: Mapping[str, str]) -> tuple[TrackFormat, ...]:
        manifest, layout = self.manifest, self._layout
        if unknown := sorted(set(config) - set(manifest.config)):
            known = f"it knows {', '.join(sorted(manifest.config))}" if manifest.config else "it knows none"
            raise ExtensionRefused(f"there is no setting {unknown[0]!r}; {known}")
        text = "".join(f"{key}={value}\n" for key, value in ({**manifest.config, **config}).items()).encode()
        if len(tracks) > layout.tracks_max:
            raise ExtensionRefused(f"the stream has {len(tracks)} tracks; it has room for {layout.tracks_max}")
        if len(text) > layout.bytes_in_max:
            raise ExtensionRefused(f"the configuration has {len(text)} bytes; it has room for {layout.bytes_in_max}")
        view = self._code.memory()
        view[layout.bytes_in : layout.bytes_in + len(text)] = text
        rows = np.frombuffer(view, TRACK, layout.tracks_max, layout.tracks)
        rows[: len(tracks)] = [_row(track) for track in tracks]
        np.frombuffer(view, LAYOUT, 1, layout.at)["track_count"] = len(tracks)
        said = self._code.init(len(text))
        if said:
            raise ExtensionRefused(f"it does not accept this configuration or these tracks (init gave {said})")
        view = self._code.memory()
        count = int(np.frombuffer(view, LAYOUT, 1, layout.at)["track_count"][0])
        if not 0 < count <= layout.tracks_max:
            raise ExtensionRefused(f"it says it emits {count} tracks; 1..{layout.tracks_max} are allowed")
        rows = np.frombuffer(view, TRACK, count, layout.tracks)
        return tuple(_format(row, tracks[n] if n < len(tracks) else None) for n, row in enumerate(rows))


def lay(code: Code, frames: Sequence[EncodedFrame]) -> int:
    """Lays as many frames as fit into an extension's tables; how many: 0 when the first is too large."""
    layout, view = code.layout, code.memory()
    rows = []
    at, end = layout.bytes_in, layout.bytes_in + layout.bytes_in_max
    for frame in frames:
        size = len(frame.payload)
        if at + size > end:
            break
        view[at : at + size] = frame.payload
        flags = KEYFRAME if frame.keyframe else 0
        rows.append((frame.pts_us, frame.dts_us, frame.duration_us, at, size, frame.track, flags))
        at += -(-size // 16) * 16  # aligned for SIMD
    if rows:
        table = np.frombuffer(view, FRAME, len(rows), layout.frames_in)
        try:
            table[:] = rows
        except OverflowError:  # a publisher's times may be any number
            table[:] = [(_i64(pts), _i64(dts), max(0, min(_U32, us)), *rest) for pts, dts, us, *rest in rows]
    return len(rows)


def _i64(value: int) -> int:
    return max(-_I64, min(_I64, value))


def _row(track: TrackFormat) -> tuple[object, ...]:
    return (
        _KINDS[track.kind], track.codec.encode(), track.width, track.height, track.frame_rate,
        track.sample_rate, track.channels,
    )  # fmt: skip


def _format(row: np.void, before: TrackFormat | None) -> TrackFormat:
    """A track as the extension describes it; the codec's configuration stays where the track has not changed."""
    kinds = {number: kind for kind, number in _KINDS.items()}
    codec = bytes(row["codec"])
    if int(row["kind"]) not in kinds or (not codec.isalnum() and not codec.replace(b"_", b"").isalnum()):
        raise ExtensionRefused("it describes a track without a kind or codec")
    if not 0 <= float(row["frame_rate"]) < 10_000:
        raise ExtensionRefused("it describes a track with an impossible frame rate")
    made = TrackFormat(
        kinds[int(row["kind"])], codec.decode("ascii"), b"", int(row["width"]), int(row["height"]),
        float(row["frame_rate"]), int(row["sample_rate"]), int(row["channels"]),
    )  # fmt: skip
    return before if before is not None and np.array([_row(before)], TRACK)[0] == row else made
