"""One instance of a module in a store of its own: memory and table limits, deadlines, and the batch call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from wasmtime import Func, Instance, Memory, Module, Store, Trap, WasmtimeError

from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.frames import EncodedFrame, Kind, TrackFormat
from cubecast.sandbox.abi import FRAME, KEYFRAME, LAYOUT, TRACK, EventKind, Manifest, read_layout
from cubecast.sandbox.calls import BoundCall, Parameters, failure_of, memory_view
from cubecast.sandbox.machine import engine, ticks_of

TABLE_ELEMENTS_MAX = 100_000
INIT_MS = 100.0
"""Start and init may take so long."""
OUTPUT_BYTES_MAX = 64 * 2**20
"""Of one call."""
_KINDS = {Kind.VIDEO: 0, Kind.AUDIO: 1, Kind.DATA: 2}


@dataclass(frozen=True, slots=True)
class Batch:
    """What a call gave.

    Attributes:
        frames: what the extension emitted.
        skipped: frames that were too large for its buffer and were not shown to it.
    """

    frames: list[EncodedFrame]
    skipped: list[EncodedFrame]


class ModuleInstance:
    """A module with its memory. After ExtensionFailed it is of no use any more."""

    def __init__(
        self, module: Module, manifest: Manifest, tracks: Sequence[TrackFormat], config: Mapping[str, str]
    ) -> None:
        """Instantiates and initialises it.

        Args:
            tracks: of the stream it will be given.
            config: on top of the manifest's defaults.

        Raises:
            ExtensionRefused: it lacks an export, has a wrong one, or does not accept the configuration.
            ExtensionFailed: it trapped or took too long while it began.
        """
        self.manifest = manifest
        self._store = Store(engine())
        self._store.set_limits(manifest.memory_mib * 2**20, TABLE_ELEMENTS_MAX, 1, 4, 1)
        self._store.set_epoch_deadline(ticks_of(INIT_MS))
        try:
            self._instance = Instance(self._store, module, [])
        except Trap as trap:
            raise failure_of("its start", trap) from trap
        except WasmtimeError as error:
            raise ExtensionRefused(
                f"it cannot be instantiated: {str(error).strip().splitlines()[-1].strip()}"
            ) from error
        memory = self._instance.exports(self._store).get("memory")
        if not isinstance(memory, Memory):
            raise ExtensionRefused("it does not export its memory")
        self._memory = memory
        self._view = memory_view(self._store, memory)
        self._layout = read_layout(self._view, self._bound("cubecast_layout", (), INIT_MS)())
        self._process = self._bound("process_batch", ("i",), manifest.deadline_ms)
        self._event = self._bound("on_event", ("i", "q", "d"), manifest.deadline_ms) if manifest.events else None
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
            count = self._fill(frames, begin)
            if count:
                emitted += self._emitted("process_batch", self._process(count))
            else:
                skipped.append(frames[begin])
            begin += max(1, count)
        return Batch(emitted, skipped)

    def on_event(self, kind: EventKind, time_us: int, value: float) -> list[EncodedFrame]:
        """Tells it of an event; it may emit frames.

        Raises:
            ExtensionFailed: as process.
        """
        return self._emitted("on_event", self._event(kind, time_us, value)) if self._event is not None else []

    def memory_bytes(self) -> int:
        """Its linear memory now."""
        return int(self._memory.data_len(self._store))

    def close(self) -> None:
        """Frees its memory; views of it are gone with it."""
        self._store.close()

    def _fill(self, frames: Sequence[EncodedFrame], begin: int) -> int:
        """Lays as many frames as fit into its buffers; how many: 0 when the first is too large."""
        layout, view = self._layout, self._memory_now()
        most = min(len(frames) - begin, layout.frames_in_max)
        rows = []
        at, end = layout.bytes_in, layout.bytes_in + layout.bytes_in_max
        for frame in frames[begin : begin + most]:
            size = len(frame.payload)
            if at + size > end:
                break
            view[at : at + size] = frame.payload
            flags = KEYFRAME if frame.keyframe else 0
            rows.append((frame.pts_us, frame.dts_us, frame.duration_us, at, size, frame.track, flags))
            at += -(-size // 16) * 16  # aligned for SIMD
        if rows:
            np.frombuffer(view, FRAME, len(rows), layout.frames_in)[:] = rows
        return len(rows)

    def _emitted(self, name: str, count: int) -> list[EncodedFrame]:
        if count < 0:
            raise ExtensionFailed("error", f"{name} gave error {count}")
        if count > self._layout.frames_out_max:
            raise ExtensionFailed("output", f"{name} says {count} frames; its table has room for fewer")
        view = self._memory_now()
        frames, total = [], 0
        for pts_us, dts_us, duration_us, data, size, track, flags in np.frombuffer(
            view, FRAME, count, self._layout.frames_out
        ).tolist():
            total += size
            if data + size > len(view):
                raise ExtensionFailed("output", f"{name} emitted a frame that lies outside its memory")
            if track >= len(self.tracks):
                raise ExtensionFailed("output", f"{name} emitted a frame of track {track}; it has {len(self.tracks)}")
            if total > OUTPUT_BYTES_MAX:
                raise ExtensionFailed("output", f"{name} emitted more than {OUTPUT_BYTES_MAX} bytes at once")
            payload = bytes(view[data : data + size])
            frames.append(EncodedFrame(track, pts_us, dts_us, duration_us, bool(flags & KEYFRAME), payload))
        return frames

    def _memory_now(self) -> memoryview:
        """Its memory; viewed anew when it has grown."""
        if self._memory.data_len(self._store) != len(self._view):
            self._view = memory_view(self._store, self._memory)
        return self._view

    def _bound(self, name: str, parameters: Parameters, deadline_ms: float) -> BoundCall:
        function = self._instance.exports(self._store).get(name)
        if not isinstance(function, Func):
            raise ExtensionRefused(f"it does not export the function {name}")
        return BoundCall(self._store, function, name, parameters, ticks_of(deadline_ms))

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
        view = self._memory_now()
        view[layout.bytes_in : layout.bytes_in + len(text)] = text
        rows = np.frombuffer(view, TRACK, layout.tracks_max, layout.tracks)
        rows[: len(tracks)] = [_row(track) for track in tracks]
        np.frombuffer(view, LAYOUT, 1, layout.at)["track_count"] = len(tracks)
        said = self._bound("init", ("i",), INIT_MS)(len(text))
        if said:
            raise ExtensionRefused(f"it does not accept this configuration or these tracks (init gave {said})")
        view = self._memory_now()
        count = int(np.frombuffer(view, LAYOUT, 1, layout.at)["track_count"][0])
        if not 0 < count <= layout.tracks_max:
            raise ExtensionRefused(f"it says it emits {count} tracks; 1..{layout.tracks_max} are allowed")
        rows = np.frombuffer(view, TRACK, count, layout.tracks)
        return tuple(_format(row, tracks[n] if n < len(tracks) else None) for n, row in enumerate(rows))


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
