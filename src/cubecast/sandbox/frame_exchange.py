"""Exchanges frames with an extension through its tables; the same for sandboxed modules and trusted native code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.frames import EncodedFrame, Kind, TrackFormat
from cubecast.sandbox.abi import FRAME, KEYFRAME, LAYOUT, TRACK, EventKind, Layout, Manifest

OUTPUT_BYTES_MAX = 64 * 2**20
"""Maximum total payload that one call may emit, bytes; rows may point at the same bytes, so the memory limit is no bound."""
_I64_MAX = 2**63 - 1
"""Largest number of a time in a table."""
_U32_MAX = 2**32 - 1
"""Largest number of a duration in a table."""
_KIND_NUMBERS = {Kind.VIDEO: 0, Kind.AUDIO: 1, Kind.DATA: 2}


class Code(Protocol):
    """Code and memory of an extension; its calls are described in docs/abi.md and raise ExtensionFailed."""

    layout: Layout
    """Places and sizes of its tables."""

    def memory(self) -> memoryview:
        """The memory that the tables lie in, at its current size; offsets count from its start."""

    def payload(self, data: int, size: int) -> bytes | None:
        """`size` bytes at offset `data`; None if they lie outside its memory."""

    def init(self, count: int) -> int:
        """Reads `count` bytes of settings and the track table; returns 0 or an error number."""

    def process_batch(self, count: int) -> int:
        """Processes `count` frames; returns the number of frames emitted, or a negative error number."""

    def on_event(self, kind: int, time_us: int, value: float) -> int:
        """Handles an event, as process_batch; present only if the manifest names events."""

    def memory_bytes(self) -> int:
        """Size of its memory, bytes."""

    def close(self) -> None:
        """Frees its memory; views of it become invalid."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Result of processing frames.

    Attributes:
        frames: frames that the extension emitted.
        skipped: input frames that were larger than its byte buffer, so that it did not receive them.
    """

    frames: list[EncodedFrame]
    skipped: list[EncodedFrame]


class Exchange:
    """One instance of an extension. After ExtensionFailed it can only be closed."""

    def __init__(
        self, code: Code, manifest: Manifest, tracks: Sequence[TrackFormat], config: Mapping[str, str]
    ) -> None:
        """Initialises the extension.

        Args:
            tracks: tracks of the stream that it will process.
            config: settings on top of the manifest's defaults.

        Raises:
            ExtensionRefused: it does not accept the tracks or the configuration.
            ExtensionFailed: it failed during initialisation.
        """
        self.manifest = manifest
        self._code = code
        self._layout = code.layout
        self.tracks = self._init(tracks, config)

    def process(self, frames: Sequence[EncodedFrame]) -> Batch:
        """Processes frames, in as many calls as its buffers require.

        Raises:
            ExtensionFailed: it trapped, missed its deadline, returned an error, or emitted invalid frames.
        """
        emitted: list[EncodedFrame] = []
        skipped: list[EncodedFrame] = []
        begin = 0
        while begin < len(frames):
            count = fill_input(self._code, frames[begin : begin + self._layout.frames_in_max])
            if count:
                emitted += self._emitted("process_batch", self._code.process_batch(count))
            else:
                skipped.append(frames[begin])
            begin += max(1, count)
        return Batch(emitted, skipped)

    def on_event(self, kind: EventKind, time_us: int, value: float) -> list[EncodedFrame]:
        """Delivers an event and returns the frames emitted; an event that the manifest does not name is ignored.

        Raises:
            ExtensionFailed: as process.
        """
        if kind not in self.manifest.event_kinds():
            return []
        return self._emitted("on_event", self._code.on_event(int(kind), time_us, value))

    def memory_bytes(self) -> int:
        """Current size of its memory, bytes."""
        return self._code.memory_bytes()

    def close(self) -> None:
        """Frees its memory."""
        self._code.close()

    def _emitted(self, name: str, count: int) -> list[EncodedFrame]:
        if count < 0:
            raise ExtensionFailed("error", f"{name} returned error {count}")
        if count > self._layout.frames_out_max:
            raise ExtensionFailed(
                "output", f"{name} returned {count} frames; its table holds at most {self._layout.frames_out_max}"
            )
        view = self._code.memory()
        frames, total = [], 0
        for pts_us, dts_us, duration_us, data, size, track, flags in np.frombuffer(
            view, FRAME, count, self._layout.frames_out
        ).tolist():
            total += size
            if track >= len(self.tracks):
                raise ExtensionFailed(
                    "output", f"{name} emitted a frame of track {track}; there are {len(self.tracks)} tracks"
                )
            if total > OUTPUT_BYTES_MAX:
                raise ExtensionFailed("output", f"{name} emitted more than {OUTPUT_BYTES_MAX} bytes in one call")
            payload = self._code.payload(data, size)
            if payload is None:
                raise ExtensionFailed("output", f"{name} emitted a frame that lies outside its memory")
            frames.append(EncodedFrame(track, pts_us, dts_us, duration_us, bool(flags & KEYFRAME), payload))
        return frames

    def _init(self, tracks: Sequence[TrackFormat], config: Mapping[str, str]) -> tuple[TrackFormat, ...]:
        manifest, layout = self.manifest, self._layout
        if unknown := sorted(set(config) - set(manifest.config)):
            known = (
                f"its settings are {', '.join(sorted(manifest.config))}" if manifest.config else "it has no settings"
            )
            raise ExtensionRefused(f"there is no setting {unknown[0]!r}; {known}")
        text = "".join(f"{key}={value}\n" for key, value in ({**manifest.config, **config}).items()).encode()
        if len(tracks) > layout.tracks_max:
            raise ExtensionRefused(
                f"the stream has {len(tracks)} tracks; the extension accepts at most {layout.tracks_max}"
            )
        if len(text) > layout.bytes_in_max:
            raise ExtensionRefused(
                f"the configuration has {len(text)} bytes; the extension accepts at most {layout.bytes_in_max}"
            )
        view = self._code.memory()
        view[layout.bytes_in : layout.bytes_in + len(text)] = text
        rows = np.frombuffer(view, TRACK, layout.tracks_max, layout.tracks)
        rows[: len(tracks)] = [_row(track) for track in tracks]
        np.frombuffer(view, LAYOUT, 1, layout.at)["track_count"] = len(tracks)
        error = self._code.init(len(text))
        if error:
            raise ExtensionRefused(f"it does not accept this configuration or these tracks (init returned {error})")
        view = self._code.memory()
        count = int(np.frombuffer(view, LAYOUT, 1, layout.at)["track_count"][0])
        if not 0 < count <= layout.tracks_max:
            raise ExtensionRefused(f"it describes {count} tracks; 1 to {layout.tracks_max} are allowed")
        rows = np.frombuffer(view, TRACK, count, layout.tracks)
        return tuple(_format(row, tracks[n] if n < len(tracks) else None) for n, row in enumerate(rows))


def fill_input(code: Code, frames: Sequence[EncodedFrame]) -> int:
    """Writes as many frames as fit into an extension's input tables; returns their number, 0 if the first is too large."""
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
        except OverflowError:  # a publisher may send times outside the range of the table
            table[:] = [
                (_clamped(pts), _clamped(dts), max(0, min(_U32_MAX, us)), *rest) for pts, dts, us, *rest in rows
            ]
    return len(rows)


