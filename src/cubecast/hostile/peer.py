"""A host without an engine: it joins, and then sends what it likes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from cubecast.engine.protocol import frames
from cubecast.engine.protocol.http_bodies import JoinRequest, Overview, RefreshRequest
from cubecast.engine.protocol.messages import Heartbeat, Hello, Message
from cubecast.engine.protocol.records import HostRecord
from cubecast.errors import CubecastError, MessageError
from cubecast.host.directory.client import DirectoryClient
from cubecast.host.media.dataplane import DataPlane
from cubecast.host.peer_rights import PeerRights
from cubecast.host.tasks import Tasks
from cubecast.hostile.target import Target
from cubecast.tokens.authority import Verifier
from cubecast.types import ChannelName, HostId

Condition = Callable[[], bool]

REFRESH_S = 2.0
"""Time between two refreshes, s, as a host's."""
ANSWER_S = 2.0
"""Longest wait for an answer of another host, s."""


class Peer:
    """The hooks of a data plane that records what comes, and decides nothing."""

    def __init__(self, client: DirectoryClient) -> None:
        self.client = client
        self.plane: DataPlane
        self.rights: PeerRights
        self.record: HostRecord
        self.up: set[HostId] = set()
        self.received: list[tuple[HostId, Message]] = []
        self.pulled_from: set[HostId] = set()
        self.changed = asyncio.Event()

    def link_up(self, host: HostId) -> None:
        """See Hooks."""
        self.up.add(host)
        self.send(host, Hello(self.record))
        self.send(host, Heartbeat(needs=True))

    def link_down(self, host: HostId, reason: str) -> None:  # noqa: ARG002  see Hooks
        """See Hooks."""
        self.up.discard(host)
        self.changed.set()

    def message(self, host: HostId, payload: bytes) -> None:
        """See Hooks."""
        with suppress(MessageError):
            self.received += [(host, message) for message in frames.decode(payload)]
        self.changed.set()

    def may_pull(self, channel: ChannelName, host: HostId, key: str) -> bool:  # noqa: ARG002  see Hooks
        """See Hooks."""
        return True

    def pulled(self, channel: ChannelName, host: HostId) -> None:  # noqa: ARG002  see Hooks
        """See Hooks."""
        self.pulled_from.add(host)
        self.changed.set()

    def pull_failed(self, channel: ChannelName, host: HostId, reason: str) -> None:
        """See Hooks."""

    def prepared(self, channel: ChannelName, host: HostId) -> None:
        """See Hooks."""

    def send(self, host: HostId, message: Message) -> None:
        """Sends a message at once, with this host's credential where one belongs."""
        self.plane.links.send(host, self.rights.signed(message))
        self.plane.links.flush()
        self.changed.set()

    def send_bytes(self, host: HostId, payload: bytes) -> None:
        """Sends a frame of the control track, whatever it is."""
        link = self.plane.links._links.get(host)  # noqa: SLF001  no honest host sends such
        if link is not None:
            group = link.outbox.track.append_group()
            group.write_frame(payload)
            group.finish()

    async def hosts(self) -> dict[HostId, HostRecord]:
        """Every other host, as the super-node's overview lists it."""
        overview: Overview = await self.client.overview()
        return {record.host: record for record in overview.hosts if record.host != self.record.host}

    async def link(self, record: HostRecord) -> bool:
        """Opens a link to a host; whether it is up within ANSWER_S."""
        self.plane.links.dial(record)
        return await self.until(lambda: record.host in self.up)

    async def until(self, condition: Condition) -> bool:
        """Waits until a condition holds, ANSWER_S at most; whether it does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                while not condition():
                    self.changed.clear()
                    await self.changed.wait()
        return condition()


@asynccontextmanager
async def joined(target: Target, name: str, token: str) -> AsyncIterator[Peer]:
    """A peer that has joined under a name, and keeps its lease.

    Raises:
        CubecastError: it cannot join.
    """
    client = DirectoryClient(target.supernode, token, lambda _: None)
    peer = Peer(client)
    async with asyncio.TaskGroup() as group:
        tasks = Tasks(group)
        host = HostId(name)
        peer.rights = PeerRights(host, client.identity, client.clock)
        peer.plane = DataPlane(target.listen, f"{target.source}:0", host, peer.rights, peer, tasks)
        await peer.plane.listen()
        try:
            answer = await client.join(
                JoinRequest(host, target.advertise, peer.plane.fingerprint, client.identity.public_key, 64)
            )
            peer.record = answer.placement.record
            peer.rights.trust(Verifier(answer.public_key), peer.plane.fingerprint)
            peer.plane.open()
            refreshing = tasks.create_task(_refresh(client, host))
            yield peer
            refreshing.cancel()
            await client.leave(host)
        finally:
            await peer.plane.close()
            tasks.cancel_all()
            await client.close()


async def _refresh(client: DirectoryClient, host: HostId) -> None:
    while True:
        await asyncio.sleep(REFRESH_S)
        with suppress(CubecastError):
            await client.refresh(host, RefreshRequest())
