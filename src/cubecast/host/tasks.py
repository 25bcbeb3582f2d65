"""Background tasks of one host: all in one TaskGroup, all cancelled together."""

import asyncio
from collections.abc import Coroutine


class Tasks:
    """A TaskGroup whose tasks can be ended when their owner stops."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._running: set[asyncio.Task[None]] = set()

    def create_task(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Starts work; a failure ends the whole group."""
        task = self._group.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def cancel_all(self) -> None:
        """Cancels whatever still runs."""
        for task in list(self._running):
            task.cancel()