def _clamped(value: int) -> int:
    return max(-_I64_MAX, min(_I64_MAX, value))


def _row(track: TrackFormat) -> tuple[object, ...]:
    return (
        _KIND_NUMBERS[track.kind], track.codec.encode(), track.width, track.height, track.frame_rate,
        track.sample_rate, track.channels,
    )  # fmt: skip


def _format(row: np.void, before: TrackFormat | None) -> TrackFormat:
    """A row of the track table as a TrackFormat; if it equals the input's track `before`, that one, with its extradata."""
    kinds = {number: kind for kind, number in _KIND_NUMBERS.items()}
    codec = bytes(row["codec"])
    if int(row["kind"]) not in kinds or (not codec.isalnum() and not codec.replace(b"_", b"").isalnum()):
        raise ExtensionRefused("it describes a track with an invalid kind or codec")
    if not 0 <= float(row["frame_rate"]) < 10_000:
        raise ExtensionRefused("it describes a track with an impossible frame rate")
    described = TrackFormat(
        kinds[int(row["kind"])], codec.decode("ascii"), b"", int(row["width"]), int(row["height"]),
        float(row["frame_rate"]), int(row["sample_rate"]), int(row["channels"]),
    )  # fmt: skip
    return before if before is not None and np.array([_row(before)], TRACK)[0] == row else described
