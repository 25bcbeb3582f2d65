"""A timer finer than event loops have: Linux timerfd, through libc (Python has it from 3.13 on).

Event loops count in whole milliseconds; a delay stage that does so is late by half of one on every hop.
"""

import ctypes
import os
from contextlib import suppress

from cubecast.errors import AddressError

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class FineTimer:
    """A descriptor that becomes readable at a time of `time.monotonic`."""

    def __init__(self) -> None:
        """Makes the timer.

        Raises:
            AddressError: this system has none.
        """
        self._libc = ctypes.CDLL(None, use_errno=True)
        try:
            self.descriptor: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        except AttributeError as error:
            raise AddressError("this system has no timerfd; run the emulator on Linux") from error
        if self.descriptor < 0:
            raise AddressError(f"no timer: {os.strerror(ctypes.get_errno())}; raise the limit with ulimit -n")

    def arm(self, at_s: float) -> None:
        """Fires once at a time of `time.monotonic`, at once when that has passed."""
        seconds = int(at_s)
        setting = _Setting(_Timespec(0, 0), _Timespec(seconds, max(1, int((at_s - seconds) * 1e9))))
        self._libc.timerfd_settime(self.descriptor, _ABSOLUTE, ctypes.byref(setting), None)

    def clear(self) -> None:
        """Takes note of a firing."""
        with suppress(BlockingIOError):
            os.read(self.descriptor, 8)

    def close(self) -> None:
        """Releases the descriptor."""
        os.close(self.descriptor)
