"""A timer finer than those of event loops: Linux timerfd, called in libc (Python has it from 3.13 on).

Event loops count in whole milliseconds, which would make the delay stage late by half a millisecond on every hop.
"""

import ctypes
import os
from contextlib import suppress

from cubecast.errors import AddressError

_CLOCK_MONOTONIC = 1
"""CLOCK_MONOTONIC of <time.h>."""
_ABSOLUTE = 1
"""TFD_TIMER_ABSTIME of <sys/timerfd.h>."""
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
"""TFD_NONBLOCK and TFD_CLOEXEC, which have the values of the flags of open."""


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class FineTimer:
    """A file descriptor that becomes readable at a given time of the clock `time.monotonic`."""

    def __init__(self) -> None:
        """Makes the timer.

        Raises:
            AddressError: this system has no timerfd, or allows no more descriptors.
        """
        self._libc = ctypes.CDLL(None, use_errno=True)
        try:
            self.descriptor: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        except AttributeError as error:
            raise AddressError("this system has no timerfd; run the emulator on Linux") from error
        if self.descriptor < 0:
            raise AddressError(f"no timer: {os.strerror(ctypes.get_errno())}; raise the limit with ulimit -n")

    def arm(self, at_s: float) -> None:
        """Sets the time at which the descriptor becomes readable, s of `time.monotonic`; a past time means now."""
        seconds = int(at_s)
        setting = _Setting(_Timespec(0, 0), _Timespec(seconds, max(1, int((at_s - seconds) * 1e9))))
        self._libc.timerfd_settime(self.descriptor, _ABSOLUTE, ctypes.byref(setting), None)

    def clear(self) -> None:
        """Makes the descriptor unreadable until the timer expires again."""
        with suppress(BlockingIOError):
            os.read(self.descriptor, 8)

    def close(self) -> None:
        """Releases the descriptor."""
        os.close(self.descriptor)
