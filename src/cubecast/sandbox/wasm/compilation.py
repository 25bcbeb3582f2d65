"""Compiles a module in a process of its own, which has limits and can be killed; this process never does it.

The module and the machine code pass through files in memory (memfd_create(2)), so that a process that is killed leaves no
pipe to be emptied, and the limit on the size of files bounds what it can return.
"""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass

from cubecast.errors import ExtensionRefused, LocalError
from cubecast.sandbox.wasm.compiler import NO_MEMORY, REFUSED

REASON_BYTES_MAX = 500
"""Maximum length of the reason of a refusal, bytes: it must fit into one line."""


@dataclass(frozen=True, slots=True)
class CompileLimits:
    """What compiling one module may use.

    Attributes:
        cpu_s: CPU time including the process's start, s; a megabyte that a compiler made from C takes about three.
        memory_bytes: address space; a megabyte takes some 300 MiB of it, most of them libraries.
        artefact_bytes: size of the machine code; it is about three times that of the module.
        wall_s: duration, s: it is long, because the process has a low priority on a busy machine.
    """

    cpu_s: int = 10
    memory_bytes: int = 1024 * 2**20
    artefact_bytes: int = 64 * 2**20
    wall_s: float = 60.0


class Compilation:
    """One run of the compiler; `cancel` ends it from any thread."""

    def __init__(self, limits: CompileLimits | None = None) -> None:
        self._limits = limits or CompileLimits()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._cancelled = False

    def run(self, wasm: bytes) -> bytes:
        """Compiles a module and waits for it; called once.

        Raises:
            ExtensionRefused: the module is not in order, needs more than the limits, or `cancel` was called.
            LocalError: the process cannot be started.
        """
        try:
            source, target = os.memfd_create("module"), os.memfd_create("artefact")
        except OSError as error:
            raise LocalError(f"cannot compile an extension: {error.strerror}") from error
        with os.fdopen(source, "w+b") as module, os.fdopen(target, "w+b") as artefact:
            module.write(wasm)
            module.seek(0)
            status = self._run(module.fileno(), artefact.fileno())
            artefact.seek(0)
            if status == 0:
                return artefact.read(self._limits.artefact_bytes)
            reason = artefact.read(REASON_BYTES_MAX).decode("utf-8", "replace") if status == REFUSED else ""
            raise ExtensionRefused(reason or self._ended(status))

    def cancel(self) -> None:
        """Kills the process if it runs, and keeps it from being started."""
        with self._lock:
            self._cancelled = True
            if self._process is not None:
                self._process.kill()

    def _run(self, module: int, artefact: int) -> int:
        limits = self._limits
        numbers = map(str, (limits.cpu_s, limits.memory_bytes, limits.artefact_bytes))
        with self._lock:
            if self._cancelled:
                return -signal.SIGKILL
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "cubecast.sandbox.wasm.compiler", *numbers, str(os.getpid())],
                    stdin=module, stdout=artefact, stderr=subprocess.DEVNULL,
                )  # fmt: skip
            except OSError as error:
                raise LocalError(f"cannot start a process that compiles an extension: {error.strerror}") from error
        try:
            return self._process.wait(limits.wall_s)
        except subprocess.TimeoutExpired:
            raise ExtensionRefused(f"it takes more than {limits.wall_s:.0f} s to compile") from None
        finally:
            self._process.kill()
            self._process.wait()

    def _ended(self, status: int) -> str:
        limits = self._limits
        if self._cancelled:
            return "it is not wanted any more"
        if status == -signal.SIGXCPU:
            return f"it takes more than {limits.cpu_s} s of CPU time to compile"
        if status in (NO_MEMORY, -signal.SIGABRT, -signal.SIGKILL):  # an allocation failed, or the system has no memory
            return f"it takes more than {limits.memory_bytes // 2**20} MiB of memory to compile"
        return f"the process that compiled it ended with status {status}"
