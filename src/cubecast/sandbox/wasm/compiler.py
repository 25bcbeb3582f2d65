"""The process that compiles one module: it limits itself, reads the module, and writes the machine code.

The file of standard input holds the module, that of standard output receives the machine code, or the reason of a refusal.
It imports little, since its own start is part of the cost of every module that is new to a host.
"""

import os
import resource
import sys

from wasmtime import Module, WasmtimeError

from cubecast.errors import ExtensionRefused
from cubecast.sandbox.binary import MODULE_BYTES_MAX, check_counts
from cubecast.sandbox.trusted.confinement import die_with_parent
from cubecast.sandbox.wasm.blocks import check_blocks
from cubecast.sandbox.wasm.engine import engine

REFUSED = 3
"""Exit status when the module is refused; standard output then holds the reason."""
NO_MEMORY = 4
"""Exit status when this process has run out of memory."""
FILES_MAX = 32
"""Maximum number of open files: those that it was started with, and libraries while they are loaded."""
NICENESS = 10
"""By how much its priority is lower than that of its host, which has streams to forward meanwhile."""


def compiled_here(wasm: bytes) -> Module:
    """Checks and compiles a module in this process, without any limit of time or memory.

    Raises:
        ExtensionRefused: it is invalid, imports something, or has too many of something.
    """
    check_counts(wasm)
    check_blocks(wasm)
    try:
        return Module(engine(), wasm)
    except WasmtimeError as error:
        raise ExtensionRefused(f"it is not a valid module: {str(error).strip().splitlines()[-1].strip()}") from error


def main(cpu_s: int, memory_bytes: int, artefact_bytes: int, host: int) -> int:
    """Compiles standard input to standard output within these limits; returns the exit status.

    Args:
        host: process ID of the host, with which this process ends.
    """
    die_with_parent(host)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))  # SIGXCPU says which limit it was, SIGKILL follows
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, artefact_bytes),
        (resource.RLIMIT_NOFILE, FILES_MAX),
    ):
        resource.setrlimit(what, (most, most))
    os.nice(NICENESS)
    try:
        with os.fdopen(0, "rb") as module:
            artefact = bytes(compiled_here(module.read(MODULE_BYTES_MAX + 1)).serialize())
        status = 0
        if len(artefact) > artefact_bytes:
            raise ExtensionRefused(f"its machine code has {len(artefact)} bytes; at most {artefact_bytes} are allowed")
    except ExtensionRefused as error:
        artefact, status = str(error).encode(), REFUSED
    except MemoryError:
        return NO_MEMORY
    with os.fdopen(1, "wb") as out:
        out.write(artefact)
    return status


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:5])))
