"""The channels a host carries: their origins, and the media sessions of children that read from them.

An origin shows its best route only, so a host that carries a channel announces a mark of its own beside it: a mark that
came over one hop proves that the session to that host has announced what it has (docs/decisions/0010).
"""

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

import moq

from cubecast.engine.protocol.records import HostRecord
from cubecast.host.channel.tracks import BROADCAST, CopyCount
from cubecast.host.media.sessions import DIAL_S, FORBIDDEN, NOT_FOUND, Dialler, Hooks, stats_of
from cubecast.host.tasks import Tasks
from cubecast.types import ChannelName, HostId

MARK = "at/"
MARKED_S = 0.02
"""What was announced with a mark may come a moment later."""
PUSH_PATH = ".push/"
PUSH_TRIES, PUSH_PAUSE_S = 8, 0.25
"""A child may hear of its branch a moment after we do."""
CACHE_BYTES = 32 << 20
"""A channel's cache: bitrate x repair time, with room."""


@dataclass(slots=True, eq=False)
class _Carried:
    """A channel's origin, and the mark that tells those below that this host has the channel."""

    origin: moq.OriginProducer
    marking: asyncio.Task[None]


class Channels:
    """Origins and children by channel; its tasks belong to the owner."""

    def __init__(self, host: HostId, client: Dialler, hooks: Hooks, tasks: Tasks) -> None:
        self._host = host
        self._client = client
        self._hooks = hooks
        self._tasks = tasks
        self._carried: dict[ChannelName, _Carried] = {}
        self._children: dict[ChannelName, dict[moq.Session, HostId]] = {}
        self._pushes: dict[tuple[ChannelName, HostId], asyncio.Task[None]] = {}
        self.copies: dict[ChannelName, CopyCount] = {}

    def origin(self, channel: ChannelName) -> moq.OriginProducer:
        """The channel's origin: what its pulls fill and its children and local readers read."""
        if channel not in self._carried:
            origin = moq.OriginProducer(cache_capacity_bytes=CACHE_BYTES)
            self._carried[channel] = _Carried(origin, self._tasks.create_task(self._mark(origin)))
        return self._carried[channel].origin

    def copy_count(self, channel: ChannelName) -> CopyCount:
        """The channel's counter of frames that cross into Python."""
        return self.copies.setdefault(channel, CopyCount())

    def send_rates_bps(self, channel: ChannelName) -> list[float]:
        """What each child's session may send, as far as its congestion control knows."""
        rates = (stats_of(session).send_bps for session in self._children.get(channel, {}))
        return [rate for rate in rates if rate is not None]

    def drop(self, channel: ChannelName) -> None:
        """Forgets a channel: its origin, its cache and its children's sessions."""
        carried = self._carried.pop(channel, None)
        if carried is not None:
            carried.marking.cancel()
        for session in self._children.pop(channel, {}):
            session.shutdown()
        for key in [key for key in self._pushes if key[0] == channel]:
            self._pushes.pop(key).cancel()

    def evict(self, channel: ChannelName, host: HostId) -> None:
        """Closes the channel's sessions to a host that is no child any more."""
        for session, child in self._children.get(channel, {}).items():
            if child == host:
                session.shutdown()
        push = self._pushes.pop((channel, host), None)
        if push is not None:
            push.cancel()

    def push(self, channel: ChannelName, record: HostRecord) -> None:
        """Opens a session to a child that cannot dial us, and serves the channel over it."""
        older = self._pushes.pop((channel, record.host), None)
        if older is not None:
            older.cancel()
        self._pushes[channel, record.host] = self._tasks.create_task(self._push(channel, record))

    def names(self) -> set[ChannelName]:
        """Everything there is."""
        return {*self._carried, *self._children}

    async def accept(self, request: moq.Request, channel: ChannelName, host: HostId) -> None:
        """Serves a channel to a child, to the end of its session.

        Raises:
            moq.Error: the session broke while it was set up.
        """
        carried = self._carried.get(channel)
        if carried is None:
            await request.reject(NOT_FOUND)
            return
        if not self._hooks.may_pull(channel, host):
            await request.reject(FORBIDDEN)
            return
        request.set_publish(carried.origin)
        request.set_consume(None)
        session = await request.accept()
        if not self._hooks.may_pull(channel, host) or self._carried.get(channel) is not carried:  # it took a while
            session.shutdown()
            return
        children = self._children.setdefault(channel, {})
        children[session] = host
        try:
            await session.closed()
        finally:
            children.pop(session, None)

    async def _push(self, channel: ChannelName, record: HostRecord) -> None:
        for _ in range(PUSH_TRIES):
            carried = self._carried.get(channel)
            if carried is None or not self._hooks.may_pull(channel, record.host):
                return
            client = self._client(record, f"{PUSH_PATH}{channel}", carried.origin, moq.OriginProducer())
            with suppress(moq.Error, ValueError, TimeoutError):
                async with AsyncExitStack() as stack:
                    async with asyncio.timeout(DIAL_S):
                        await stack.enter_async_context(client)
                    if client.session is not None:
                        await client.session.closed()
            await asyncio.sleep(PUSH_PAUSE_S)

    async def _mark(self, origin: moq.OriginProducer) -> None:
        """Announces that this host has the channel once it has, for as long as it carries it."""
        with suppress(moq.Error):
            stream = await origin.consume().announced_broadcast(BROADCAST)
            mark = origin.create_broadcast(f"{MARK}{self._host}")
            mark.announce()
            try:
                await asyncio.Event().wait()
            finally:
                mark.close()
                del stream


async def marked(origin: moq.OriginProducer, host: HostId) -> None:
    """Waits until a host's mark arrives straight from it, and a moment for what was announced with it.

    Raises:
        moq.Error: the origin is gone.
    """
    async for update in origin.consume().announced(f"{MARK}{host}"):
        if update.active and update.route is not None and len(update.route.hops) == 1:
            await asyncio.sleep(MARKED_S)
            return
