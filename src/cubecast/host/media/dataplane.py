"""The data plane: MoQ sessions over one UDP port. Frames of other hosts' channels are forwarded in Rust.

Links (control sessions), pulls (media from parents), standbys (pulls that may be needed) and channels (media to children)
share the port; each has a module of its own. Python opens and closes sessions and never sees a frame. Every session
carries a host token made for its peer and pins the peer's certificate.
"""

import asyncio
from contextlib import suppress
from urllib.parse import parse_qs

import moq

from cubecast.engine.protocol.dial_back import DIAL_BACK_PATH
from cubecast.engine.protocol.records import HostRecord
from cubecast.errors import AddressError, TokenError
from cubecast.host.media.channels import PUSH_PATH, Channels
from cubecast.host.media.links import LINK_PATH, Links
from cubecast.host.media.parent_sessions import ParentSessions
from cubecast.host.media.sessions import BUSY, NOT_FOUND, UNAUTHORIZED, Hooks, dialler
from cubecast.host.media.standbys import BRIDGE_PATH, StandbySessions
from cubecast.host.peer_rights import PeerRights
from cubecast.host.tasks import Tasks
from cubecast.types import ORIGIN, ChannelName, HostId

SESSIONS_MAX = 4096
"""Maximum number of sessions accepted at a time: bounds memory; further ones are rejected as busy."""
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104  compared, not bound
"""By address that stands for all addresses of a machine: the loopback address at which such a host reaches itself."""


class DataPlane:
    """Sessions of one host. Call `listen`, then `open`; its tasks belong to the owner."""

    def __init__(self, bind: str, source: str, host: HostId, rights: PeerRights, hooks: Hooks, tasks: Tasks) -> None:
        """Opens no port yet.

        Args:
            bind: HOST:PORT to listen on, UDP.
            source: HOST:0 that outgoing sessions come from; empty leaves it to the system.
            rights: makes the tokens of sessions, and checks those of peers.
        """
        self._bind = bind
        self._host = host
        self._tasks = tasks
        self._server: moq.Server | None = None
        self._rights = rights
        self._accepting: asyncio.Task[None] | None = None
        self.trusted = asyncio.Event()
        """Set once the super-node is known, whose word peers' rights are checked by: until then their sessions wait."""
        self._sessions = 0
        self.fingerprint = ""
        client = dialler(rights.token, source)
        self.links = Links(host, client, hooks, tasks)
        self.channels = Channels(host, client, hooks, tasks)
        self._within = dialler(rights.token, "")
        self.standbys = StandbySessions(client, self._loopback, hooks, tasks)
        self.parent_sessions = ParentSessions(self.channels, self.standbys, client, hooks, tasks)

    async def listen(self) -> str:
        """Binds the port with a new certificate; sessions are answered after `open`.

        Returns:
            The bound address.

        Raises:
            AddressError: the name is unknown, the port is in use, or the address is not of this machine.
        """
        server = moq.Server(self._bind, tls_generate=["localhost"], publish=moq.OriginProducer(), subscribe=None)
        try:
            await server.__aenter__()
        except (moq.Error, ValueError) as error:
            if "failed to resolve" in str(error):
                raise AddressError(
                    f"cannot listen on {self._bind}: the name cannot be resolved; give an IP address with --listen"
                ) from error
            raise AddressError(
                f"cannot listen on {self._bind} (UDP): in use, or no address of this machine; choose another with --listen"
            ) from error
        self._server = server
        self.fingerprint = server.cert_fingerprints()[0]
        return server.local_addr

    def open(self) -> None:
        """Answers dial-backs of the super-node, and after `trusted` sessions of hosts whose tokens are accepted."""
        self._accepting = self._tasks.create_task(self._accept())

    async def close(self) -> None:
        """Closes every session and the port."""
        self.links.close()
        for channel in self.channels.names() | self.parent_sessions.names() | self.standbys.channels():
            self.drop_channel(channel)
        if self._accepting is not None:
            self._accepting.cancel()
        if self._server is not None:
            await self._server.__aexit__(None, None, None)
            await asyncio.sleep(0.05)  # callbacks of the closed sessions still arrive from Rust's threads

    def drop_channel(self, channel: ChannelName) -> None:
        """Closes a channel: sessions to parents and standbys, its origin, its cache and its children's sessions."""
        self.parent_sessions.drop(channel)
        self.standbys.close(channel)
        self.channels.drop(channel)

    def stop_pull(self, channel: ChannelName, host: HostId) -> None:
        """Closes the media session of a channel to a host, or the standby session."""
        self.parent_sessions.stop(channel, host)
        self.standbys.close(channel, host)

    def expel(self, host: HostId) -> None:
        """Closes the link to a host, and its sessions as a child."""
        self.links.hang_up(host)
        for channel in self.channels.names():
            self.channels.evict(channel, host)

    def _loopback(self, path: str, into: moq.OriginProducer) -> moq.Client:
        """A client from this host to itself."""
        assert self._server is not None, "listen() first"
        name, _, port = self._server.local_addr.rpartition(":")
        myself = HostRecord(self._host, f"{ANY_ADDRESS.get(name, name)}:{port}", self.fingerprint, "", ORIGIN)
        return self._within(myself, path, moq.OriginProducer(), into)

    async def _accept(self) -> None:
        server = self._server
        assert server is not None, "listen() first"
        while True:
            try:
                request = await anext(server)
            except StopAsyncIteration:
                return
            except moq.Error:
                await asyncio.sleep(0.01)  # one broken handshake
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
        path = request.path.strip("/")
        try:
            if path.startswith(DIAL_BACK_PATH):
                is_own = path.removeprefix(DIAL_BACK_PATH) == self._rights.public_key
                await self._reject(request, UNAUTHORIZED if is_own else NOT_FOUND)
                return
            await self.trusted.wait()
            token = parse_qs(request.query or "").get("token", [""])[0]
            bearer = self._rights.bearer(token)
            if path == LINK_PATH:
                await self.links.accept(request, bearer.host)
            elif path.startswith(BRIDGE_PATH) and bearer.host == self._host:
                await self.standbys.accept(request, path)
            elif path.startswith(PUSH_PATH):
                await self.parent_sessions.accept(request, ChannelName(path.removeprefix(PUSH_PATH)), bearer.host)
            else:
                channel = ChannelName(path)
                self._rights.check_receives(bearer, channel)
                await self.channels.accept(request, channel, bearer)
        except TokenError:
            await self._reject(request, UNAUTHORIZED)
        except (moq.Error, ValueError):
            pass  # the session broke; its peer notices
        finally:
            self._sessions -= 1
