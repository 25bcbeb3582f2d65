"""Upcalls of an extension: the events that wait for it, in a bounded priority queue modelled on POSIX.4's queued signals.

The most urgent are delivered first; when the queue is full, the oldest of the least urgent is dropped and counted.
"""

import threading
from collections import deque
from dataclasses import dataclass, field

from cubecast.sandbox.abi import EventKind

QUEUE_MAX = 64
"""Maximum number of upcalls that wait for one extension; it bounds the calls before the next batch of frames."""
PRIORITY = {
    EventKind.CONGESTION: 0,
    EventKind.CPU_PRESSURE: 0,
    EventKind.BOUND_VIOLATED: 0,
    EventKind.SUBSCRIBER_JOINED: 1,
    EventKind.SUBSCRIBER_LEFT: 1,
    EventKind.LINK_COST_CHANGED: 2,
    EventKind.TIMER: 3,
}
"""Priority of each kind of event; 0 is the most urgent."""


@dataclass(frozen=True, slots=True)
class Upcall:
    """An event for an extension; its time is of the channel's clock."""

    kind: EventKind
    time_us: int
    value: float = 0.0


@dataclass(slots=True)
class UpcallQueue:
    """Upcalls that wait for one extension; one thread may post while another takes.

    Attributes:
        kinds: events that the extension's manifest names; others are ignored.
        capacity: maximum number of upcalls that wait.
        dropped: number of upcalls dropped because the queue was full.
    """

    kinds: frozenset[EventKind]
    capacity: int = QUEUE_MAX
    dropped: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: tuple[deque[Upcall], ...] = field(default_factory=lambda: tuple(deque() for _ in set(PRIORITY.values())))

    def post(self, upcall: Upcall) -> None:
        """Adds an event; it, or a less urgent one, is dropped if the queue is full."""
        if upcall.kind not in self.kinds:
            return
        priority = PRIORITY[upcall.kind]
        with self._lock:
            if len(self) >= self.capacity:
                least = next(rank for rank in reversed(range(len(self._waiting))) if self._waiting[rank])
                self.dropped += 1
                if least < priority:
                    return  # the new event itself is the least urgent
                self._waiting[least].popleft()
            self._waiting[priority].append(upcall)

    def take(self) -> Upcall | None:
        """Removes and returns the oldest of the most urgent upcalls; None if none waits."""
        with self._lock:
            return next((waiting.popleft() for waiting in self._waiting if waiting), None)

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._waiting)
