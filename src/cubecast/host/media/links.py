"""Links: one control session to each neighbour, on which both ends publish a track of messages."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import moq

from cubecast.engine.protocol.frames import encode
from cubecast.engine.protocol.messages import Message
from cubecast.engine.protocol.records import HostRecord
from cubecast.errors import MessageError
from cubecast.host.media.sessions import DIAL_S, Dialler, Hooks, SessionStats, reason_of, stats_of
from cubecast.host.tasks import Tasks
from cubecast.types import HostId

LINK_PATH = ".link"
"""Path of a link in a session's URL; channel names cannot begin with a dot."""
LEFT = "the session ended"
"""Reason for which a link that worked went down; with any other reason the link could not be opened."""
CONTROL = "control"
"""Name of the broadcast that each end publishes on a link."""
MESSAGES = "messages"
"""Name of that broadcast's only track."""
FRAMES_PER_GROUP = 64
"""Number of frames of messages in one group; they are delivered in order within it."""
LINK_CACHE_BYTES = 1 << 20
"""Maximum size of the messages cached for a slow peer, bytes: bounds memory for each link."""
LINK_AGE_US = 30_000_000
"""Age beyond which messages are skipped, microseconds; a silent link is closed long before."""
MALFORMED_MAX = 16
"""Number of malformed frames of a peer after which its link is closed; each of them is dropped. A host of another version
sends one every two seconds, and is dialled again later."""


@dataclass(frozen=True, slots=True)
class _Outbox:
    """This host's end of a link: the origin offered to the peer and its track. Keeps the broadcast alive."""

    origin: moq.OriginProducer
    broadcast: moq.BroadcastProducer
    track: moq.TrackProducer


@dataclass(slots=True, eq=False)
class _Link:
    """The control session to one neighbour."""

    host: HostId
    outbox: _Outbox
    session: moq.Session
    client: moq.Client | None
    group: moq.GroupProducer | None = None
    in_group: int = 0
    task: asyncio.Task[None] | None = None
    waiting: list[Message] = field(default_factory=list)
    """Messages that go in the next frame."""
    malformed: int = 0
    """Malformed frames of the peer so far."""
    hung_up: bool = False
    """This host has closed it: its end is no failure to report."""
    opened_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    def flush(self) -> int:
        """Sends the waiting messages; returns the number of frames."""
        frames = list(encode(self.waiting))
        self.waiting.clear()
        for payload in frames:
            if self.group is None or self.in_group == FRAMES_PER_GROUP:
                if self.group is not None:
                    self.group.finish()
                self.group, self.in_group = self.outbox.track.append_group(), 0
            self.group.write_frame(payload)
            self.in_group += 1
        return len(frames)

    def close(self) -> None:
        if self.task is not None:
            self.task.cancel()


