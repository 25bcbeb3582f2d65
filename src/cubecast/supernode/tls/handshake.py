"""TLS below the API's connections, counted and limited from the first TCP packet.

asyncio can put TLS below a protocol by itself, but reports a connection only once its handshake is complete: until then it
would be in no count, and would have no deadline of the super-node's. A Handshake is what asyncio puts there, and reports
the TCP connection at once. It also answers a client that speaks plain HTTP, which else would see a broken connection.
"""

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

import msgspec

from cubecast.engine.protocol.http_bodies import Problem
from cubecast.supernode.connections import Connection

READ_BYTES = 32 * 1024
"""Maximum number of bytes taken from the system at once, bytes: two TLS records. Each connection has a buffer of this size."""
CLOSE_S = 60.0
"""Time in which a client has to read the rest and to answer the end of TLS, s: longer than the deadlines of Connection, which
depend on how much there is to read."""
HANDSHAKE_RECORD = 0x16
"""First byte of every TLS connection: the type of its first record (RFC 8446, section 5.1)."""

_DETAIL = "this super-node serves HTTPS; use https:// in its URL"
_PROBLEM = msgspec.json.encode(Problem(_DETAIL))
_ANSWER = (
    f"HTTP/1.1 {HTTPStatus.UPGRADE_REQUIRED} Upgrade Required\r\nUpgrade: TLS/1.2, HTTP/1.1\r\nConnection: Upgrade, close\r\n"
    f"Content-Type: application/problem+json\r\nContent-Length: {len(_PROBLEM)}\r\n\r\n"
).encode() + _PROBLEM


class Handshake(SSLProtocol):
    """The TLS layer of one connection."""

    max_size = READ_BYTES

    def __init__(self, connection: Connection, context: ssl.SSLContext) -> None:
        """Starts with the TCP connection.

        Args:
            connection: is counted at once, and made once the handshake is complete. Its deadline holds for the handshake too,
                and is shorter than asyncio's, which stays at 60 s.
        """
        loop = asyncio.get_running_loop()
        super().__init__(loop, connection, context, None, server_side=True, ssl_shutdown_timeout=CLOSE_S)  # type: ignore[arg-type]  # no waiter: nobody awaits the handshake
        self._connection = connection
        self._received = False
        self._buffer = memoryview(b"")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Counts the connection and begins the handshake."""
        self._tcp = cast(asyncio.Transport, transport)  # uvloop's is one without being derived from it
        self._connection.reached(self._tcp)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stops counting the connection."""
        self._connection.gone()
        super().connection_lost(exc)

    def get_buffer(self, n: int) -> memoryview:
        """Where the next bytes go."""
        self._buffer = super().get_buffer(n)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Passes bytes to TLS, unless the first of them show that the client does not speak it."""
        first, self._received = not self._received, True
        if first and self._buffer[0] != HANDSHAKE_RECORD:
            self._tcp.write(_ANSWER)
            self._tcp.close()
            return
        super().buffer_updated(nbytes)

    def pause_writing(self) -> None:
        """The client has not read everything yet."""
        self._connection.unread()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client has read everything, or the system keeps it."""
        self._connection.read()
        super().resume_writing()


def over_tls(connection: Callable[..., Connection], context: ssl.SSLContext) -> Callable[..., Handshake]:
    """The protocol for uvicorn that puts TLS below these connections."""

    def handshake(**settings: object) -> Handshake:
        return Handshake(connection(**settings), context)

    return handshake
