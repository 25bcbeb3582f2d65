"""Standby sessions: media sessions to hosts that may become parents, opened before they are needed.

A session takes some six round trips to open, which is too long when a parent has died. A second one on the channel's
own origin could replace the first, since an origin takes the media over the shortest route. So a standby session has an
origin of its own, which nothing reads from. To use it, the host dials itself: a bridge, a session over the loopback from
the standby's origin into the channel's. It is up in milliseconds, and is closed when a session dialled directly to the
new parent has taken over.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import moq

from cubecast.engine.protocol.records import HostRecord
from cubecast.errors import RemoteError
from cubecast.host.channel.description import parse_description
from cubecast.host.channel.tracks import BROADCAST, MEDIA_PRIORITY, TIMING, WARM_UP, read_format
from cubecast.host.media.channels import marked
from cubecast.host.media.sessions import DIAL_S, NOT_FOUND, Dialler, Hooks, reason_of
from cubecast.host.tasks import Tasks
from cubecast.types import ChannelName, HostId

BRIDGE_PATH = ".bridge/"
"""Prefix of the path of bridges in a session's URL."""
BRIDGE_MARK = "bridge/"
"""Prefix of the names of bridges' marks."""
BRIDGE_S = 2.0
"""Time limit for opening a bridge, s; it takes 5 to 10 ms on an idle machine."""
STANDBY_CACHE_BYTES = 8 << 20
"""Size of the cache of a standby session's origin, bytes: it holds media only between Rouse and the bridge."""
WARM_UP_S = 10.0
"""Time limit for reading the padding, s."""
START_AGE_US = 10_000_000
"""Greatest age of the media requested at Rouse, microseconds: everything since the parent became silent."""
START_S = 5.0
"""Time for which that media is read, s: by then the bridge reads it, or another parent was chosen."""


@dataclass(slots=True, eq=False)
class Standby:
    """An open session to a possible parent, and the origin that it announces into."""

    host: HostId
    client: moq.Client
    origin: moq.OriginProducer
    broadcast: moq.BroadcastConsumer
    tracks: tuple[str, ...]
    started: bool = False
    """Whether its media was requested, before the bridge is up."""


@dataclass(slots=True, eq=False)
class _Slot:
    """A standby session that is open or being opened."""

    task: asyncio.Task[None]
    standby: Standby | None = None
    taken: asyncio.Event = field(default_factory=asyncio.Event)


