"""An event queue: simulated time goes from one action to the next. Model: simpy's event loop."""

import heapq
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")

START_S = 1_000_000.0
"""Simulated clocks begin here, s since the Unix epoch."""


class EventQueue:
    """Actions by time; those of the same time in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = START_S
        self.done = 0
        """Actions so far."""
        self._queue: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._number = 0

    def after(self, seconds: float, action: Callable[P, None], *args: P.args, **_: P.kwargs) -> None:
        """Calls an action later."""
        self._number += 1
        entry: tuple[float, int, Callable[..., None], tuple[object, ...]] = (
            self.now + seconds,
            self._number,
            action,
            args,
        )
        heapq.heappush(self._queue, entry)

    def run(self, seconds: float) -> None:
        """Lets time go by."""
        queue, end = self._queue, self.now + seconds
        while queue and queue[0][0] <= end:
            self.now, _, action, args = heapq.heappop(queue)
            self.done += 1
            action(*args)
        self.now = end
