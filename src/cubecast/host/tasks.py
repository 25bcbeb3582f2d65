"""The background tasks of one host: they run in one TaskGroup and are cancelled together."""

import asyncio
from collections.abc import Coroutine


class Tasks:
    """A TaskGroup that can cancel its tasks."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._running: set[asyncio.Task[None]] = set()

    def create_task(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Starts a task; if it fails, the whole group is cancelled."""
        task = self._group.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def cancel_all(self) -> None:
        """Cancels every task that still runs."""
        for task in list(self._running):
            task.cancel()
