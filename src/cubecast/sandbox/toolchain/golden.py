"""Golden files: recordings of an extension's input and output, which `check` replays and compares.

They hold the frames that crossed the interface, decoded ones included, so they do not depend on codecs or their versions.
"""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from cubecast.errors import ExtensionRefused
from cubecast.frames import EncodedFrame, TrackFormat
from cubecast.sandbox.abi import EventKind
from cubecast.sandbox.frame_exchange import Batch
from cubecast.sandbox.loading import Extension
from cubecast.sandbox.supervision import Instance

SUFFIX = ".golden"
FILE_BYTES_MAX = 8 * 2**20
"""Maximum size of a golden file that is written, bytes; golden files are kept in repositories."""
CONTENT_BYTES_MAX = 256 * 2**20
"""Maximum size of a golden file when decompressed, bytes; it protects against compression bombs."""
STEPS_MAX = 10_000
"""Maximum number of calls in a recording; later calls are not recorded."""


class Step(msgspec.Struct, frozen=True, array_like=True):
    """One call: input frames, or an event if `kind` is above 0; and the frames emitted."""

    given: tuple[EncodedFrame, ...]
    emitted: tuple[EncodedFrame, ...]
    kind: int = 0
    time_us: int = 0
    value: float = 0.0


class Golden(msgspec.Struct, frozen=True):
    """A recording: the input's tracks and settings, the tracks emitted, and all calls."""

    name: str
    tracks: tuple[TrackFormat, ...]
    config: dict[str, str]
    emitted: tuple[TrackFormat, ...]
    steps: Annotated[tuple[Step, ...], Meta(max_length=STEPS_MAX)]


class RecordedInstance:
    """An instance whose calls are recorded; implements Instance."""

    def __init__(self, instance: Instance, tracks: Sequence[TrackFormat], config: Mapping[str, str]) -> None:
        self._instance, self._config, self._inputs = instance, dict(config), tuple(tracks)
        self.tracks = instance.tracks
        self._steps: list[Step] = []

    def process(self, frames: Sequence[EncodedFrame]) -> Batch:
        """See Instance."""
        batch = self._instance.process(frames)
        self._record(Step(tuple(frames), tuple(batch.frames)))
        return batch

    def on_event(self, kind: EventKind, time_us: int, value: float) -> list[EncodedFrame]:
        """See Instance."""
        out = self._instance.on_event(kind, time_us, value)
        self._record(Step((), tuple(out), int(kind), time_us, value))
        return out

    def memory_bytes(self) -> int:
        """See Instance."""
        return self._instance.memory_bytes()

    def close(self) -> None:
        """See Instance."""
        self._instance.close()

    def golden(self, name: str) -> Golden:
        """The recording so far, under this name."""
        return Golden(name, self._inputs, self._config, self.tracks, tuple(self._steps))

    def _record(self, step: Step) -> None:
        if len(self._steps) < STEPS_MAX:
            self._steps.append(step)


def save(golden: Golden, file: Path) -> None:
    """Writes a golden file.

    Raises:
        ExtensionRefused: it would be larger than FILE_BYTES_MAX, or cannot be written.
    """
    content = zlib.compress(msgspec.msgpack.encode(golden), 9)
    if len(content) > FILE_BYTES_MAX:
        raise ExtensionRefused(
            f"{file} would have {len(content)} bytes, at most {FILE_BYTES_MAX} are allowed; record a shorter or smaller input"
        )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    except OSError as error:
        raise ExtensionRefused(f"cannot write {file}: {error.strerror}") from error


def replay(extension: Extension, file: Path) -> None:
    """Repeats the calls of a golden file on a new instance and compares what it emits.

    Raises:
        ExtensionRefused: it emits something else, or the file cannot be read.
        ExtensionFailed: the extension failed.
    """
    golden = _load(file)
    instance = extension.make(golden.tracks, golden.config)
    try:
        if instance.tracks != golden.emitted:
            raise ExtensionRefused(f"{file.name}: the extension describes other tracks than those recorded")
        for number, step in enumerate(golden.steps):
            if step.kind:
                emitted = instance.on_event(EventKind(step.kind), step.time_us, step.value)
            else:
                emitted = instance.process(step.given).frames
            if tuple(emitted) != step.emitted:
                raise ExtensionRefused(f"{file.name}: call {number} emits something else than recorded")
    finally:
        instance.close()


def _load(file: Path) -> Golden:
    try:
        raw = file.read_bytes()
        unpack = zlib.decompressobj()
        content = unpack.decompress(raw, CONTENT_BYTES_MAX)
        if not unpack.eof:
            raise ValueError("it is truncated or too large")
        golden = msgspec.msgpack.decode(content, type=Golden)
        if any(step.kind and step.kind not in set(EventKind) for step in golden.steps):
            raise ValueError("it holds an unknown event")
    except OSError as error:
        raise ExtensionRefused(f"cannot read {file}: {error.strerror}") from error
    except (zlib.error, ValueError, RecursionError) as error:
        raise ExtensionRefused(
            f"{file} is not a golden file; record it again with cubecast extension run --golden"
        ) from error
    return golden
