"""An event queue: simulated time jumps from one action to the next. Model: simpy's event loop."""

import heapq
from collections.abc import Callable
from typing import TypeVarTuple

Ts = TypeVarTuple("Ts")

START_S = 1_000_000.0
"""Time at which every simulated clock begins, s since the Unix epoch."""


class EventQueue:
    """Actions ordered by time; actions of the same time keep the order in which they were scheduled."""

    def __init__(self) -> None:
        self.now = START_S
        self.done = 0
        """Number of actions performed."""
        self._queue: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._number = 0

    def after(self, seconds: float, action: Callable[[*Ts], None], *args: *Ts) -> None:
        """Schedules an action that many seconds from now."""
        self._number += 1
        entry: tuple[float, int, Callable[..., None], tuple[object, ...]] = (
            self.now + seconds,
            self._number,
            action,
            args,
        )
        heapq.heappush(self._queue, entry)

    def run(self, seconds: float) -> None:
        """Performs everything due within that many seconds and advances the time by them."""
        queue, end = self._queue, self.now + seconds
        while queue and queue[0][0] <= end:
            self.now, _, action, args = heapq.heappop(queue)
            self.done += 1
            action(*args)
        self.now = end
