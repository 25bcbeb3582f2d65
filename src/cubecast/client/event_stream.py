"""A bounded queue of events between a host and its user."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from cubecast.client.events import Event, EventsDropped

EVENTS_MAX = 1024
"""Maximum number of events that wait for the reader: bounds memory. Beyond it the oldest are dropped, and an EventsDropped
reports their number."""


class EventStream:
    """Events in order, for one reader."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._dropped = 0
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, event: Event) -> None:
        """Appends an event; drops the oldest if too many wait."""
        if len(self._events) == EVENTS_MAX:
            self._events.popleft()
            self._dropped += 1
        self._events.append(event)
        self._changed.set()

    def close(self) -> None:
        """Ends the stream; the events that wait can still be read."""
        self._closed = True
        self._changed.set()

    async def events(self) -> AsyncGenerator[Event]:
        """The events as they come, until `close`."""
        while True:
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                yield EventsDropped(dropped)
            while self._events and not self._dropped:
                yield self._events.popleft()
            if self._dropped:
                continue
            if self._closed:
                return
            self._changed.clear()
            await self._changed.wait()
