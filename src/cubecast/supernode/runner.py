"""Runs the directory's engine: stores its effects, then pushes them to the hosts' open streams."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.directory.events import (
    Advise,
    AskProbes,
    Assign,
    DeleteHost,
    DirectoryEffect,
    DirectoryEvent,
    PushPlacement,
    SaveHost,
)
from cubecast.errors import DirectoryError, StoreError
from cubecast.supernode.access.names import Names
from cubecast.supernode.clock import MARK_S, SupernodeClock
from cubecast.supernode.outbox import Outbox
from cubecast.supernode.store import Store
from cubecast.tracing.writer import TraceWriter
from cubecast.types import HostId


class DirectoryRunner:
    """The engine, its store, and what waits to be pushed. No method awaits."""

    def __init__(
        self,
        engine: DirectoryEngine,
        store: Store,
        clock: SupernodeClock,
        names: Names,
        has_left: Callable[[HostId], None],
        trace: TraceWriter | None,
    ) -> None:
        """Restores the stored state into the engine.

        Args:
            has_left: called with every host that was removed.
            trace: where events and effects are written.
        """
        self.engine = engine
        self._store = store
        self._clock = clock
        self._names = names
        self._has_left = has_left
        self._trace = trace
        self._marked_s = clock.now_s()
        self.outboxes: dict[HostId, Outbox] = {}
        """Of the hosts that read their pushes."""
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the StoreError when the store fails; the caller that runs the super-node waits on it."""
        engine.restore(store.shape(), store.hosts(), store.channels(), clock.now_s())

    def handle(self, event: DirectoryEvent) -> list[DirectoryEffect]:
        """Stores the effects of an event on disk, then pushes them.

        Raises:
            DirectoryError: the engine refuses the event, or the store failed.
        """
        now = self._clock.now_s()
        effects = self.engine.handle(event, now)
        if self._trace is not None:
            self._trace.directory(now, event, effects)
        try:
            if effects:
                self._store.apply(effects, now)
        except StoreError as error:  # memory is ahead of the disk now: stop, and start again from the disk
            self._break(error)
        for effect in effects:
            match effect:
                case SaveHost(record):
                    self._names.take(record.host, record.key)
                case DeleteHost(host):
                    self._names.leave(host, now)
                    self._has_left(host)
                case PushPlacement() | Advise() | AskProbes() | Assign() if effect.host in self.outboxes:
                    self.outboxes[effect.host].put(effect)
                case _:
                    pass
        return effects

    def keep_time(self) -> None:
        """Stores the time at intervals, and frees names that were held long enough."""
        now = self._clock.now_s()
        if now - self._marked_s < MARK_S:
            return
        self._marked_s = now
        with suppress(DirectoryError):  # `broken` has the reason
            try:
                self._store.store_clock(now)
                self._store.free_names(self._names.expire(now))
            except StoreError as error:
                self._break(error)

    def _break(self, error: StoreError) -> None:
        if not self.broken.done():
            self.broken.set_exception(error)
        raise DirectoryError("the super-node cannot write its store and stops") from error
