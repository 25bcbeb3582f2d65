"""Messages between two processes through shared memory: one ring buffer for each direction, with one writer and one reader.

The head (bytes written) and the tail (bytes read) only grow, and lie on separate cache lines. A reader that finds the ring
empty spins for SPIN_S, then sleeps until the writer signals an eventfd. The code relies on x86's order of stores; on other
machines, or if a signal is missed, the reader checks again after SLEEP_S.

Neither end trusts the other: each keeps its own position, checks that of the other each time it reads it, and copies a message
before it is decoded. The memory is sealed, so that no end can shorten it: access beyond its end would end the other process.
"""

import fcntl
import mmap
import os
import select
import time
from contextlib import suppress
from dataclasses import dataclass

from cubecast.errors import ExtensionFailed

CACHE_LINE = 64
"""Size of a cache line, bytes."""
HEAD, TAIL, ASLEEP, DATA = 0, CACHE_LINE, 2 * CACHE_LINE, 3 * CACHE_LINE
"""Offsets in the shared memory of: the head, the tail, whether the reader sleeps, the messages."""
LENGTH_BYTES = 8
"""Size of the length in front of each message, bytes."""
SPIN_S = 20e-6
"""Time for which a reader spins before it sleeps, s; spinning avoids two context switches if the answer comes soon."""
SLEEP_S = 0.005
"""Longest sleep before a reader checks the ring again, s."""
RING_BYTES = 32 * 2**20
"""Size of a ring, bytes. An answer may take half of it, a request all of it."""
MESSAGE_BYTES_MAX = RING_BYTES // 2
"""Maximum size of a worker's answer, bytes."""


SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
"""Seals of the shared memory: its size cannot be changed, and no seal can be added."""


@dataclass(slots=True)
class RingFiles:
    """File descriptors of a ring, which another process can inherit: shared memory, and an eventfd that wakes the reader."""

    memory: int
    wakeup: int

    @classmethod
    def make(cls, size: int = RING_BYTES) -> "RingFiles":
        """Creates the files of a new ring of `size` bytes."""
        memory = os.memfd_create("cubecast-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(memory, DATA + size)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
        return cls(memory, os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))

    def close(self) -> None:
        """Closes both; rings opened from them stay open."""
        os.close(self.memory)
        os.close(self.wakeup)


class Ring:
    """One end of a ring; a process either writes or reads."""

    def __init__(self, files: RingFiles) -> None:
        self._map = mmap.mmap(files.memory, 0)
        self._wakeup = os.dup(files.wakeup)
        self._bytes = memoryview(self._map)
        self._size = len(self._map) - DATA
        words = self._bytes[:DATA].cast("Q")
        self._words = words
        self._position = 0
        """Bytes written or read so far; the number in shared memory is only for the other end."""
        self._poll = select.poll()
        self._poll.register(self._wakeup, select.POLLIN)

    def push(self, message: bytes) -> None:
        """Writes a message and wakes the reader.

        Raises:
            ExtensionFailed: the ring is too full for it.
        """
        words, head = self._words, self._position
        need = LENGTH_BYTES + len(message)
        used = head - words[TAIL // 8]
        if not 0 <= used <= self._size:
            raise ExtensionFailed("output", "the ring between host and worker has an invalid position")
        if need > self._size - used:
            raise ExtensionFailed(
                "error", f"a message of {len(message)} bytes does not fit into the ring between host and worker"
            )
        self._put(head, len(message).to_bytes(LENGTH_BYTES, "little"))
        self._put(head + LENGTH_BYTES, message)
        self._position = words[HEAD // 8] = head + need
        if words[ASLEEP // 8]:
            with suppress(BlockingIOError):  # the reader has let the eventfd's counter fill up: it is readable
                os.eventfd_write(self._wakeup, 1)

    def pop(self, timeout_s: float | None) -> bytes | None:
        """Reads the next message; None if none has come within `timeout_s` (None: waits forever).

        Raises:
            ExtensionFailed: the ring does not hold a valid message.
        """
        if not self._wait(timeout_s):
            return None
        words, tail = self._words, self._position
        used = words[HEAD // 8] - tail
        size = int.from_bytes(self._get(tail, LENGTH_BYTES), "little")
        if not LENGTH_BYTES <= used <= self._size or size > used - LENGTH_BYTES:
            raise ExtensionFailed("output", "the worker sent an invalid message")
        message = self._get(tail + LENGTH_BYTES, size)
        self._position = words[TAIL // 8] = tail + LENGTH_BYTES + size
        return message

    def close(self) -> None:
        """Unmaps the shared memory and closes the eventfd."""
        self._words.release()
        self._bytes.release()
        self._map.close()
        os.close(self._wakeup)

    def _wait(self, timeout_s: float | None) -> bool:
        words, tail = self._words, self._position
        begun = time.perf_counter()
        end = begun + timeout_s if timeout_s is not None else float("inf")
        spin_until = min(end, begun + SPIN_S)
        while words[HEAD // 8] == tail:
            now = time.perf_counter()
            if now < spin_until:
                continue
            if now >= end:
                return False
            words[ASLEEP // 8] = 1
            try:
                if words[HEAD // 8] == tail:
                    self._poll.poll(1000 * min(SLEEP_S, end - now))
            finally:
                words[ASLEEP // 8] = 0
            with suppress(BlockingIOError):
                os.eventfd_read(self._wakeup)
        return True

    def _put(self, at: int, data: bytes) -> None:
        begin = at % self._size
        first = min(len(data), self._size - begin)
        self._bytes[DATA + begin : DATA + begin + first] = data[:first]
        if first < len(data):
            self._bytes[DATA : DATA + len(data) - first] = data[first:]

    def _get(self, at: int, size: int) -> bytes:
        begin = at % self._size
        first = min(size, self._size - begin)
        data = bytes(self._bytes[DATA + begin : DATA + begin + first])
        return data if first == size else data + bytes(self._bytes[DATA : DATA + size - first])
