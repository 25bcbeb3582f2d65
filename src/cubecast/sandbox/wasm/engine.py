"""The WebAssembly engine of this process, and the timer for deadlines.

One engine serves the whole process and is never freed, because the timer's threads hold a pointer to it.
"""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from wasmtime import Config, Engine
from wasmtime import _ffi as ffi

from cubecast.errors import LocalError

TICK_MS = 5
"""Period in ms at which the engine's epoch advances while `deadlines` is entered; a deadline is kept to within two periods."""
STACK_BYTES = 512 * 1024
"""Maximum stack of a module; deeper recursion traps before it can overflow the thread's own stack."""

CLOCK_MONOTONIC = 1
"""Linux's number of the monotonic clock (clock_gettime(2))."""
SIGEV_THREAD = 2
"""Linux's number for a timer that calls a function on a thread of its own (sigevent(3type))."""


_DISABLED = (
    ffi.wasmtime_config_wasm_threads_set,
    ffi.wasmtime_config_shared_memory_set,
    ffi.wasmtime_config_wasm_memory64_set,
    ffi.wasmtime_config_wasm_multi_memory_set,
    ffi.wasmtime_config_wasm_relaxed_simd_set,
    ffi.wasmtime_config_wasm_tail_call_set,
    ffi.wasmtime_config_wasm_function_references_set,
    ffi.wasmtime_config_wasm_gc_set,
    ffi.wasmtime_config_gc_support_set,
    ffi.wasmtime_config_wasm_exceptions_set,
    ffi.wasmtime_config_wasm_stack_switching_set,
    ffi.wasmtime_config_wasm_wide_arithmetic_set,
    ffi.wasmtime_config_wasm_custom_page_sizes_set,
    ffi.wasmtime_config_wasm_component_model_set,
)
"""Settings of wasmtime for features that are off."""


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
    """The engine of this process.

    WebAssembly features that no supported compiler needs are disabled. What stays on: SIMD and bulk memory, several results
    of a function, and references to functions in tables, which compilers use for function pointers.
    """
    config = Config()
    config.epoch_interruption = True
    config.max_wasm_stack = STACK_BYTES
    config.wasm_simd = True
    config.wasm_bulk_memory = True
    for disable in _DISABLED:
        disable(config.ptr(), False)
    config.parallel_compilation = False
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
