"""A super-node in this process, and its clients."""

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx

from cubecast.engine.protocol.http_bodies import JoinRequest
from cubecast.host.directory.client import DirectoryClient
from cubecast.overlay.cube import Cube
from cubecast.supernode.server import KEY_FILE, SupernodeConfig, serving
from cubecast.supernode.service import Service
from cubecast.supernode.tls.certificate import CERTIFICATE_FILE, Transport, pin_of_tokens
from cubecast.tokens.authority import JOIN_TTL_S, Authority
from cubecast.tokens.permission import Permission
from cubecast.tokens.quota import DEFAULT_QUOTA, Quota
from cubecast.types import ChannelName, HostId

CLIP = ChannelName("clip")


@dataclass
class Node:
    """A running super-node and its state folder."""

    service: Service
    state: Path
    config: SupernodeConfig
    clients: list[DirectoryClient]

    @property
    def url(self) -> str:
        return self.config.url(self.service.port)

    def token(
        self, permission: Permission | None = None, ttl_s: float = JOIN_TTL_S, quota: Quota = DEFAULT_QUOTA
    ) -> str:
        authority = Authority.load(self.state / KEY_FILE)
        return authority.join_token(permission or Permission(), ttl_s, pin_of_tokens(self.state), quota)

    def browser(self) -> httpx.AsyncClient:
        """A client of the API that is not cubecast's; it trusts the super-node's certificate."""
        if self.config.transport.http:
            return httpx.AsyncClient(base_url=self.url)
        verify = ssl.create_default_context(cafile=self.state / CERTIFICATE_FILE)
        verify.check_hostname = False
        return httpx.AsyncClient(base_url=self.url, verify=verify)

    def client(self, permission: Permission | None = None, quota: Quota = DEFAULT_QUOTA) -> DirectoryClient:
        """A client with a join token of its own."""
        return self.client_with(self.token(permission, quota=quota))

    def client_with(self, token: str, on_retry: Callable[[str], None] = lambda _: None) -> DirectoryClient:
        client = DirectoryClient(self.url, token, on_retry)
        self.clients.append(client)
        return client


def config(state: Path, shape: Cube | None = Cube(2, 3), port: int = 0, *, http: bool = False) -> SupernodeConfig:  # noqa: B008  immutable
    transport = Transport(http)
    return SupernodeConfig("127.0.0.1", port, state, shape, 8, 1, dial_back=False, transport=transport)


@contextlib.asynccontextmanager
async def node(state: Path, *, http: bool = False) -> AsyncIterator[Node]:
    async with serving(config(state, http=http)) as service:
        running = Node(service, state, config(state, http=http), [])
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
