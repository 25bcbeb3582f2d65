"""The data plane: MoQ sessions over one UDP port. Frames of other hosts' channels are forwarded in Rust.

- One origin a channel. A pull is a client session whose frames land in the channel's origin; every child is a server
  session that is given the same origin to read from. Python decides who pulls from whom and never sees a frame.
- A change of parents opens the new pull beside the old one on the same origin. Rust moves the media over without loss
  or duplicate once the new route has been announced; the old pull is closed after that. An origin shows its best route
  only, so a host that carries a channel announces a mark of its own beside it: a mark that came over one hop proves
  that the session to that host has announced what it has (docs/decisions/0010).
- One link a neighbour, on the same port: each end publishes a control broadcast and reads the other's.
- Every session shows a host token made for this peer and pins the peer's certificate.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qs

import moq

from cubecast.engine.records import HostRecord
from cubecast.errors import AddressError, TokenError
from cubecast.host.tasks import Tasks
from cubecast.host.tracks import BROADCAST, CopyCount
from cubecast.tokens import Identity, Verifier
from cubecast.types import ChannelName, HostId

LINK_PATH = ".link"
LEFT = "the session ended"
"""Why a link that worked went down; anything else is why one could not be opened."""
CONTROL, MESSAGES = "control", "messages"
MESSAGES_PER_GROUP = 64
DIAL_S = 3.0
MARK = "at/"
MARK_S, MARKED_S = 10.0, 0.02
"""A new parent's mark is waited for so long; what was announced with it may come a moment later."""
CACHE_BYTES = 32 << 20
"""A channel's cache: bitrate x repair time, with room."""
LINK_CACHE_BYTES = 1 << 20
SESSIONS_MAX = 4096
LINK_AGE_US = 30_000_000
UNAUTHORIZED, FORBIDDEN, NOT_FOUND, BUSY = 401, 403, 404, 503
REJECTED = 64
"""What moq adds to the code of a rejection on the wire."""


class Hooks(Protocol):
    """What the data plane tells its owner, always on the event loop."""

    def link_up(self, host: HostId) -> None:
        """Messages flow both ways."""

    def link_down(self, host: HostId, reason: str) -> None:
        """The link closed, or could not be opened."""

    def message(self, host: HostId, payload: bytes) -> None:
        """A frame of the control track arrived."""

    def may_pull(self, channel: ChannelName, host: HostId) -> bool:
        """Whether the host is a child of ours on this channel."""

    def pulled(self, channel: ChannelName, host: HostId) -> None:
        """A pull is open and its route has been announced: others of the channel may close."""

    def pull_failed(self, channel: ChannelName, host: HostId, reason: str) -> None:
        """A pull could not be opened, or closed."""


@dataclass(frozen=True, slots=True)
class SessionStats:
    """Counters of one session since it opened; rtt_ms is None while unknown."""

    rtt_ms: float | None
    packets_lost: int
    packets_sent: int
    bytes_received: int
    bytes_sent: int


@dataclass(frozen=True, slots=True)
class _Outbox:
    """Our end of a link: the origin offered to the peer, and its one track. A broadcast ends with its last handle."""

    origin: moq.OriginProducer
    broadcast: moq.BroadcastProducer
    track: moq.TrackProducer


@dataclass(slots=True, eq=False)
class _Carried:
    """A channel's origin, and the mark that tells those below that this host has the channel."""

    origin: moq.OriginProducer
    marking: asyncio.Task[None]


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
    opened_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    def send(self, payload: bytes) -> None:
        if self.group is None or self.in_group == MESSAGES_PER_GROUP:
            if self.group is not None:
                self.group.finish()
            self.group, self.in_group = self.outbox.track.append_group(), 0
        self.group.write_frame(payload)
        self.in_group += 1


@dataclass(slots=True, eq=False)
class _Pull:
    """A media session to one of a channel's parents, the new one or the one before."""

    task: asyncio.Task[None]
    client: moq.Client | None = None
    ready: bool = False