class Links:
    """The links of one host; its tasks belong to the owner."""

    def __init__(self, host: HostId, client: Dialler, hooks: Hooks, tasks: Tasks) -> None:
        self._host = host
        self._client = client
        self._hooks = hooks
        self._tasks = tasks
        self._links: dict[HostId, _Link] = {}
        self._dialling: dict[HostId, asyncio.Task[None]] = {}
        self._to_flush: dict[HostId, _Link] = {}
        self.frames_sent = 0
        """Frames of messages sent so far, over all links."""

    def dial(self, record: HostRecord) -> None:
        """Opens the link to a host; calls link_up or link_down."""
        if record.host not in self._dialling:
            self._dialling[record.host] = self._tasks.create_task(self._dial(record))

    def hang_up(self, host: HostId) -> None:
        """Closes the link to a host, or stops dialling it."""
        dialling = self._dialling.pop(host, None)
        if dialling is not None:
            dialling.cancel()
        self.flush()
        link = self._links.pop(host, None)
        if link is not None:
            link.hung_up = True
            link.close()

    def send(self, host: HostId, message: Message) -> None:
        """Queues one message for the next `flush`; it is dropped when there is no link."""
        link = self._links.get(host)
        if link is not None:
            link.waiting.append(message)
            self._to_flush[host] = link

    def flush(self) -> None:
        """Sends what is queued: all messages to one host in one frame, if they fit."""
        for link in self._to_flush.values():
            with suppress(moq.Error):
                self.frames_sent += link.flush()
        self._to_flush.clear()

    def stats(self, hosts: Iterable[HostId]) -> dict[HostId, SessionStats]:
        """Statistics of the links to those of these hosts that have one."""
        return {host: stats_of(self._links[host].session) for host in hosts if host in self._links}

    def close(self) -> None:
        """Closes every link."""
        for link in list(self._links.values()):
            link.close()

    async def _dial(self, record: HostRecord) -> None:
        inbox = moq.OriginProducer(cache_capacity_bytes=LINK_CACHE_BYTES)
        outbox = _control()
        client: moq.Client | None = None
        failed = ""
        try:
            client = self._client(record, LINK_PATH, outbox.origin, inbox)
            async with asyncio.timeout(DIAL_S):
                await client.__aenter__()
        except TimeoutError:
            failed = "no answer"
        except (moq.Error, ValueError) as error:
            failed = reason_of(error)
        finally:
            if self._dialling.get(record.host) is asyncio.current_task():
                del self._dialling[record.host]
        if failed or client is None or client.session is None:
            self._hooks.link_down(record.host, failed)
            return
        await self._run_link(_Link(record.host, outbox, client.session, client), inbox)

    async def accept(self, request: moq.Request, host: HostId) -> None:
        """Runs a link that the peer has dialled.

        Raises:
            moq.Error: the session broke while it was set up.
        """
        inbox = moq.OriginProducer(cache_capacity_bytes=LINK_CACHE_BYTES)
        outbox = _control()
        request.set_publish(outbox.origin)
        request.set_consume(inbox)
        session = await request.accept()
        await self._run_link(_Link(host, outbox, session, None), inbox)

    async def _run_link(self, link: _Link, inbox: moq.OriginProducer) -> None:
        """Runs one link from its handshake to its end; the newest link to a host replaces an older one."""
        link.task = asyncio.current_task()
        reading = asyncio.ensure_future(self._read_messages(link, inbox))
        closed = asyncio.ensure_future(link.session.closed())
        used = asyncio.ensure_future(link.outbox.track.demand().used())
        reason = "closed"
        try:
            await asyncio.wait((used, reading, closed), timeout=DIAL_S, return_when=asyncio.FIRST_COMPLETED)
            if used.done() and used.exception() is None:
                older = self._links.get(link.host)
                if older is not None and self._is_twin(older, link):
                    return
                if older is not None:
                    del self._links[link.host]
                    older.close()
                self._links[link.host] = link
                self._hooks.link_up(link.host)
                await asyncio.wait((reading, closed), return_when=asyncio.FIRST_COMPLETED)
            else:
                reason = "no answer"
            if closed.done() and not closed.cancelled() and closed.exception() is not None:
                reason = reason_of(closed.exception())
        finally:
            for task in (reading, closed, used):
                task.cancel()
                with suppress(asyncio.CancelledError, moq.Error, MessageError):
                    await task
            await _hang_up(link)
            if self._links.get(link.host) is link:
                del self._links[link.host]
                self._hooks.link_down(link.host, LEFT)
            elif link.client is not None and link.host not in self._links and not link.hung_up:
                self._hooks.link_down(link.host, reason)

    def _is_twin(self, older: _Link, link: _Link) -> bool:
        """Whether both ends dialled at once and the older link is kept, since the host with the smaller name dialled it."""
        both = asyncio.get_running_loop().time() - older.opened_at < DIAL_S
        ours_first = self._host < link.host
        return both and (older.client is not None) == ours_first and (link.client is not None) != ours_first

    async def _read_messages(self, link: _Link, inbox: moq.OriginProducer) -> None:
        broadcast = await inbox.consume().announced_broadcast(CONTROL)
        track = await broadcast.subscribe_track(MESSAGES, moq.Subscription(max_age_us=LINK_AGE_US))
        async for group in track:
            async for frame in group:
                if self._links.get(link.host) is link or link.host not in self._links:
                    self._received(link, frame.payload)

    def _received(self, link: _Link, payload: bytes) -> None:
        """Passes a frame on.

        Raises:
            MessageError: the peer has sent MALFORMED_MAX malformed ones.
        """
        try:
            self._hooks.message(link.host, payload)
        except MessageError:
            link.malformed += 1
            if link.malformed >= MALFORMED_MAX:
                raise


async def _hang_up(link: _Link) -> None:
    if link.client is not None:
        await link.client.__aexit__(None, None, None)
    else:
        link.session.shutdown()


def _control() -> _Outbox:
    origin = moq.OriginProducer(cache_capacity_bytes=LINK_CACHE_BYTES)
    broadcast = origin.create_broadcast(CONTROL)
    track = broadcast.publish_track(MESSAGES)
    broadcast.announce()
    return _Outbox(origin, broadcast, track)
