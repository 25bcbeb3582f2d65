"""Trusted code in a confined process of its own: the host's side (WorkerInstance) and the worker process (`serve`).

The worker imports what it needs, loads the code, confines itself (cubecast.sandbox.trusted.confinement), and answers
requests over rings in shared memory. It is killed when it misses a deadline and when its host ends.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
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
"""Deadline for a worker to start Python, import, load the code and confine itself, s."""
DEADLINE_FACTOR = 4.0
"""A worker is killed after this many times the extension's deadline, as it competes with other processes for the CPU."""

Language: TypeAlias = Literal["native", "python"]


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """First request: everything that the worker needs, as it cannot open files later."""

    language: Language
    code: bytes
    manifest: Manifest
    tracks: tuple[TrackFormat, ...]
    config: dict[str, str]


class Process(msgspec.Struct, frozen=True, tag="process"):
    """Request to process frames."""

    frames: tuple[EncodedFrame, ...]


class Event(msgspec.Struct, frozen=True, tag="event"):
    """Request to handle an event."""

    kind: int
    time_us: int
    value: float


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """Answer to Begin: the tracks that the extension emits."""

    tracks: tuple[TrackFormat, ...]
    memory_bytes: int


class Emitted(msgspec.Struct, frozen=True, tag="emitted"):
    """Answer to Process and Event: the frames emitted, and those that were too large for the extension."""

    frames: tuple[EncodedFrame, ...]
    skipped: tuple[EncodedFrame, ...] = ()


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Answer with an error: `kind` is that of ExtensionFailed, or empty for ExtensionRefused."""

    kind: str
    text: str


_encode = msgspec.msgpack.Encoder().encode
_request_decoder = msgspec.msgpack.Decoder(Begin | Process | Event)
_answer_decoder = msgspec.msgpack.Decoder(Begun | Emitted | Failed)


PART_BYTES = MESSAGE_BYTES_MAX // 2
"""Payload of one request, bytes, unless a single frame has more: two pictures of 1080p. An answer may be twice as large and
still fits."""


def _parts(frames: Sequence[EncodedFrame]) -> Iterator[list[EncodedFrame]]:
    """The frames in order, as many at a time as PART_BYTES take; one at least."""
    part: list[EncodedFrame] = []
    size = 0
    for frame in frames:
        if part and size + len(frame.payload) > PART_BYTES:
            yield part
            part, size = [], 0
        part.append(frame)
        size += len(frame.payload)
    yield part


class WorkerInstance:
    """An extension in a confined process; implements Instance."""

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
            ExtensionRefused: this machine cannot confine a process, or the code does not accept tracks or settings.
            ExtensionFailed: the process ended or took too long while it started.
        """
        if reason := missing():
            raise ExtensionRefused(f"it must run in a confined process, but {reason}")
        self._deadline_s = manifest.deadline_ms / 1000 * DEADLINE_FACTOR
        files = RingFiles.make(), RingFiles.make()
        self._rings: tuple[Ring, Ring] | None = (Ring(files[0]), Ring(files[1]))
        descriptors = [number for ring in files for number in (ring.memory, ring.wakeup)]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cubecast.sandbox.trusted.worker", *map(str, descriptors), str(os.getpid())],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=descriptors,
            )  # fmt: skip
        finally:
            for ring in files:
                ring.close()
        answer = self._ask(Begin(language, code, manifest, tuple(tracks), dict(config)), START_S)
        if not isinstance(answer, Begun):
            raise self._wrong_answer()
        self.tracks = answer.tracks
        self._memory_bytes = answer.memory_bytes

    def process(self, frames: Sequence[EncodedFrame]) -> Batch:
        """See Instance; a batch of many bytes is sent in several requests, each with the deadline of a call."""
        batch = Batch([], [])
        for part in _parts(frames):
            answer = self._ask(Process(tuple(part)), self._deadline_s)
            if not isinstance(answer, Emitted):
                raise self._wrong_answer()
            batch = Batch(batch.frames + self._frames(answer.frames), batch.skipped + self._frames(answer.skipped))
        return batch

    def on_event(self, kind: EventKind, time_us: int, value: float) -> list[EncodedFrame]:
        """See Instance."""
        answer = self._ask(Event(int(kind), time_us, value), self._deadline_s)
        if not isinstance(answer, Emitted):
            raise self._wrong_answer()
        return self._frames(answer.frames)

    def memory_bytes(self) -> int:
        """See Instance."""
        return self._memory_bytes

    def close(self) -> None:
        """See Instance; kills the process."""
        if self._rings is not None:
            self._process.kill()
            self._process.wait()
            for ring in self._rings:
                ring.close()
            self._rings = None

    def _ask(self, request: Begin | Process | Event, seconds: float) -> Begun | Emitted | Failed:
        if self._rings is None:
            raise ExtensionFailed("error", "its process has ended")
        requests, answers = self._rings
        try:
            requests.push(_encode(request))
            message = answers.pop(seconds)
            if message is None:
                ended = self._process.poll()
                if ended is not None:
                    raise ExtensionFailed("trap", f"its process ended with status {ended}")
                raise ExtensionFailed("deadline", "its process missed its deadline")
            answer: Begun | Emitted | Failed = _answer_decoder.decode(message)
        except ExtensionFailed:
            self.close()
            raise
        except msgspec.DecodeError as error:
            self.close()
            raise ExtensionFailed("output", "its process sent an invalid answer") from error
        if isinstance(answer, Failed):
            self.close()
            raise ExtensionFailed(answer.kind, answer.text) if answer.kind else ExtensionRefused(answer.text)
        return answer

    def _frames(self, frames: Sequence[EncodedFrame]) -> list[EncodedFrame]:
        if any(not 0 <= frame.track < len(self.tracks) for frame in frames):
            raise self._wrong_answer()
        return list(frames)

    def _wrong_answer(self) -> ExtensionFailed:
        self.close()
        return ExtensionFailed("output", "its process sent an answer that does not fit the request")


def serve(descriptors: Sequence[int], host: int) -> None:
    """The worker process: answers requests until it is killed.

    Args:
        descriptors: memory and eventfd of the ring of requests, then of the ring of answers.
        host: process ID of the host.
    """
    requests, answers = (Ring(RingFiles(*descriptors[at : at + 2])) for at in (0, 2))
    die_with_parent(host)
    instance: Instance | None = None
    while True:
        message = requests.pop(None)
        answer: Begun | Emitted | Failed
        try:
            match _request_decoder.decode(message or b""):
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
                    answer = Failed("error", "the first request must be Begin")
        except ExtensionRefused as error:
            answer = Failed("", str(error))
        except ExtensionFailed as error:
            answer = Failed(error.kind, str(error))
        packed = _encode(answer)
        answers.push(
            packed
            if len(packed) <= MESSAGE_BYTES_MAX
            else _encode(Failed("output", "it emitted too many bytes in one call"))
        )


def _begin(begin: Begin) -> Instance:
    if begin.language == "native":
        return Exchange(NativeCode(begin.code, begin.manifest), begin.manifest, begin.tracks, begin.config)
    return PythonInstance(begin.code, begin.manifest, begin.tracks, begin.config)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        serve([int(number) for number in sys.argv[1:5]], int(sys.argv[5]))