class StandbySessions:
    """The standby sessions of one host; its tasks belong to the owner."""

    def __init__(
        self, client: Dialler, loopback: Callable[[str, moq.OriginProducer], moq.Client], hooks: Hooks, tasks: Tasks
    ) -> None:
        """No sessions yet.

        Args:
            loopback: makes a client to this host itself, for a path, that subscribes into an origin.
        """
        self._client = client
        self._loopback = loopback
        self._hooks = hooks
        self._tasks = tasks
        self._slots: dict[tuple[ChannelName, HostId], _Slot] = {}
        self._bridged: dict[str, moq.OriginProducer] = {}

    def prepare(self, channel: ChannelName, record: HostRecord) -> None:
        """Opens a standby session; calls prepared or pull_failed."""
        if (channel, record.host) not in self._slots:
            self._slots[channel, record.host] = _Slot(self._tasks.create_task(self._open(channel, record)))

    def close(self, channel: ChannelName, host: HostId | None = None) -> None:
        """Closes the standby session to a host, or all of the channel's."""
        for key in [k for k in self._slots if k[0] == channel and host in (None, k[1])]:
            self._slots.pop(key).task.cancel()

    def start_media(self, channel: ChannelName, host: HostId) -> None:
        """Starts the media of an open standby session; it arrives in the standby's origin."""
        slot = self._slots.get((channel, host))
        if slot is not None and slot.standby is not None and not slot.standby.started:
            slot.standby.started = True
            self._tasks.create_task(_start_media(slot.standby))

    def channels(self) -> set[ChannelName]:
        """The channels that have standby sessions."""
        return {channel for channel, _ in self._slots}

    def take(self, channel: ChannelName, host: HostId) -> Standby | None:
        """Removes an open standby session and returns it to the caller, who closes it; None without one."""
        slot = self._slots.get((channel, host))
        if slot is None or slot.standby is None:
            return None
        del self._slots[channel, host]
        slot.taken.set()
        return slot.standby

    @asynccontextmanager
    async def bridge(self, channel: ChannelName, standby: Standby, into: moq.OriginProducer) -> AsyncIterator[None]:
        """Carries a standby session's broadcasts into an origin, for as long as this block runs.

        Raises:
            TimeoutError: the loopback does not answer.
            moq.Error: the standby session broke.
        """
        name = f"{channel}/{standby.host}"
        async with AsyncExitStack() as stack:
            mark = standby.origin.create_broadcast(f"{BRIDGE_MARK}{name}")
            stack.callback(mark.close)
            mark.announce()
            self._bridged[name] = standby.origin
            stack.callback(self._bridged.pop, name, None)
            client = self._loopback(f"{BRIDGE_PATH}{name}", into)
            async with asyncio.timeout(BRIDGE_S):
                await stack.enter_async_context(client)
                async for update in into.consume().announced(f"{BRIDGE_MARK}{name}"):
                    if update.active:
                        break
            yield

    async def accept(self, request: moq.Request, path: str) -> None:
        """Serves the other end of a bridge.

        Raises:
            moq.Error: the session broke while it was set up.
        """
        origin = self._bridged.get(path.removeprefix(BRIDGE_PATH))
        if origin is None:
            await request.reject(NOT_FOUND)
            return
        request.set_publish(origin)
        request.set_consume(None)
        session = await request.accept()
        await session.closed()

    async def _open(self, channel: ChannelName, record: HostRecord) -> None:
        """Opens a standby session and keeps it until it is taken or closed, or breaks."""
        origin = moq.OriginProducer(cache_capacity_bytes=STANDBY_CACHE_BYTES)
        slot = self._slots[channel, record.host]
        client: moq.Client | None = None
        reason = "closed"
        try:
            client = self._client(record, channel, moq.OriginProducer(), origin)
            async with asyncio.timeout(DIAL_S):
                await client.__aenter__()
                await marked(origin, record.host)
                broadcast = await origin.consume().announced_broadcast(BROADCAST)
                tracks = await _tracks(broadcast)
            assert client.session is not None, "it is open"
            slot.standby = Standby(record.host, client, origin, broadcast, tracks)
            self._hooks.prepared(channel, record.host)
            warming = asyncio.ensure_future(_warm_up(broadcast))
            closed, taken = asyncio.ensure_future(client.session.closed()), asyncio.ensure_future(slot.taken.wait())
            try:
                await asyncio.wait((closed, taken), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for waiting in (closed, taken, warming):
                    waiting.cancel()
                    with suppress(asyncio.CancelledError, moq.Error):
                        await waiting
        except TimeoutError:
            reason = "no answer"
        except (moq.Error, ValueError, RemoteError) as error:
            reason = reason_of(error)
        finally:
            slot.standby = None
            if client is not None and not slot.taken.is_set():
                await client.__aexit__(None, None, None)
        if self._slots.get((channel, record.host)) is slot:
            del self._slots[channel, record.host]
            self._hooks.pull_failed(channel, record.host, reason)


async def _tracks(broadcast: moq.BroadcastConsumer) -> tuple[str, ...]:
    """The names of the tracks that a subscriber reads."""
    described = parse_description(await read_format(broadcast))
    return (*map(str, range(len(described.tracks))), TIMING)


async def _start_media(standby: Standby) -> None:
    """Subscribes to every track for START_S."""
    wanted = moq.Subscription(priority=MEDIA_PRIORITY, max_age_us=START_AGE_US)
    with suppress(moq.Error):
        asked = [standby.broadcast.subscribe_track(name, wanted) for name in standby.tracks]
        tracks = await asyncio.gather(*asked)
        await asyncio.sleep(START_S)
        for track in tracks:
            track.cancel()
    standby.started = False


async def _warm_up(broadcast: moq.BroadcastConsumer) -> None:
    """Reads the channel's padding once, so that the session's congestion window is open when it is needed."""
    with suppress(moq.Error, TimeoutError):
        async with asyncio.timeout(WARM_UP_S):
            track = await broadcast.subscribe_track(WARM_UP, moq.Subscription())
            group = await track.next_group()
            while group is not None and await group.read_frame() is not None:
                pass
            track.cancel()