class DataPlane:
    """Sessions of one host. Enter it to listen; its tasks belong to the owner."""

    def __init__(
        self,
        bind: str,
        source: str,
        host: HostId,
        identity: Identity,
        hooks: Hooks,
        tasks: Tasks,
    ) -> None:
        """A data plane that does not listen yet.

        Args:
            bind: HOST:PORT to listen on, UDP.
            source: HOST:0 that outgoing sessions come from; empty leaves it to the system.
        """
        self._bind = bind
        self._source = source or None
        self._host = host
        self._identity = identity
        self._hooks = hooks
        self._tasks = tasks
        self._server: moq.Server | None = None
        self._verifier: Verifier | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._sessions = 0
        self._links: dict[HostId, _Link] = {}
        self._dialling: dict[HostId, asyncio.Task[None]] = {}
        self._pulls: dict[ChannelName, dict[HostId, _Pull]] = {}
        self._carried: dict[ChannelName, _Carried] = {}
        self._children: dict[ChannelName, dict[moq.Session, HostId]] = {}
        self.copies: dict[ChannelName, CopyCount] = {}
        self.fingerprint = ""

    async def listen(self) -> str:
        """Binds the port with a fresh certificate; sessions are answered once `open_for` was called.

        Returns:
            The bound address.

        Raises:
            AddressError: the port is in use, or the address is not ours.
        """
        server = moq.Server(self._bind, tls_generate=["localhost"], publish=moq.OriginProducer(), subscribe=None)
        try:
            await server.__aenter__()
        except (moq.Error, ValueError) as error:
            raise AddressError(
                f"cannot listen on {self._bind} (UDP): in use, or no address of this machine; choose another with --listen"
            ) from error
        self._server = server
        self.fingerprint = server.cert_fingerprints()[0]
        return server.local_addr

    def open_for(self, verifier: Verifier) -> None:
        """Answers sessions of hosts that the super-node vouches for."""
        self._verifier = verifier
        self._accepting = self._tasks.create_task(self._accept())

    async def close(self) -> None:
        """Closes every session and the port."""
        for link in list(self._links.values()):
            self._close_link(link)
        for channel in {*self._pulls, *self._children, *self._carried}:
            self.drop_channel(channel)
        if self._accepting is not None:
            self._accepting.cancel()
        if self._server is not None:
            await self._server.__aexit__(None, None, None)
            await asyncio.sleep(0.05)  # completions of the closed sessions still come from Rust's threads

    # ------------------------------------------------------------------ what the owner asks

    def dial(self, record: HostRecord) -> None:
        """Opens the link to a neighbour; ends in link_up or link_down."""
        if record.host not in self._dialling:
            self._dialling[record.host] = self._tasks.create_task(self._dial(record))

    def hang_up(self, host: HostId) -> None:
        """Closes the link to a host, or stops dialling it."""
        dialling = self._dialling.pop(host, None)
        if dialling is not None:
            dialling.cancel()
        link = self._links.pop(host, None)
        if link is not None:
            self._close_link(link)

    def send(self, host: HostId, payload: bytes) -> None:
        """Sends one message; dropped when there is no link, as on any network."""
        link = self._links.get(host)
        if link is not None:
            with suppress(moq.Error):
                link.send(payload)

    def pull(self, channel: ChannelName, record: HostRecord) -> None:
        """Opens a media session of a channel to a parent, beside those it has; ends in pulled or pull_failed."""
        pulls = self._pulls.setdefault(channel, {})
        known = pulls.get(record.host)
        if known is None:
            pulls[record.host] = _Pull(self._tasks.create_task(self._pull(channel, record)))
        elif known.ready:
            asyncio.get_running_loop().call_soon(self._hooks.pulled, channel, record.host)

    def stop_pull(self, channel: ChannelName, host: HostId) -> None:
        """Closes the media session of a channel to a host."""
        pull = self._pulls.get(channel, {}).pop(host, None)
        if pull is not None:
            pull.task.cancel()

    def drop_channel(self, channel: ChannelName) -> None:
        """Forgets a channel: its pulls, its origin, its cache and its children's sessions."""
        for host in list(self._pulls.get(channel, {})):
            self.stop_pull(channel, host)
        self._pulls.pop(channel, None)
        carried = self._carried.pop(channel, None)
        if carried is not None:
            carried.marking.cancel()
        for session in self._children.pop(channel, {}):
            session.shutdown()

    def evict(self, channel: ChannelName, host: HostId) -> None:
        """Closes the channel's sessions to a host that is no child any more."""
        for session, child in self._children.get(channel, {}).items():
            if child == host:
                session.shutdown()

    def origin(self, channel: ChannelName) -> moq.OriginProducer:
        """The channel's origin: what its pull fills and its children and local readers read."""
        if channel not in self._carried:
            origin = moq.OriginProducer(cache_capacity_bytes=CACHE_BYTES)
            self._carried[channel] = _Carried(origin, self._tasks.create_task(self._mark(origin)))
        return self._carried[channel].origin

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

    def copy_count(self, channel: ChannelName) -> CopyCount:
        """The channel's counter of frames that cross into Python."""
        return self.copies.setdefault(channel, CopyCount())

    def link_stats(self, hosts: Iterable[HostId]) -> dict[HostId, SessionStats]:
        """Statistics of the links to these hosts, as far as there are any."""
        return {host: _stats(self._links[host].session) for host in hosts if host in self._links}

    def pull_stats(self) -> dict[tuple[ChannelName, HostId], SessionStats]:
        """Statistics of every open pull."""
        return {
            (channel, host): _stats(pull.client.session)
            for channel, pulls in self._pulls.items()
            for host, pull in pulls.items()
            if pull.client is not None and pull.client.session is not None
        }

    # ------------------------------------------------------------------ links

    async def _dial(self, record: HostRecord) -> None:
        inbox = moq.OriginProducer(cache_capacity_bytes=LINK_CACHE_BYTES)
        outbox = _control()
        client = self._client(record, LINK_PATH, publish=outbox.origin, subscribe=inbox)
        failed = ""
        try:
            async with asyncio.timeout(DIAL_S):
                await client.__aenter__()
        except TimeoutError:
            failed = "no answer"
        except (moq.Error, ValueError) as error:
            failed = _reason(error)
        finally:
            if self._dialling.get(record.host) is asyncio.current_task():
                del self._dialling[record.host]
        if failed or client.session is None:
            self._hooks.link_down(record.host, failed)
            return
        await self._run_link(_Link(record.host, outbox, client.session, client), inbox)

    async def _accept_link(self, request: moq.Request, host: HostId) -> None:
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
                    self._close_link(older)
                self._links[link.host] = link
                self._hooks.link_up(link.host)
                await asyncio.wait((reading, closed), return_when=asyncio.FIRST_COMPLETED)
            else:
                reason = "no answer"
            if closed.done() and not closed.cancelled() and closed.exception() is not None:
                reason = _reason(closed.exception())
        finally:
            for task in (reading, closed, used):
                task.cancel()
                with suppress(asyncio.CancelledError, moq.Error):
                    await task
            await _hang_up(link)
            if self._links.get(link.host) is link:
                del self._links[link.host]
                self._hooks.link_down(link.host, LEFT)
            elif link.client is not None and link.host not in self._links:
                self._hooks.link_down(link.host, reason)

    def _is_twin(self, older: _Link, link: _Link) -> bool:
        """Whether both ends dialled at once and the older one stays: the one that the smaller name has dialled."""
        both = asyncio.get_running_loop().time() - older.opened_at < DIAL_S
        ours_first = self._host < link.host
        return both and (older.client is not None) == ours_first and (link.client is not None) != ours_first

    async def _read_messages(self, link: _Link, inbox: moq.OriginProducer) -> None:
        broadcast = await inbox.consume().announced_broadcast(CONTROL)
        track = await broadcast.subscribe_track(MESSAGES, moq.Subscription(max_age_us=LINK_AGE_US))
        async for group in track:
            async for frame in group:
                if self._links.get(link.host) is link or link.host not in self._links:
                    self._hooks.message(link.host, frame.payload)

    def _close_link(self, link: _Link) -> None:
        if link.task is not None:
            link.task.cancel()

    # ------------------------------------------------------------------ media sessions

    async def _pull(self, channel: ChannelName, record: HostRecord) -> None:
        client = self._client(record, channel, publish=moq.OriginProducer(), subscribe=self.origin(channel))
        reason = "closed"
        try:
            async with asyncio.timeout(DIAL_S):
                await client.__aenter__()
            mine = self._pulls.get(channel, {}).get(record.host)
            if client.session is None or mine is None or mine.task is not asyncio.current_task():
                return
            mine.client = client
            await self._run_pull(channel, record.host, mine, client.session)
        except TimeoutError:
            reason = "no answer"
        except (moq.Error, ValueError) as error:
            reason = _reason(error)
        finally:
            await client.__aexit__(None, None, None)
        pulls = self._pulls.get(channel, {})
        if record.host in pulls and pulls[record.host].task is asyncio.current_task():
            del pulls[record.host]
            self._hooks.pull_failed(channel, record.host, reason)

    async def _run_pull(self, channel: ChannelName, host: HostId, pull: _Pull, session: moq.Session) -> None:
        """Tells when the session has announced the channel, then waits for its end."""
        closed = asyncio.ensure_future(session.closed())
        marked = asyncio.ensure_future(self._marked(channel, host))
        try:
            await asyncio.wait((closed, marked), timeout=MARK_S, return_when=asyncio.FIRST_COMPLETED)
            if marked.done() and marked.exception() is None and not closed.done():
                pull.ready = True
                self._hooks.pulled(channel, host)
            await closed
        finally:
            for waiting in (closed, marked):
                waiting.cancel()
                with suppress(asyncio.CancelledError, moq.Error):
                    await waiting

    async def _marked(self, channel: ChannelName, host: HostId) -> None:
        """Waits until a host's mark arrives straight from it, and a moment for what was announced with it."""
        carried = self._carried.get(channel)
        if carried is None:
            return
        async for update in carried.origin.consume().announced(f"{MARK}{host}"):
            if update.active and update.route is not None and len(update.route.hops) == 1:
                await asyncio.sleep(MARKED_S)
                return

    async def _accept_pull(self, request: moq.Request, channel: ChannelName, host: HostId) -> None:
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

    # ------------------------------------------------------------------ both

    async def _accept(self) -> None:
        server = self._server
        assert server is not None, "listen() first"
        while True:
            try:
                request = await anext(server)
            except StopAsyncIteration:
                return
            except moq.Error:
                await asyncio.sleep(0.01)  # one broken handshake; the port goes on
                continue
            if self._sessions >= SESSIONS_MAX:
                self._tasks.create_task(self._reject(request, BUSY))
            else:
                self._tasks.create_task(self._answer(request))

    async def _reject(self, request: moq.Request, code: int) -> None:
        with suppress(moq.Error):
            await request.reject(code)

    async def _answer(self, request: moq.Request) -> None:
        self._sessions += 1
        try:
            assert self._verifier is not None
            token = parse_qs(request.query or "").get("token", [""])[0]
            bearer = self._verifier.host(token, self._host)
            path = request.path.strip("/")
            if path == LINK_PATH:
                await self._accept_link(request, bearer.host)
            else:
                await self._accept_pull(request, ChannelName(path), bearer.host)
        except TokenError:
            await self._reject(request, UNAUTHORIZED)
        except (moq.Error, ValueError):
            pass  # the peer's session broke; its own host knows
        finally:
            self._sessions -= 1

    def _client(
        self, record: HostRecord, path: str, publish: moq.OriginProducer, subscribe: moq.OriginProducer
    ) -> moq.Client:
        return moq.Client(
            f"https://{record.address}/{path}?token={self._identity.token(record.host)}",
            tls_fingerprints=[record.fingerprint],
            bind=self._source,
            websocket_enabled=False,
            reconnect=False,
            publish=publish,
            subscribe=subscribe,
        )


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


def _stats(session: moq.Session) -> SessionStats:
    stats = session.stats()
    return SessionStats(
        None if stats.rtt_us is None else stats.rtt_us / 1000,
        stats.packets_lost or 0,
        stats.packets_sent or 0,
        stats.bytes_received or 0,
        stats.bytes_sent or 0,
    )


def _reason(error: BaseException | None) -> str:
    """A session's failure in a few words."""
    if error is None:
        return "closed"
    if moq.is_auth(error):
        return "the token was refused"
    protocol = moq.protocol_error(error)
    if protocol is not None:
        return "it does not carry the channel" if protocol.code == REJECTED + NOT_FOUND else "it closed the session"
    text = str(error)
    known = next((each for each in ("fingerprint mismatch", "timed out") if each in text), "")
    return known or ("closed" if moq.is_shutdown(error) else text.strip("'\"")[:120])
