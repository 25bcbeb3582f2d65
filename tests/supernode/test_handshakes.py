"""Connections over TLS: they count from the first packet, have deadlines, and do no harm."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cubecast.supernode import server
from cubecast.supernode.connections import (
    CONNECTIONS_MAX,
    HANDSHAKE_S,
    HEADERS_S,
    IDLE_S,
    RATE_BPS_MIN,
    SWEEP_S,
    UNREAD_S,
    Connection,
    Connections,
    Waits,
)
from cubecast.supernode.tls.certificate import (
    CERTIFICATE_FILE,
)
from tests.conditions import eventually
from tests.supernode.node import Node, node

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
WIRE_BYTES = 1 << 16
HALF_HELLO = b"\x16\x03\x01\x02\x00\x01"
"""The beginning of a client's first TLS record."""


@pytest.fixture
def stopped_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the test advances the time of the connections."""

    async def wait(_: Connections) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Connections, "enforce", wait)


def pass_time(running: Node, seconds: float) -> None:
    for _ in range(round(seconds / SWEEP_S)):
        running.service.connections.sweep()


def only(running: Node) -> Connection:
    (connection,) = [*running.service.connections._all.unknown, *running.service.connections._all.kept]
    return connection


@contextlib.asynccontextmanager
async def tcp(running: Node, context: ssl.SSLContext | None = None) -> AsyncIterator[asyncio.StreamReader]:
    """A connection to the super-node, over which `write` of the reader's `writer` sends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.service.port, ssl=context)
    reader.writer = writer  # type: ignore[attr-defined]
    try:
        yield reader
    finally:
        writer.transport.abort()


def trusting(running: Node) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=running.state / CERTIFICATE_FILE)
    context.check_hostname = False
    return context


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the super-node ends the connection within 10 s."""
    with contextlib.suppress(ConnectionError, TimeoutError, ssl.SSLError):
        async with asyncio.timeout(10):
            while await reader.read(WIRE_BYTES):
                pass
    return reader.at_eof() or reader.exception() is not None


@pytest.mark.usefixtures("stopped_time")
@pytest.mark.parametrize("sent", [b"", HALF_HELLO], ids=["nothing", "half of the first record"])
async def test_a_connection_that_never_completes_its_handshake_is_cut(tmp_path: Path, sent: bytes) -> None:
    async with node(tmp_path) as running, tcp(running) as client:
        client.writer.write(sent)  # type: ignore[attr-defined]
        await eventually(lambda: len(running.service.connections) == 1)
        assert only(running).waits is Waits.HANDSHAKE
        pass_time(running, HANDSHAKE_S - SWEEP_S)
        assert not only(running).overdue
        pass_time(running, 2 * SWEEP_S)
        assert await ended(client)
        await eventually(lambda: len(running.service.connections) == 0)


async def test_connections_in_their_handshake_count_and_give_way_to_newer_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "connections_for", lambda _: 8)
    assert CONNECTIONS_MAX > 8
    async with node(tmp_path) as running, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(tcp(running)) for _ in range(12)]
        for client in clients[:8]:
            assert await ended(client)
        assert len(running.service.connections) == 4  # one address may have half of all
        await running.client().overview()


@pytest.mark.usefixtures("stopped_time")
@pytest.mark.parametrize(
    ("sent", "waits", "allowed_s"),
    [(b"", Waits.HEADERS, HEADERS_S), (HEALTH, Waits.REQUEST, IDLE_S)],
    ids=["headers", "idle"],
)
async def test_the_deadlines_of_requests_hold_over_tls(
    tmp_path: Path, sent: bytes, waits: Waits, allowed_s: float
) -> None:
    async with node(tmp_path) as running, tcp(running, trusting(running)) as client:
        client.writer.write(sent)  # type: ignore[attr-defined]
        await eventually(lambda: len(running.service.connections) == 1 and only(running).waits is waits)
        pass_time(running, allowed_s - 2 * SWEEP_S)
        assert not only(running).overdue
        pass_time(running, 4 * SWEEP_S)
        assert await ended(client)


@pytest.mark.usefixtures("stopped_time")
async def test_a_client_that_does_not_read_over_tls_is_cut(tmp_path: Path) -> None:
    async with node(tmp_path) as running, tcp(running, trusting(running)) as client:
        client.writer.write(HEALTH)  # type: ignore[attr-defined]
        assert b" 200 " in await client.readuntil(b"\r\n\r\n")
        connection = only(running)
        connection._deadline_s = float("inf")  # as of a stream of pushes
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]

        def unread() -> bool:
            connection.transport.write(b"\n" * WIRE_BYTES)
            return connection._tcp.get_write_buffer_size() > 0

        await eventually(unread)
        assert not connection.overdue
        pass_time(running, UNREAD_S + WIRE_BYTES * 1000 * 8 / RATE_BPS_MIN)
        await eventually(lambda: len(running.service.connections) == 0)


async def test_garbage_instead_of_tls_disturbs_nothing(tmp_path: Path) -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with node(tmp_path) as running:
        for garbage in (b"\x00" * 1000, b"\x16" * 1000, b"\x16\x03\x01\x00\x05hello", b"GET / HTTP/1.1\r\n\r\n" * 9):
            async with tcp(running) as client:
                client.writer.write(garbage)  # type: ignore[attr-defined]
                assert await ended(client)
        await running.client().overview()
    assert complaints == []


async def test_a_super_node_stops_while_clients_are_connected(tmp_path: Path) -> None:
    async with node(tmp_path) as running, contextlib.AsyncExitStack() as stack:
        idle = await stack.enter_async_context(tcp(running))
        await running.client().overview()
        await eventually(lambda: len(running.service.connections) == 2)
        assert not idle.at_eof()
    assert len(running.service.connections) == 0
