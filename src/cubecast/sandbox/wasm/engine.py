"""The WebAssembly engine of this process, the clock of its deadlines, and compiled modules on disk.

One engine serves the whole process and is never freed: the clock's threads point at it.
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
"""The engine's epoch advances so often while anything runs; a deadline is kept to within two of them."""
STACK_BYTES = 512 * 1024
CACHED_MAX, CACHED_BYTES_MAX = 64, 256 * 2**20
KEY_BYTES = MAC_BYTES = 32

CLOCK_MONOTONIC, SIGEV_THREAD = 1, 2


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
    """struct itimerspec."""

    _fields_ = (
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("first_s", ctypes.c_long),
        ("first_ns", ctypes.c_long),
    )


def ticks_of(deadline_ms: float) -> int:
    """Ticks of the clock after which a call is over: at least its deadline, as the first tick may come at once."""
    return int(-(-deadline_ms // TICK_MS)) + 1


@cache
def engine() -> Engine:
    """The engine; everything a stream module has no use for is off."""
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
    made = Engine(config)
    ffi.wasmtime_engine_clone(made.ptr())  # a reference that nobody gives back
    return made


class _Clock:
    """Advances the epoch by a POSIX timer whose function is wasmtime's own: a busy Python thread cannot hold it up."""

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
                raise LocalError(f"no timer for deadlines of extensions: {os.strerror(ctypes.get_errno())}")
            self._set(TICK_MS)

    def end(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._libc.timer_delete(self._timer)

    def _set(self, every_ms: int) -> None:
        ns = every_ms * 1_000_000
        self._libc.timer_settime(self._timer, 0, ctypes.byref(_Interval(0, ns, 0, ns)), None)


_clock = _Clock()


@contextmanager
def deadlines() -> Iterator[None]:
    """Deadlines are kept while this is entered.

    Raises:
        LocalError: the machine gives no timer.
    """
    _clock.begin()
    try:
        yield
    finally:
        _clock.end()


def compiled(wasm: bytes, cache_folder: Path | None = None) -> Module:
    """A module ready to be instantiated; from the cache where it has been compiled before.

    What lies in the cache is machine code, so each file is signed with a key that only this user can read, over the
    module's hash and the engine's version too.

    Raises:
        ExtensionRefused: it is no valid module, too large, or imports something.
    """
    if len(wasm) > MODULE_BYTES_MAX:
        raise ExtensionRefused(f"it has {len(wasm)} bytes; {MODULE_BYTES_MAX} are allowed")
    name = hashlib.sha256(f"{version('wasmtime')} {STACK_BYTES} ".encode() + wasm).hexdigest()
    module = _from_cache(cache_folder, name) if cache_folder is not None else None
    if module is None:
        try:
            module = Module(engine(), wasm)
        except WasmtimeError as error:
            raise ExtensionRefused(f"it is no valid module: {str(error).strip().splitlines()[-1].strip()}") from error
        no_imports(module)
        if cache_folder is not None:
            with suppress(OSError, WasmtimeError):  # it works without
                _into_cache(cache_folder, name, bytes(module.serialize()))
    return module


def cache_folder() -> Path:
    """Where compiled modules lie unless told otherwise."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "cubecast" / "modules"


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
    kept = sorted(
        (file for file in folder.iterdir() if len(file.name) == len(name)), key=lambda file: file.stat().st_mtime
    )
    total = sum(file.stat().st_size for file in kept)
    while kept and (len(kept) > CACHED_MAX or total > CACHED_BYTES_MAX):
        oldest = kept.pop(0)
        total -= oldest.stat().st_size
        oldest.unlink(missing_ok=True)


def _mac(folder: Path, name: str, code: bytes) -> bytes:
    return hmac.digest(_key(folder), name.encode() + code, "sha256")


def _key(folder: Path) -> bytes:
    """The key of a cache, made when it is used first."""
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
