"""Trusted code in a process of its own that can do nothing but compute: the host's side, and the process.

The process imports what it needs, loads the code, shuts itself in (cubecast.sandbox.trusted.confinement), and answers one message
after another over rings in shared memory. It is killed when it misses a deadline, and when its host is gone.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal, TypeAlias

import msgspec

from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.frames import EncodedFrame, TrackFormat
from cubecast.sandbox.abi import EventKind, Manifest
from cubecast.sandbox.frame_exchange import Batch, Exchange
from cubecast.sandbox.supervision import Instance
from cubecast.sandbox.trusted.confinement import confine, die_with_parent, missing
from cubecast.sandbox.trusted.native import NativeCode
from cubecast.sandbox.trusted.python import PythonInstance
from cubecast.sandbox.trusted.rings import MESSAGE_BYTES_MAX, Ring, RingFiles

START_S = 20.0
"""Python starts, imports, loads and shuts itself in."""
PATIENCE = 4.0
"""A worker is a process among others: it may take so many times its deadline before it is killed."""

Language: TypeAlias = Literal["native", "python"]


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """The first message: everything the worker needs, for it can open no file later."""

    language: Language
    code: bytes
    manifest: Manifest
    tracks: tuple[TrackFormat, ...]
    config: dict[str, str]


class Process(msgspec.Struct, frozen=True, tag="process"):
    """Frames."""

    frames: tuple[EncodedFrame, ...]


class Event(msgspec.Struct, frozen=True, tag="event"):
    """An event."""

    kind: int
    time_us: int
    value: float


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """The tracks it emits."""

    tracks: tuple[TrackFormat, ...]
    memory_bytes: int


class Emitted(msgspec.Struct, frozen=True, tag="emitted"):
    """What it emits, and what was too large for it."""

    frames: tuple[EncodedFrame, ...]
    skipped: tuple[EncodedFrame, ...] = ()


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Why not; `kind` is empty where it is refused."""

    kind: str
    text: str


_encode = msgspec.msgpack.Encoder().encode
_requests = msgspec.msgpack.Decoder(Begin | Process | Event)
_answers = msgspec.msgpack.Decoder(Begun | Emitted | Failed)


class WorkerInstance:
    """See Instance: code at work in a confined process."""

    def __init__(
        self,
        language: Language,
        code: bytes,
        manifest: Manifest,
        tracks: Sequence[TrackFormat],
        config: Mapping[str, str],
    ) -> None:
        """Starts the process.

        Raises:
            ExtensionRefused: this machine cannot confine it, or it does not begin.
            ExtensionFailed: it ended or took too long while it began.
        """
        if lacking := missing():
            raise ExtensionRefused(f"it runs in a confined process only, and {lacking}")
        self._deadline_s = manifest.deadline_ms / 1000 * PATIENCE
        files = RingFiles.make(), RingFiles.make()
        self._rings: tuple[Ring, Ring] | None = (Ring(files[0]), Ring(files[1]))
        numbers = [number for ring in files for number in (ring.memory, ring.bell)]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cubecast.sandbox.trusted.worker", *map(str, numbers), str(os.getpid())],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=numbers,
            )  # fmt: skip
        finally:
            for ring in files:
                ring.close()
        answer = self._ask(Begin(language, code, manifest, tuple(tracks), dict(config)), START_S)
        if not isinstance(answer, Begun):
            raise self._unexpected()
        self.tracks = answer.tracks
        self._memory_bytes = answer.memory_bytes

    def process(self, frames: Sequence[EncodedFrame]) -> Batch:
        """See Instance."""
        answer = self._ask(Process(tuple(frames)), self._deadline_s)
        if not isinstance(answer, Emitted):
            raise self._unexpected()
        return Batch(self._frames(answer.frames), self._frames(answer.skipped))

    def on_event(self, kind: EventKind, time_us: int, value: float) -> list[EncodedFrame]:
        """See Instance."""
        answer = self._ask(Event(int(kind), time_us, value), self._deadline_s)
        if not isinstance(answer, Emitted):
            raise self._unexpected()
        return self._frames(answer.frames)

    def memory_bytes(self) -> int:
        """See Instance."""
        return self._memory_bytes

    def close(self) -> None:
        """See Instance: kills the process."""
        if self._rings is not None:
            self._process.kill()
            self._process.wait()
            for ring in self._rings:
                ring.close()
            self._rings = None

    def _ask(self, request: Begin | Process | Event, seconds: float) -> Begun | Emitted | Failed:
        if self._rings is None:
            raise ExtensionFailed("error", "its process is gone")
        there, back = self._rings
        try:
            there.push(_encode(request))
            message = back.pop(seconds)
            if message is None:
                ended = self._process.poll()
                if ended is not None:
                    raise ExtensionFailed("trap", f"its process ended with status {ended}")
                raise ExtensionFailed("deadline", "its process took longer than its deadline")
            answer: Begun | Emitted | Failed = _answers.decode(message)
        except ExtensionFailed:
            self.close()
            raise
        except msgspec.DecodeError as error:
            self.close()
            raise ExtensionFailed("output", "what came from its process is no answer") from error
        if isinstance(answer, Failed):
            self.close()
            raise ExtensionFailed(answer.kind, answer.text) if answer.kind else ExtensionRefused(answer.text)
        return answer

    def _frames(self, frames: Sequence[EncodedFrame]) -> list[EncodedFrame]:
        if any(not 0 <= frame.track < len(self.tracks) for frame in frames):
            raise self._unexpected()
        return list(frames)

    def _unexpected(self) -> ExtensionFailed:
        self.close()
        return ExtensionFailed("output", "its process gave an answer to something else")


def serve(numbers: Sequence[int], host: int) -> None:
    """The process: answers until its host is gone."""
    there, back = (Ring(RingFiles(*numbers[at : at + 2])) for at in (0, 2))
    die_with_parent()
    if os.getppid() != host:
        return
    instance: Instance | None = None
    while True:
        message = there.pop(None)
        answer: Begun | Emitted | Failed
        try:
            match _requests.decode(message or b""):
                case Begin() as begin:
                    instance = _begin(begin)
                    confine()
                    answer = Begun(instance.tracks, instance.memory_bytes())
                case Process(frames) if instance is not None:
                    batch = instance.process(frames)
                    answer = Emitted(tuple(batch.frames), tuple(batch.skipped))
                case Event(kind, time_us, value) if instance is not None:
                    answer = Emitted(tuple(instance.on_event(EventKind(kind), time_us, value)))
                case _:
                    answer = Failed("error", "it has not begun")
        except ExtensionRefused as error:
            answer = Failed("", str(error))
        except ExtensionFailed as error:
            answer = Failed(error.kind, str(error))
        packed = _encode(answer)
        back.push(
            packed if len(packed) <= MESSAGE_BYTES_MAX else _encode(Failed("output", "it emitted too much at once"))
        )


def _begin(begin: Begin) -> Instance:
    if begin.language == "native":
        return Exchange(NativeCode(begin.code, begin.manifest), begin.manifest, begin.tracks, begin.config)
    return PythonInstance(begin.code, begin.manifest, begin.tracks, begin.config)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        serve([int(number) for number in sys.argv[1:5]], int(sys.argv[5]))
