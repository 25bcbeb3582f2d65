"""The worker process: it confines itself before it runs any of the extension's code, and answers requests until it is killed."""

import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.sandbox.abi import EventKind
from cubecast.sandbox.frame_exchange import Exchange
from cubecast.sandbox.supervision import Instance
from cubecast.sandbox.trusted.confinement import confine, die_with_parent, limit_resources
from cubecast.sandbox.trusted.messages import (
    Answer,
    Begin,
    Begun,
    Confined,
    Emitted,
    Event,
    Failed,
    Process,
    encode,
    request_decoder,
)
from cubecast.sandbox.trusted.native import NativeCode, loaded_library, sealed_library
from cubecast.sandbox.trusted.python import PythonInstance, load_modules
from cubecast.sandbox.trusted.rings import MESSAGE_BYTES_MAX, Ring, RingFiles

EXCHANGE_BYTES = 5 * MESSAGE_BYTES_MAX
"""Memory that a worker may use in addition to its extension's, bytes: a request, its decoded frames, an answer, and the copies
that are made while they are read and written."""


def serve(descriptors: Sequence[int], host: int) -> None:
    """Answers requests until the process is killed.

    Args:
        descriptors: memory and eventfd of the ring of requests, then of the ring of answers. They are closed.
        host: process ID of the host.
    """
    die_with_parent(host)
    files = [RingFiles(*descriptors[at : at + 2]) for at in (0, 2)]
    requests, answers = (Ring(each) for each in files)
    for each in files:
        each.close()
    sys.stdout = sys.stderr = _Output()
    load_modules()
    instance: Instance | None = None

    def answer(to: bytes) -> Answer:
        nonlocal instance
        match request_decoder.decode(to):
            case Begin() as begin if instance is None:
                instance = _begin(begin, lambda: answers.push(encode(Confined())))
                return Begun(instance.tracks, instance.memory_bytes())
            case Process(frames) if instance is not None:
                batch = instance.process(frames)
                return Emitted(tuple(batch.frames), tuple(batch.skipped))
            case Event(kind, time_us, value) if instance is not None:
                return Emitted(tuple(instance.on_event(EventKind(kind), time_us, value)))
        return Failed("error", "the first request must be Begin, and only the first")

    while True:
        message = requests.pop(None)
        try:
            packed = encode(answer(message or b""))
        except ExtensionRefused as error:
            packed = encode(Failed("", str(error)))
        except ExtensionFailed as error:
            packed = encode(_failed(error))
        if len(packed) > MESSAGE_BYTES_MAX:
            packed = encode(Failed("output", "it emitted too many bytes in one call"))
        answers.push(packed)


def _begin(begin: Begin, confined: Callable[[], None]) -> Instance:
    """Confines this process, calls `confined`, then starts the extension."""
    manifest = begin.manifest
    native = begin.language == "native"
    library = sealed_library(begin.code, manifest.name) if native else -1
    limit_resources((manifest.memory_mib << 20) + EXCHANGE_BYTES)
    confine(loading=native)
    confined()
    if not native:
        return PythonInstance(begin.code, manifest, begin.tracks, begin.config)
    loaded = loaded_library(library)
    confine()
    return Exchange(NativeCode(loaded, manifest), manifest, begin.tracks, begin.config)


def _failed(error: ExtensionFailed) -> Failed:
    match error.kind:
        case "deadline" | "trap" | "output" as kind:
            return Failed(kind, str(error))
    return Failed("error", str(error))


class _Output(io.TextIOBase):
    """Standard output and standard error: writes to the host's pipe what fits into it."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            os.write(2, text.encode("utf-8", "backslashreplace"))
        return len(text)


if __name__ == "__main__":
    serve([int(number) for number in sys.argv[1:5]], int(sys.argv[5]))
