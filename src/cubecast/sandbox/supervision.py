"""Runs one extension on one channel and recovers from its failures: a failure costs the instance, never the stream.

After a trap or a missed deadline the instance is discarded and the next batch goes to a new one. An extension that keeps
failing is suspended, each time for twice as long as before. The manifest's `failure` field decides what becomes of the
frames meanwhile: they bypass the extension, or the channel ends.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.frames import EncodedFrame, TrackFormat
from cubecast.sandbox.abi import EventKind, Failure, Manifest
from cubecast.sandbox.frame_exchange import Batch
from cubecast.sandbox.upcalls import Upcall, UpcallQueue

FAILURES_MAX = 3
"""Number of failures within FAILURES_S at which the extension is suspended."""
FAILURES_S = 10.0
"""Seconds for which a failure counts; as long without a failure resets the length of the next suspension."""
SUSPENSION_S = 1.0
"""Length of the first suspension in seconds; each further one is twice as long."""
SUSPENSION_S_MAX = 60.0
"""Greatest length of a suspension in seconds."""


class Instance(Protocol):
    """An extension's code with its state, ready to be called: a module in its sandbox, or trusted code."""

    tracks: tuple[TrackFormat, ...]
    """Tracks that it emits."""

    def process(self, frames: Sequence[EncodedFrame]) -> Batch:
        """Processes frames; raises ExtensionFailed."""

    def on_event(self, kind: EventKind, time_us: int, value: float) -> list[EncodedFrame]:
        """Handles an event and returns the frames it emits; raises ExtensionFailed."""

    def memory_bytes(self) -> int:
        """Memory that it uses now, in bytes."""

    def close(self) -> None:
        """Ends it and frees its memory."""


@dataclass(slots=True)
class ExtensionStats:
    """Work, failures and cost of an extension since it started."""

    frames_in: int = 0
    frames_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    calls: int = 0
    busy_s: float = 0.0
    """Time spent in calls, s."""
    traps: int = 0
    deadlines: int = 0
    errors: int = 0
    """Invalid results, and errors that the extension returned."""
    restarts: int = 0
    bypassed: int = 0
    """Frames forwarded unprocessed."""
    dropped: int = 0
    """Frames that could not be sent: unprocessed ones of a track whose format the extension changes, and emitted ones that their
    channel refused."""
    suspensions: int = 0
    last_failure: str = ""

    @property
    def failures(self) -> int:
        """Failures of all kinds."""
        return self.traps + self.deadlines + self.errors


@dataclass(slots=True)
class FailureBackoff:
    """Failure back-off: suspends an extension that fails often, each time for twice as long.

    Attributes:
        recent: times of the failures since the last suspension that still count; the newest is last.
        suspended_until: end of the last suspension.
        suspension_s: length of the next suspension.
    """

    recent: list[float] = field(default_factory=list)
    suspended_until: float = 0.0
    suspension_s: float = SUSPENSION_S

    def record_failure(self, now: float) -> bool:
        """Counts a failure; returns whether the extension is suspended because of it."""
        self.recent = [at for at in self.recent if at > now - FAILURES_S] + [now]
        if len(self.recent) < FAILURES_MAX:
            return False
        self.recent.clear()
        self.suspended_until = now + self.suspension_s
        self.suspension_s = min(SUSPENSION_S_MAX, 2 * self.suspension_s)
        return True

    def record_success(self, now: float) -> None:
        """Resets the suspension time if neither a failure nor a suspension fell into the last FAILURES_S."""
        last_trouble = self.recent[-1] if self.recent else self.suspended_until
        if now >= last_trouble + FAILURES_S:
            self.recent.clear()
            self.suspension_s = SUSPENSION_S


