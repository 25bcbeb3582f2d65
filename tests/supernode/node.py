"""A super-node in this process, and its clients."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cubecast.engine.protocol.http_bodies import JoinRequest
from cubecast.host.directory.client import DirectoryClient
from cubecast.overlay.cube import Cube
from cubecast.supernode.server import SupernodeConfig, serving
from cubecast.supernode.service import Service
from cubecast.tokens.authority import Authority
from cubecast.tokens.permission import Permission
from cubecast.types import ChannelName, HostId

CLIP = ChannelName("clip")


@dataclass
class Node:
    """A running super-node and its state folder."""

    service: Service
    state: Path
    clients: list[DirectoryClient]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.port}"

    def client(self, permission: Permission | None = None) -> DirectoryClient:
        authority = Authority.load(self.state / "authority.pem")
        client = DirectoryClient(self.url, authority.join_token(permission or Permission()), lambda _: None)
        self.clients.append(client)
        return client


def config(state: Path, shape: Cube | None = Cube(2, 3), port: int = 0) -> SupernodeConfig:  # noqa: B008  immutable
    return SupernodeConfig("127.0.0.1", port, state, shape, 8, 1, dial_back=False)


@contextlib.asynccontextmanager
async def node(state: Path) -> AsyncIterator[Node]:
    async with serving(config(state)) as service:
        running = Node(service, state, [])
        try:
            yield running
        finally:
            for client in running.clients:
                await client.close()


def address_of(name: str) -> str:
    """An address for a host, by its name."""
    return f"10.{'.'.join(str(byte) for byte in sha256(name.encode()).digest()[:3])}:4443"


def request(client: DirectoryClient, name: str, label: str = "") -> JoinRequest:
    key = client.identity.public_key
    return JoinRequest(HostId(name), address_of(name), "ab" * 32, key, 8, label)
