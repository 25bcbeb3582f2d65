"""The channels a host carries: their origins, and the media sessions of children that read from them.

A mark is a broadcast named after a host, which each host announces together with a channel that it carries. A mark that
arrives over one hop proves that the session to that host has announced its broadcasts; the channel's own broadcast does
not, since an origin shows only its best route (docs/decisions/0010).
"""

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

import moq

from cubecast.engine.protocol.records import HostRecord
from cubecast.host.channel.tracks import BROADCAST, CopyCount
from cubecast.host.media.sessions import DIAL_S, FORBIDDEN, NOT_FOUND, Dialler, Hooks, stats_of
from cubecast.host.tasks import Tasks
from cubecast.tokens.authority import Bearer
from cubecast.types import ChannelName, HostId

MARK = "at/"
"""Prefix of the names of marks."""
MARKED_S = 0.02
"""Time allowed for a channel's broadcast to arrive after the mark announced with it, s."""
PUSH_PATH = ".push/"
"""Prefix of the path of sessions that a parent opens to its child."""
PUSH_TRIES = 8
"""Maximum number of attempts to open such a session: the child may get its Confirm shortly after the session."""
PUSH_PAUSE_S = 0.25
"""Pause between two attempts, s."""
CACHE_BYTES = 32 << 20
"""Size of a channel's cache, bytes: 24 Mbit/s for the 11 s of a repair. Frames older than that cannot be fetched."""


@dataclass(slots=True, eq=False)
class _Carried:
    """A channel's origin, and the task that keeps this host's mark announced in it."""

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
        """The channel's origin: sessions to parents write into it, children and local readers read from it."""
        if channel not in self._carried:
            origin = moq.OriginProducer(cache_capacity_bytes=CACHE_BYTES)
            self._carried[channel] = _Carried(origin, self._tasks.create_task(self._mark(origin)))
        return self._carried[channel].origin

    def copy_count(self, channel: ChannelName) -> CopyCount:
        """The channel's counter of frames that cross between Rust and Python."""
        return self.copies.setdefault(channel, CopyCount())

    def send_rates_bps(self, channel: ChannelName) -> list[float]:
        """Rate that congestion control allows each child's session, where it is known."""
        rates = (stats_of(session).send_bps for session in self._children.get(channel, {}))
        return [rate for rate in rates if rate is not None]

    def child_rtt_ms(self) -> dict[HostId, float]:
        """Round trips to children, by the acknowledgements of their media: control links are too quiet to follow them."""
        found: dict[HostId, float] = {}
        for sessions in self._children.values():
            for session, child in sessions.items():
                rtt_ms = stats_of(session).rtt_ms
                if rtt_ms is not None:
                    found[child] = min(rtt_ms, found.get(child, rtt_ms))
        return found

    def drop(self, channel: ChannelName) -> None:
        """Closes a channel: its origin, its cache and its children's sessions."""
        carried = self._carried.pop(channel, None)
        if carried is not None:
            carried.marking.cancel()
        for session in self._children.pop(channel, {}):
            session.shutdown()
        for key in [key for key in self._pushes if key[0] == channel]:
            self._pushes.pop(key).cancel()

    def evict(self, channel: ChannelName, host: HostId) -> None:
        """Closes the channel's sessions to a host that is no longer a child."""
        for session, child in self._children.get(channel, {}).items():
            if child == host:
                session.shutdown()
        push = self._pushes.pop((channel, host), None)
        if push is not None:
            push.cancel()

    def push(self, channel: ChannelName, record: HostRecord) -> None:
        """Opens a session to a child that cannot dial this host, and serves the channel over it."""
        older = self._pushes.pop((channel, record.host), None)
        if older is not None:
            older.cancel()
        self._pushes[channel, record.host] = self._tasks.create_task(self._push(channel, record))

    def names(self) -> set[ChannelName]:
        """The channels that have an origin or children."""
        return {*self._carried, *self._children}

    async def accept(self, request: moq.Request, channel: ChannelName, bearer: Bearer) -> None:
        """Serves a channel to a child until its session ends.

        Raises:
            moq.Error: the session broke while it was set up.
        """
        host, carried = bearer.host, self._carried.get(channel)
        if carried is None:
            await request.reject(NOT_FOUND)
            return
        if not self._hooks.may_pull(channel, host, bearer.key):
            await request.reject(FORBIDDEN)
            return
        request.set_publish(carried.origin)
        request.set_consume(None)
        session = await request.accept()
        if not self._hooks.may_pull(channel, host, bearer.key) or self._carried.get(channel) is not carried:
            session.shutdown()  # the host is no longer a child, or the channel was closed, since the checks above
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
            if carried is None or not self._hooks.may_pull(channel, record.host, record.key):
                return
            with suppress(moq.Error, ValueError, TimeoutError):
                client = self._client(record, f"{PUSH_PATH}{channel}", carried.origin, moq.OriginProducer())
                async with AsyncExitStack() as stack:
                    async with asyncio.timeout(DIAL_S):
                        await stack.enter_async_context(client)
                    if client.session is not None:
                        await client.session.closed()
            await asyncio.sleep(PUSH_PAUSE_S)

    async def _mark(self, origin: moq.OriginProducer) -> None:
        """Announces this host's mark once the channel has arrived, for as long as it is carried."""
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
    """Waits until a host's mark arrives over one hop, and MARKED_S for the broadcasts announced with it.

    Raises:
        moq.Error: the origin was closed.
    """
    async for update in origin.consume().announced(f"{MARK}{host}"):
        if update.active and update.route is not None and len(update.route.hops) == 1:
            await asyncio.sleep(MARKED_S)
            return
