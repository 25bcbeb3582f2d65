"""The WebAssembly engine of this process, the timer for deadlines, and the on-disk cache of compiled modules.

One engine serves the whole process and is never freed, because the timer's threads hold a pointer to it.
"""

import ctypes
import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

from wasmtime import Config, Engine, Module, WasmtimeError
from wasmtime import _ffi as ffi

from cubecast.errors import ExtensionRefused, LocalError
from cubecast.sandbox.abi import MODULE_BYTES_MAX
from cubecast.sandbox.wasm.calls import no_imports

TICK_MS = 5
"""Period in ms at which the engine's epoch advances while `deadlines` is entered; a deadline is kept to within two periods."""
STACK_BYTES = 512 * 1024
"""Maximum stack of a module; deeper recursion traps before it can overflow the thread's own stack."""
CACHED_MAX = 64
"""Maximum number of compiled modules on disk; the least recently used are removed."""
CACHED_BYTES_MAX = 256 * 2**20
"""Maximum size of all compiled modules on disk, bytes; the least recently used are removed."""
KEY_BYTES = 32
"""Length of the cache's secret key: as long as a SHA-256 digest, as RFC 2104 recommends."""
MAC_BYTES = 32
"""Length of an HMAC-SHA-256."""

CLOCK_MONOTONIC = 1
"""Linux's number of the monotonic clock (clock_gettime(2))."""
SIGEV_THREAD = 2
"""Linux's number for a timer that calls a function on a thread of its own (sigevent(3type))."""


class _SigEvent(ctypes.Structure):
    """struct sigevent of Linux, 64 bytes (sigevent(3type))."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attribute", ctypes.c_void_p),
        ("pad", ctypes.c_char * 32),
    )


class _Interval(ctypes.Structure):
    """struct itimerspec (timer_settime(2))."""

    _fields_ = (
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("first_s", ctypes.c_long),
        ("first_ns", ctypes.c_long),
    )


def ticks_of(deadline_ms: float) -> int:
    """Number of epoch ticks in a deadline, rounded up, and one more because the first tick may come at once."""
    return int(-(-deadline_ms // TICK_MS)) + 1


@cache
def engine() -> Engine:
    """The engine of this process; WebAssembly features that extensions do not need are disabled."""
    config = Config()
    config.epoch_interruption = True
    config.max_wasm_stack = STACK_BYTES
    config.wasm_threads = False
    config.wasm_memory64 = False
    config.wasm_multi_memory = False
    config.wasm_simd = True
    config.wasm_relaxed_simd = False
    config.wasm_bulk_memory = True
    config.cranelift_opt_level = "speed"
    new = Engine(config)
    ffi.wasmtime_engine_clone(new.ptr())  # a reference that is never released, so the engine is never freed
    return new


class _EpochTimer:
    """Advances the epoch by a POSIX timer that calls wasmtime's own function, so a busy Python thread cannot delay it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._timer = ctypes.c_void_p()
        self._libc = ctypes.CDLL(None, use_errno=True)

    def begin(self) -> None:
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            advance = ctypes.cast(ffi.dll.wasmtime_engine_increment_epoch, ctypes.c_void_p).value
            event = _SigEvent(ctypes.cast(engine().ptr(), ctypes.c_void_p).value, 0, SIGEV_THREAD, advance)
            if self._libc.timer_create(CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._timer)):
                self._users = 0
                raise LocalError(
                    f"cannot create a timer for the deadlines of extensions: {os.strerror(ctypes.get_errno())}"
                )
            self._set(TICK_MS)

    def end(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._libc.timer_delete(self._timer)

    def _set(self, every_ms: int) -> None:
        ns = every_ms * 1_000_000
        self._libc.timer_settime(self._timer, 0, ctypes.byref(_Interval(0, ns, 0, ns)), None)


_epoch_timer = _EpochTimer()


@contextmanager
def deadlines() -> Iterator[None]:
    """Context in which deadlines are enforced; it may be nested. Outside of it a call may run forever.

    Raises:
        LocalError: the system cannot create a timer.
    """
    _epoch_timer.begin()
    try:
        yield
    finally:
        _epoch_timer.end()


def compiled(wasm: bytes, cache_folder: Path | None = None) -> Module:
    """Compiles a module, or loads it from the cache if it was compiled before.

    The cache holds machine code, so each file carries an HMAC over the code and the file's name, under a key that only
    this user can read. The name is a hash of the module, the engine's version and its settings.

    Args:
        cache_folder: folder of compiled modules; None for no cache.

    Raises:
        ExtensionRefused: the module is invalid or too large, or imports something.
    """
    if len(wasm) > MODULE_BYTES_MAX:
        raise ExtensionRefused(f"it has {len(wasm)} bytes; at most {MODULE_BYTES_MAX} are allowed")
    name = hashlib.sha256(f"{version('wasmtime')} {STACK_BYTES} ".encode() + wasm).hexdigest()
    module = _from_cache(cache_folder, name) if cache_folder is not None else None
    if module is None:
        try:
            module = Module(engine(), wasm)
        except WasmtimeError as error:
            raise ExtensionRefused(
                f"it is not a valid module: {str(error).strip().splitlines()[-1].strip()}"
            ) from error
        no_imports(module)
        if cache_folder is not None:
            with suppress(OSError, WasmtimeError):  # the cache only saves time
                _into_cache(cache_folder, name, bytes(module.serialize()))
    return module


def _from_cache(folder: Path, name: str) -> Module | None:
    file = folder / name
    with suppress(OSError, WasmtimeError):
        signed = file.read_bytes()
        code = signed[MAC_BYTES:]
        if hmac.compare_digest(signed[:MAC_BYTES], _mac(folder, name, code)):
            os.utime(file)
            return Module.deserialize(engine(), code)
    return None


def _into_cache(folder: Path, name: str, code: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = folder / f"{name}.{secrets.token_hex(4)}.new"
    new.write_bytes(_mac(folder, name, code) + code)
    new.replace(folder / name)
    modules = sorted(
        (file for file in folder.iterdir() if len(file.name) == len(name)), key=lambda file: file.stat().st_mtime
    )
    total = sum(file.stat().st_size for file in modules)
    while modules and (len(modules) > CACHED_MAX or total > CACHED_BYTES_MAX):
        oldest = modules.pop(0)
        total -= oldest.stat().st_size
        oldest.unlink(missing_ok=True)


def _mac(folder: Path, name: str, code: bytes) -> bytes:
    return hmac.digest(_key(folder), name.encode() + code, "sha256")


def _key(folder: Path) -> bytes:
    """The secret key of a cache folder, created at first use."""
    file = folder / "key"
    with suppress(FileNotFoundError):
        key = file.read_bytes()
        if len(key) == KEY_BYTES:
            return key
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = folder / f"key.{secrets.token_hex(4)}"
    descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(secrets.token_bytes(KEY_BYTES))
    new.replace(file)
    return file.read_bytes()
