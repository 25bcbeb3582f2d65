"""An extension at work on one channel: its failures cost it its instance, never the stream.

A trap or a missed deadline throws the instance away, and a fresh one goes on with the next batch. One that fails again
and again is left aside for a while, twice as long each time. What becomes of the frames meanwhile its author chooses.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cubecast.errors import ExtensionFailed
from cubecast.frames import EncodedFrame, TrackFormat
from cubecast.sandbox.abi import EventKind, Failure, Manifest
from cubecast.sandbox.frame_exchange import Batch
from cubecast.sandbox.upcalls import Upcall, UpcallQueue

FAILURES_MAX, FAILURES_S = 3, 10.0
"""So many failures within so long, and it is left aside."""
ASIDE_S, ASIDE_S_MAX = 1.0, 60.0


class Instance(Protocol):
    """An extension's code, ready to be called: a module in its sandbox, or trusted code."""

    tracks: tuple[TrackFormat, ...]

    def process(self, frames: Sequence[EncodedFrame]) -> Batch:
        """Frames for frames; raises ExtensionFailed."""

    def on_event(self, kind: EventKind, time_us: int, value: float) -> list[EncodedFrame]:
        """An event; raises ExtensionFailed."""

    def memory_bytes(self) -> int:
        """What it takes now."""

    def close(self) -> None:
        """Ends it."""


@dataclass(slots=True)
class ExtensionStats:
    """What an extension has done, and what it has cost."""

    frames_in: int = 0
    frames_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    calls: int = 0
    busy_s: float = 0.0
    """In calls."""
    traps: int = 0
    deadlines: int = 0
    errors: int = 0
    """Results that made no sense, and errors it gave itself."""
    restarts: int = 0
    bypassed: int = 0
    """Frames that went on unprocessed."""
    dropped: int = 0
    """Frames that could not: their track changes its format, or were too large for it."""
    asides: int = 0
    """How often it was left aside."""
    last_failure: str = ""

    @property
    def failures(self) -> int:
        """Of all kinds."""
        return self.traps + self.deadlines + self.errors


@dataclass(slots=True)
class FailureBackoff:
    """How a failing extension is borne with."""

    recent: list[float] = field(default_factory=list)
    aside_until: float = 0.0
    aside_s: float = ASIDE_S

    def failed(self, now: float) -> bool:
        """Takes a failure in; whether the extension is left aside now."""
        self.recent = [at for at in self.recent if at > now - FAILURES_S] + [now]
        if len(self.recent) < FAILURES_MAX:
            return False
        self.recent.clear()
        self.aside_until = now + self.aside_s
        self.aside_s = min(ASIDE_S_MAX, 2 * self.aside_s)
        return True

    def did_well(self, now: float) -> None:
        """It worked for a while after its last failure: it is trusted again."""
        if now > self.aside_until + FAILURES_S and not self.recent:
            self.aside_s = ASIDE_S


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
        """Makes its first instance.

        Args:
            make: makes an instance; raises as it does.
            clock: monotonic, s.

        Raises:
            ExtensionRefused, ExtensionFailed: as `make`; an extension that cannot begin is not begun with.
        """
        self.manifest = manifest
        self.stats = ExtensionStats()
        self.upcalls = UpcallQueue(manifest.event_kinds())
        self._make, self._inputs, self._config, self._clock = make, tuple(tracks), dict(config), clock
        self._backoff = FailureBackoff()
        self._instance: Instance | None = make(self._inputs, self._config)
        self.tracks = self._instance.tracks
        self._kept = tuple(
            number < len(self.tracks) and self.tracks[number] == track for number, track in enumerate(self._inputs)
        )

    @property
    def aside(self) -> bool:
        """Whether it is left aside now, for it failed too often."""
        return self._clock() < self._backoff.aside_until

    def process(self, frames: Sequence[EncodedFrame]) -> list[EncodedFrame]:
        """What becomes of frames; what events made it emit comes first.

        Raises:
            ExtensionFailed: it failed, and its author wants the channel to end then.
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
                self._backoff.did_well(begun)
                out = _in_order(out + batch.frames, self._bypass(batch.skipped))
            stats.busy_s += self._clock() - begun
            stats.calls += 1
        self._count_out(out)
        return out

    def _drain(self) -> list[EncodedFrame]:
        out: list[EncodedFrame] = []
        for _ in range(len(self.upcalls)):
            upcall, instance = self.upcalls.take(), self._ready()
            if upcall is None or instance is None:
                break
            try:
                out += instance.on_event(upcall.kind, upcall.time_us, upcall.value)
            except ExtensionFailed as error:
                self._failed(error)
        return out

    def tell(self, upcall: Upcall) -> list[EncodedFrame]:
        """Tells it of an event now; what it emits.

        Raises:
            ExtensionFailed: as process.
        """
        self.upcalls.post(upcall)
        return self.deliver()

    def deliver(self) -> list[EncodedFrame]:
        """Tells it of the events that wait; what it emits.

        Raises:
            ExtensionFailed: as process.
        """
        out = self._drain()
        self._count_out(out)
        return out

    def close(self) -> None:
        """Ends its instance."""
        if self._instance is not None:
            self._instance.close()
            self._instance = None

    def _ready(self) -> Instance | None:
        """Its instance, made anew after a failure; None while it is left aside."""
        if self._instance is None and not self.aside:
            try:
                made = self._make(self._inputs, self._config)
                if made.tracks != self.tracks:
                    made.close()
                    raise ExtensionFailed("error", "a fresh instance describes other tracks than the one before")
            except ExtensionFailed as error:
                self._failed(error)
            else:
                self._instance = made
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
        if self._backoff.failed(self._clock()):
            stats.asides += 1
        if self.manifest.failure is Failure.STOP:
            raise error

    def _bypass(self, frames: Sequence[EncodedFrame]) -> list[EncodedFrame]:
        through = [frame for frame in frames if self._kept[frame.track]]
        self.stats.bypassed += len(through)
        self.stats.dropped += len(frames) - len(through)
        return through

    def _count_out(self, frames: Sequence[EncodedFrame]) -> None:
        self.stats.frames_out += len(frames)
        self.stats.bytes_out += sum(len(frame.payload) for frame in frames)


def _in_order(frames: list[EncodedFrame], late: list[EncodedFrame]) -> list[EncodedFrame]:
    """Frames with those that went past the extension put back where they belong; decoding times never go back."""
    if not late:
        return frames
    merged: list[EncodedFrame] = []
    waiting = list(late)
    for frame in frames:
        while waiting and waiting[0].dts_us < frame.dts_us:
            merged.append(waiting.pop(0))
        merged.append(frame)
    return merged + waiting
