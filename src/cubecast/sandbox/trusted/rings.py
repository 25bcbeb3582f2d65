"""Messages between two processes through shared memory: a ring for each direction, one writer and one reader each.

Head and tail lie on cache lines of their own. Who waits spins for a moment, then sleeps until the other rings a bell (an
eventfd). Both counters only grow. The order of stores is that of x86; elsewhere, and should a bell ever be missed, the
sleeper looks again by itself every NAP_S.
"""

import mmap
import os
import select
import time
from contextlib import suppress
from dataclasses import dataclass

from cubecast.errors import ExtensionFailed

LINE = 64
HEAD, TAIL, ASLEEP, DATA = 0, LINE, 2 * LINE, 3 * LINE
LENGTH_BYTES = 8
SPIN_S = 20e-6
NAP_S = 0.005
RING_BYTES = 32 * 2**20
MESSAGE_BYTES_MAX = RING_BYTES // 2


@dataclass(slots=True)
class RingFiles:
    """What a ring is made of, to be inherited by another process."""

    memory: int
    bell: int

    @classmethod
    def make(cls, size: int = RING_BYTES) -> "RingFiles":
        """A new ring's files."""
        memory = os.memfd_create("cubecast-ring", os.MFD_CLOEXEC)
        os.ftruncate(memory, DATA + size)
        return cls(memory, os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))

    def close(self) -> None:
        """Closes both; a ring that is open stays so."""
        os.close(self.memory)
        os.close(self.bell)


class Ring:
    """One end of a ring."""

    def __init__(self, files: RingFiles) -> None:
        self._map = mmap.mmap(files.memory, 0)
        self._bell = os.dup(files.bell)
        self._bytes = memoryview(self._map)
        self._size = len(self._map) - DATA
        words = self._bytes[:DATA].cast("Q")
        self._words = words
        self._poll = select.poll()
        self._poll.register(self._bell, select.POLLIN)

    def push(self, message: bytes) -> None:
        """Puts a message in and wakes the reader.

        Raises:
            ExtensionFailed: there is no room for it.
        """
        words, head = self._words, self._words[HEAD // 8]
        need = LENGTH_BYTES + len(message)
        if need > self._size - (head - words[TAIL // 8]):
            raise ExtensionFailed("error", f"a message of {len(message)} bytes does not fit between host and worker")
        self._put(head, len(message).to_bytes(LENGTH_BYTES, "little"))
        self._put(head + LENGTH_BYTES, message)
        words[HEAD // 8] = head + need
        if words[ASLEEP // 8]:
            os.eventfd_write(self._bell, 1)

    def pop(self, timeout_s: float | None) -> bytes | None:
        """The next message; None when none has come in time.

        Raises:
            ExtensionFailed: what lies there is no message.
        """
        if not self._wait(timeout_s):
            return None
        words = self._words
        tail = words[TAIL // 8]
        size = int.from_bytes(self._get(tail, LENGTH_BYTES), "little")
        if size > words[HEAD // 8] - tail - LENGTH_BYTES:
            raise ExtensionFailed("output", "what came from the worker is no message")
        message = self._get(tail + LENGTH_BYTES, size)
        words[TAIL // 8] = tail + LENGTH_BYTES + size
        return message

    def close(self) -> None:
        """Unmaps it."""
        self._words.release()
        self._bytes.release()
        self._map.close()
        os.close(self._bell)

    def _wait(self, timeout_s: float | None) -> bool:
        words = self._words
        begun = time.perf_counter()
        end = begun + timeout_s if timeout_s is not None else float("inf")
        spin_until = min(end, begun + SPIN_S)
        while words[HEAD // 8] == words[TAIL // 8]:
            now = time.perf_counter()
            if now < spin_until:
                continue
            if now >= end:
                return False
            words[ASLEEP // 8] = 1
            try:
                if words[HEAD // 8] == words[TAIL // 8]:
                    self._poll.poll(1000 * min(NAP_S, end - now))
            finally:
                words[ASLEEP // 8] = 0
            with suppress(BlockingIOError):
                os.eventfd_read(self._bell)
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
