"""Trusted code in a confined process of its own: the host's side. `worker_process` is the other side.

Requests and answers pass over rings in shared memory. The worker is killed when it misses a deadline and when its host ends.
What it sends is checked as if it came from another machine.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import msgspec

from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.frames import EncodedFrame, TrackFormat
from cubecast.sandbox.abi import TRACKS_MAX, EventKind, Manifest
from cubecast.sandbox.frame_exchange import Batch
from cubecast.sandbox.trusted.confinement import missing, missing_landlock
from cubecast.sandbox.trusted.messages import (
    Answer,
    Begin,
    Begun,
    Confined,
    Emitted,
    Event,
    Failed,
    Language,
    Process,
    Request,
    answer_decoder,
    encode,
)
from cubecast.sandbox.trusted.output import LOGGER, WorkerOutput, printable
from cubecast.sandbox.trusted.rings import MESSAGE_BYTES_MAX, Ring, RingFiles

CONFINE_S = 20.0
"""Deadline for a worker to start Python, import and confine itself, s: none of it is the extension's work."""
BEGIN_S = 5.0
"""Deadline for an extension to load and initialise, s: it may compute tables, and nothing is processed meanwhile."""
DEADLINE_FACTOR = 4.0
"""A worker is killed after this many times the extension's deadline, as it competes with other processes for the CPU."""
CHECK_S = 0.05
"""Interval at which the host checks whether a worker that has not answered has ended, s."""
TEXT_CHARACTERS_MAX = 2000
"""Maximum length of a reason that a worker gives, characters: it is printed as one line."""
CODEC_CHARACTERS_MAX = 16
"""Maximum length of a codec's name, characters: that of the track table."""
FRAME_RATE_MAX = 10_000
"""Maximum frame rate, frames per second: that of the track table."""
KEPT_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL")
"""Environment variables that a worker inherits: those that Python needs to start."""
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables with the number of threads that numerical libraries start: a worker has one thread only."""
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
        """Starts the process, which ends with the thread that calls this (prctl(2), PR_SET_PDEATHSIG).

        Raises:
            ExtensionRefused: this machine cannot confine a process, or the code does not accept tracks or settings.
            ExtensionFailed: the process ended or took too long while it started.
        """
        if reason := missing() or (language == "native" and missing_landlock()):
            raise ExtensionRefused(f"it must run in a confined process, but {reason}")
        if reason := missing_landlock():
            LOGGER.warning("extension %s: only the filter of system calls confines it: %s", manifest.name, reason)
        self._deadline_s = manifest.deadline_ms / 1000 * DEADLINE_FACTOR
        files = RingFiles.make(), RingFiles.make()
        self._rings: tuple[Ring, Ring] | None = (Ring(files[0]), Ring(files[1]))
        self._output = WorkerOutput(manifest.name)
        try:
            self._process = _started(files, self._output.descriptor)
        finally:
            os.close(self._output.descriptor)
            for ring in files:
                ring.close()
        request = Begin(language, code, manifest, tuple(tracks), dict(config))
        if not isinstance(self._ask(request, CONFINE_S), Confined):
            raise self._wrong_answer()
        answer = self._ask(None, BEGIN_S)
        if not isinstance(answer, Begun) or not _valid(answer.tracks):
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
        """See Instance; kills the process, and its group in case that it could start others."""
        if self._rings is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._output.close()
            for ring in self._rings:
                ring.close()
            self._rings = None

    def _ask(self, request: Request | None, seconds: float) -> Answer:
        """Sends a request, if there is one, and waits for an answer."""
        if self._rings is None:
            raise ExtensionFailed("error", "its process has ended")
        requests, answers = self._rings
        try:
            if request is not None:
                requests.push(encode(request))
            answer: Answer = answer_decoder.decode(self._popped(answers, seconds))
            self._output.log()
        except ExtensionFailed:
            self.close()
            raise
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            self.close()
            raise ExtensionFailed("output", "its process sent an invalid answer") from error
        if isinstance(answer, Failed):
            self.close()
            text = printable(answer.text[:TEXT_CHARACTERS_MAX])
            if answer.kind or isinstance(request, Process | Event):
                raise ExtensionFailed(answer.kind or "error", text)
            raise ExtensionRefused(text)
        return answer

    def _popped(self, answers: Ring, seconds: float) -> bytes:
        """The next message of the worker, unless it ends before or takes longer than `seconds`."""
        end = time.monotonic() + seconds
        while True:
            ended = self._process.poll()
            message = answers.pop(max(0.0, min(CHECK_S, end - time.monotonic())) if ended is None else 0)
            if message is not None:
                return message
            if ended is not None:
                raise ExtensionFailed("trap", f"its process ended with status {ended}")
            if time.monotonic() >= end:
                raise ExtensionFailed("deadline", "its process missed its deadline")

    def _frames(self, frames: Sequence[EncodedFrame]) -> list[EncodedFrame]:
        if not all(
            0 <= frame.track < len(self.tracks)
            and -(1 << 63) <= min(frame.pts_us, frame.dts_us) <= max(frame.pts_us, frame.dts_us) < 1 << 63
            and 0 <= frame.duration_us < 1 << 32
            for frame in frames
        ):
            raise self._wrong_answer()
        return list(frames)

    def _wrong_answer(self) -> ExtensionFailed:
        self.close()
        return ExtensionFailed("output", "its process sent an answer that does not fit the request")


def _started(files: Sequence[RingFiles], output: int) -> "subprocess.Popen[bytes]":
    """Starts a worker in a session of its own, with the rings and its output as its only open files."""
    descriptors = [number for ring in files for number in (ring.memory, ring.wakeup)]
    environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "cubecast.sandbox.trusted.worker_process", *map(str, descriptors), str(os.getpid())],
        stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=descriptors, start_new_session=True,
        env=environment | dict.fromkeys(THREAD_VARIABLES, "1"),
    )  # fmt: skip


def _valid(tracks: Sequence[TrackFormat]) -> bool:
    """Whether these may be the tracks of an extension: as for modules."""
    return 0 < len(tracks) <= TRACKS_MAX and all(
        track.codec.isascii()
        and track.codec.replace("_", "").isalnum()
        and len(track.codec) <= CODEC_CHARACTERS_MAX
        and 0 <= track.frame_rate < FRAME_RATE_MAX
        and all(0 <= number < 1 << 32 for number in (track.width, track.height, track.sample_rate, track.channels))
        for track in tracks
    )
