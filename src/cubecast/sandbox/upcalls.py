"""Events that wait for an extension: a bounded queue by priority. Model: POSIX.4's queued signals.

What is urgent is delivered first; when the queue is full, the oldest of the least urgent is dropped and counted.
"""

import threading
from collections import deque
from dataclasses import dataclass, field

from cubecast.sandbox.abi import EventKind

QUEUE_MAX = 64
PRIORITY = {
    EventKind.CONGESTION: 0,
    EventKind.CPU_PRESSURE: 0,
    EventKind.BOUND_VIOLATED: 0,
    EventKind.SUBSCRIBER_JOINED: 1,
    EventKind.SUBSCRIBER_LEFT: 1,
    EventKind.LINK_COST_CHANGED: 2,
    EventKind.TIMER: 3,
}
"""0 is the most urgent."""


@dataclass(frozen=True, slots=True)
class Upcall:
    """Something that happened, at a time of the channel's clock."""

    kind: EventKind
    time_us: int
    value: float = 0.0


@dataclass(slots=True)
class UpcallQueue:
    """Upcalls of one extension; posted by one thread, taken by another.

    Attributes:
        kinds: what it wants to be told of; everything else is not taken in.
        dropped: how many were, for want of room.
    """

    kinds: frozenset[EventKind]
    room: int = QUEUE_MAX
    dropped: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: tuple[deque[Upcall], ...] = field(default_factory=lambda: tuple(deque() for _ in set(PRIORITY.values())))

    def post(self, upcall: Upcall) -> None:
        """Takes an event in."""
        if upcall.kind not in self.kinds:
            return
        priority = PRIORITY[upcall.kind]
        with self._lock:
            if len(self) >= self.room:
                least = next(rank for rank in reversed(range(len(self._waiting))) if self._waiting[rank])
                self.dropped += 1
                if least < priority:
                    return  # the newcomer itself is the least urgent
                self._waiting[least].popleft()
            self._waiting[priority].append(upcall)

    def take(self) -> Upcall | None:
        """The most urgent, the oldest of those; None when nothing waits."""
        with self._lock:
            return next((waiting.popleft() for waiting in self._waiting if waiting), None)

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._waiting)
