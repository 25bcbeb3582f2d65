"""A super-node in this process, and its clients."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from cubecast.engine.protocol.http_bodies import JoinRequest
from cubecast.host.directory.client import DirectoryClient
from cubecast.overlay.cube import Cube
from cubecast.supernode.server import SupernodeConfig, serving
from cubecast.supernode.service import Service
from cubecast.tokens.authority import Authority
from cubecast.tokens.permission import Permission
from cubecast.tokens.quota import DEFAULT_QUOTA, Quota
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

    def client(self, permission: Permission | None = None, quota: Quota = DEFAULT_QUOTA) -> DirectoryClient:
        """A client with a join token of its own."""
        authority = Authority.load(self.state / "authority.pem")
        return self.client_with(authority.join_token(permission or Permission(), quota=quota))

    def client_with(self, token: str, on_retry: Callable[[str], None] = lambda _: None) -> DirectoryClient:
        client = DirectoryClient(self.url, token, on_retry)
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


def request(client: DirectoryClient, name: str, label: str = "") -> JoinRequest:
    key = client.identity.public_key
    return JoinRequest(HostId(name), f"{name}.example:4443", "ab" * 32, key, 8, label)