class RunningExtension:
    """One extension on one channel."""

    def __init__(
        self,
        manifest: Manifest,
        make: Callable[[Sequence[TrackFormat], Mapping[str, str]], Instance],
        tracks: Sequence[TrackFormat],
        config: Mapping[str, str],
        clock: Callable[[], float],
    ) -> None:
        """Makes the first instance.

        Args:
            make: makes an instance for these tracks and settings.
            tracks: tracks of the input.
            clock: monotonic, s.

        Raises:
            ExtensionRefused, ExtensionFailed: from `make`; an extension whose first instance fails is not used at all.
        """
        self.manifest = manifest
        self.stats = ExtensionStats()
        self.upcalls = UpcallQueue(manifest.event_kinds())
        self._make, self._inputs, self._config, self._clock = make, tuple(tracks), dict(config), clock
        self._backoff = FailureBackoff()
        self._instance: Instance | None = make(self._inputs, self._config)
        self.tracks = self._instance.tracks
        self._format_kept = tuple(
            number < len(self.tracks) and self.tracks[number] == track for number, track in enumerate(self._inputs)
        )

    @property
    def suspended(self) -> bool:
        """Whether it is suspended now because it failed too often."""
        return self._clock() < self._backoff.suspended_until

    def process(self, frames: Sequence[EncodedFrame]) -> list[EncodedFrame]:
        """Delivers the waiting events, then processes frames; returns what both emit, the events' frames first.

        Raises:
            ExtensionFailed: it failed, and its manifest says that the channel ends then.
        """
        stats = self.stats
        stats.frames_in += len(frames)
        stats.bytes_in += sum(len(frame.payload) for frame in frames)
        out = self._drain()
        instance = self._ready()
        if instance is None:
            out += self._bypass(frames)
        else:
            begun = self._clock()
            try:
                batch = instance.process(frames)
            except ExtensionFailed as error:
                self._failed(error)
                out += self._bypass(frames)
            else:
                self._backoff.record_success(begun)
                out = _merged(out + batch.frames, self._bypass(batch.skipped))
            stats.busy_s += self._clock() - begun
            stats.calls += 1
        self._count_out(out)
        return out

    def _drain(self) -> list[EncodedFrame]:
        out: list[EncodedFrame] = []
        for _ in range(len(self.upcalls)):
            instance = self._ready()
            upcall = None if instance is None else self.upcalls.take()
            if upcall is None or instance is None:
                break
            try:
                out += instance.on_event(upcall.kind, upcall.time_us, upcall.value)
            except ExtensionFailed as error:
                self._failed(error)
        return out

    def deliver(self, upcall: Upcall) -> list[EncodedFrame]:
        """Delivers an event now, after those that wait; returns the frames emitted.

        Raises:
            ExtensionFailed: as process.
        """
        self.upcalls.post(upcall)
        return self.deliver_waiting()

    def deliver_waiting(self) -> list[EncodedFrame]:
        """Delivers the events that wait; returns the frames emitted.

        Raises:
            ExtensionFailed: as process.
        """
        out = self._drain()
        self._count_out(out)
        return out

    def frame_refused(self, error: ExtensionFailed) -> None:
        """Counts a frame that it emitted and its channel refused; its state is not at fault, so the instance continues.

        Raises:
            ExtensionFailed: the error, if its manifest says that the channel ends then.
        """
        self.stats.errors += 1
        self.stats.dropped += 1
        self.stats.last_failure = str(error)
        if self.manifest.failure is Failure.STOP:
            raise error

    def close(self) -> None:
        """Closes the instance."""
        if self._instance is not None:
            self._instance.close()
            self._instance = None

    def _ready(self) -> Instance | None:
        """The instance, a new one after a failure; None while suspended."""
        if self._instance is None and not self.suspended:
            try:
                instance = self._make(self._inputs, self._config)
                if instance.tracks != self.tracks:
                    instance.close()
                    raise ExtensionFailed("error", "the new instance describes other tracks than the one before")
            except ExtensionFailed as error:
                self._failed(error)
            except ExtensionRefused as error:  # it started before: no memory now, for example
                self._failed(ExtensionFailed("error", str(error)))
            else:
                self._instance = instance
                self.stats.restarts += 1
        return self._instance

    def _failed(self, error: ExtensionFailed) -> None:
        stats = self.stats
        match error.kind:
            case "deadline":
                stats.deadlines += 1
            case "trap":
                stats.traps += 1
            case _:
                stats.errors += 1
        stats.last_failure = str(error)
        self.close()
        if self._backoff.record_failure(self._clock()):
            stats.suspensions += 1
        if self.manifest.failure is Failure.STOP:
            raise error

    def _bypass(self, frames: Sequence[EncodedFrame]) -> list[EncodedFrame]:
        """Frames that may be forwarded unprocessed: those of tracks whose format the extension keeps."""
        forwarded = [frame for frame in frames if self._format_kept[frame.track]]
        self.stats.bypassed += len(forwarded)
        self.stats.dropped += len(frames) - len(forwarded)
        return forwarded

    def _count_out(self, frames: Sequence[EncodedFrame]) -> None:
        self.stats.frames_out += len(frames)
        self.stats.bytes_out += sum(len(frame.payload) for frame in frames)


def _merged(frames: list[EncodedFrame], bypassed: list[EncodedFrame]) -> list[EncodedFrame]:
    """Processed and bypassed frames in one list, by decoding time: it may not go back within a track."""
    if not bypassed:
        return frames
    merged: list[EncodedFrame] = []
    waiting = list(bypassed)
    for frame in frames:
        while waiting and waiting[0].dts_us < frame.dts_us:
            merged.append(waiting.pop(0))
        merged.append(frame)
    return merged + waiting
