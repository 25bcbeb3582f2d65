"""The time an extension takes for a frame, for its author: called alone, in batches, and against a native build."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from cubecast.errors import ExtensionFailed, UsageError
from cubecast.frames import EncodedFrame, TrackFormat
from cubecast.media.sources import MediaSource
from cubecast.processing.pipeline import Pipeline
from cubecast.sandbox.abi import EventKind
from cubecast.sandbox.frame_exchange import Batch
from cubecast.sandbox.loading import Extension
from cubecast.sandbox.supervision import Instance

FRAMES_MAX = 256
"""Maximum number of frames given to the extension; more would make a round longer."""
BYTES_MAX = 128 << 20
"""Maximum size of the extension's input that is kept for the rounds, bytes: bounds memory."""
ROUNDS = 5
"""Rounds of each measurement; the fastest counts, since other load on the machine makes the others slower."""
BATCH = 16
"""Number of frames in a batch."""


@dataclass(frozen=True)
class FrameCost:
    """Microseconds for a frame, best of ROUNDS.

    Attributes:
        frames: number of frames that the extension was given.
        alone_us: with one call for each frame, as for live frames.
        batch_us: with BATCH frames in a call.
        native_us: with BATCH frames in a call to the native build; None without one.
    """

    frames: int
    alone_us: float
    batch_us: float
    native_us: float | None

    @property
    def ratio(self) -> float | None:
        """Time in the sandbox relative to native code, both in batches; None without a native build."""
        return None if self.native_us is None else self.batch_us / self.native_us


def frame_cost(extension: Extension, native: Extension | None, file: str, config: Mapping[str, str]) -> FrameCost:
    """Measures with the first frames of a media file, decoded first if the extension processes decoded frames.

    Raises:
        MediaError: the file cannot be read.
        ExtensionRefused: the extension does not accept the file's tracks or the settings.
        ExtensionFailed: a call failed.
        UsageError: the native build is of another extension, or the file has no frames that the extension processes.
    """
    if native is not None and native.manifest.name != extension.manifest.name:
        raise UsageError(
            f"--native is a build of {native.manifest.name}, not of {extension.manifest.name}; give a build of the same source"
        )
    frames, tracks = _frames_given(extension, file, config)
    if not frames:
        raise UsageError(f"{file} holds no frames that {extension.manifest.name} processes; give another file")
    candidates = [(extension, 1), (extension, BATCH)] + ([] if native is None else [(native, BATCH)])
    best = [float("inf")] * len(candidates)
    for _ in range(ROUNDS):
        for number, (candidate, batch) in enumerate(candidates):
            best[number] = min(best[number], _round_us(candidate, tracks, config, frames, batch))
    return FrameCost(len(frames), best[0], best[1], best[2] if native is not None else None)


class _RecordedInstance:
    """An instance that keeps the frames it is given."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self.tracks = instance.tracks
        self.frames: list[EncodedFrame] = []

    def process(self, frames: Sequence[EncodedFrame]) -> Batch:
        """See Instance."""
        self.frames += frames
        return self._instance.process(frames)

    def on_event(self, kind: EventKind, time_us: int, value: float) -> list[EncodedFrame]:
        """See Instance."""
        return self._instance.on_event(kind, time_us, value)

    def memory_bytes(self) -> int:
        """See Instance."""
        return self._instance.memory_bytes()

    def close(self) -> None:
        """See Instance."""
        self._instance.close()


def _frames_given(
    extension: Extension, file: str, config: Mapping[str, str]
) -> tuple[list[EncodedFrame], Sequence[TrackFormat]]:
    """The frames of a file that the pipeline gives to an extension, and the tracks it announces to it."""
    made: list[_RecordedInstance] = []
    announced: list[Sequence[TrackFormat]] = []

    def make(tracks: Sequence[TrackFormat], settings: Mapping[str, str]) -> Instance:
        made.append(_RecordedInstance(extension.make(tracks, settings)))
        announced.append(tracks)
        return made[-1]

    with MediaSource(file) as source:
        pipeline = Pipeline(Extension(extension.manifest, make), source.tracks, config, perf_counter)
        try:
            for frame in source.frames():
                pipeline.push([frame])
                if pipeline.running.stats.failures:
                    raise ExtensionFailed(
                        "error", f"the extension failed on the file: {pipeline.running.stats.last_failure}"
                    )
                if len(made[-1].frames) >= FRAMES_MAX or pipeline.running.stats.bytes_in >= BYTES_MAX:
                    break
        finally:
            pipeline.close()
    return made[-1].frames, announced[-1]


def _round_us(
    extension: Extension,
    tracks: Sequence[TrackFormat],
    config: Mapping[str, str],
    frames: Sequence[EncodedFrame],
    batch: int,
) -> float:
    instance = extension.make(tracks, config)
    try:
        begun = perf_counter()
        for begin in range(0, len(frames), batch):
            instance.process(frames[begin : begin + batch])
        return (perf_counter() - begun) / len(frames) * 1e6
    finally:
        instance.close()
