"""The super-node's connections: deadlines, sizes of requests, and which connections are cut when they are short.

Time is the super-node's own: `sweep` advances it, so that no test waits for a deadline.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.engine.protocol.http_bodies import JOIN_BYTES_MAX, REFRESH_BYTES_MAX
from cubecast.host.directory.client import TIMEOUT, DirectoryClient
from cubecast.supernode import server
from cubecast.supernode.connections import (
    BODY_S,
    HEADER_BYTES_MAX,
    HEADERS_S,
    IDLE_S,
    RATE_BPS_MIN,
    SWEEP_S,
    UNREAD_S,
    Connection,
    Connections,
    Waits,
    connections_for,
    site,
)
from cubecast.supernode.metrics import directory_metrics
from tests.conditions import eventually
from tests.supernode.node import Node, node, request

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
WIRE_BYTES = 1 << 16


@pytest.fixture(autouse=True)
def _time_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the tests advance the time of the connections."""

    async def wait(_: Connections) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Connections, "enforce", wait)


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> bytearray:
    """What the super-node has received over all connections."""
    everything, original = bytearray(), Connection.data_received

    def receive(connection: Connection, data: bytes) -> None:
        original(connection, data)
        everything.extend(data)

    monkeypatch.setattr(Connection, "data_received", receive)
    return everything


@contextlib.asynccontextmanager
async def few(state: Path, monkeypatch: pytest.MonkeyPatch, connections_max: int) -> AsyncIterator[Node]:
    """A super-node with room for so many connections."""
    monkeypatch.setattr(server, "connections_for", lambda _: connections_max)
    async with node(state, http=True) as running:
        yield running


class Peer:
    """A client that sends bytes of its own choice."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> bytes:
        """The head of the next answer, and its body."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            sized = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            return head + (await self.reader.readexactly(int(sized[0].split(b":")[1])) if sized else b"")

    async def is_cut(self) -> bool:
        """Whether the super-node ends the connection within 10 s."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(10):
                while await self.reader.read(WIRE_BYTES):
                    pass
        return self.reader.at_eof() or self.reader.exception() is not None


@contextlib.asynccontextmanager
async def peer(running: Node) -> AsyncIterator[Peer]:
    table = running.service.connections
    before = len(table) + table.cut
    reader, writer = await asyncio.open_connection("127.0.0.1", running.service.port)
    try:
        await eventually(lambda: len(table) + table.cut > before or reader.at_eof())
        yield Peer(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def only(running: Node) -> Connection:
    (connection,) = [*running.service.connections._all.unknown, *running.service.connections._all.kept]
    return connection


def pass_time(running: Node, seconds: float) -> None:
    for _ in range(round(seconds / SWEEP_S)):
        running.service.connections.sweep()


@pytest.mark.parametrize(
    ("sent", "waits", "allowed_s"),
    [
        (b"", Waits.HEADERS, HEADERS_S),
        (HEALTH[:-2], Waits.HEADERS, HEADERS_S),
        (b"POST /v1/hosts HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", Waits.BODY, BODY_S),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", Waits.BODY, BODY_S),
        (HEALTH, Waits.REQUEST, IDLE_S),
        (HEALTH + HEALTH[:9], Waits.HEADERS, HEADERS_S),
    ],
    ids=["nothing", "headers", "a body", "a body that nobody reads", "idle", "the headers of a second request"],
)
async def test_a_connection_that_waits_for_its_client_has_a_deadline(
    tmp_path: Path, sent: bytes, waits: Waits, allowed_s: float
) -> None:
    async with node(tmp_path, http=True) as running, peer(running) as client:
        await client.send(sent)
        await eventually(lambda: only(running).waits is waits)
        pass_time(running, allowed_s - 2 * SWEEP_S)
        assert not only(running).overdue
        pass_time(running, 4 * SWEEP_S)
        assert await client.is_cut()


@pytest.mark.parametrize(
    ("start", "waits", "allowed_s"),
    [
        (HEALTH[:-4], Waits.HEADERS, HEADERS_S),
        (b"POST /v1/hosts HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n", Waits.BODY, BODY_S),
    ],
    ids=["headers", "body"],
)
async def test_a_byte_now_and_then_extends_no_deadline(
    tmp_path: Path, received: bytearray, start: bytes, waits: Waits, allowed_s: float
) -> None:
    async with node(tmp_path, http=True) as running, peer(running) as client:
        await client.send(start)
        await eventually(lambda: only(running).waits is waits)
        for _ in range(round(allowed_s / SWEEP_S) + 2):
            count = len(received)
            await client.send(b"x")
            await eventually(lambda count=count: len(received) > count)  # type: ignore[misc]
            running.service.connections.now_s += SWEEP_S
        assert only(running).overdue
        pass_time(running, SWEEP_S)
        assert await client.is_cut()


async def test_a_large_body_over_a_slow_link_arrives(tmp_path: Path, received: bytearray) -> None:
    async with node(tmp_path, http=True) as running, peer(running) as client:
        host = await joined(running)
        size = REFRESH_BYTES_MAX
        body = b'{"suspects": []' + b" " * (size - 16) + b"}"
        assert len(body) == size
        head, before = host.wire("POST", "/v1/hosts/a/refresh", body), len(received)
        await client.send(head)
        await eventually(lambda: len(received) == before + len(head))
        part, before = RATE_BPS_MIN // 8, len(received)
        for start in range(0, size, part):
            await client.send(body[start : start + part])
            sent = before + len(body[: start + part])
            await eventually(lambda sent=sent: len(received) == sent)  # type: ignore[misc]
            pass_time(running, 1.0)
        assert b" 200 " in await client.answer()


class Member:
    """A host that has joined, and whose client keeps no connection open."""

    def __init__(self, client: DirectoryClient) -> None:
        self._client = client
        self.shows = ""
        """The token that it shows; empty for its credential."""

    def headers(self, method: str, path: str, body: bytes = b"") -> dict[str, str]:
        """The headers by which it proves a request."""
        made = self._client._request(method, path, body, self.shows, TIMEOUT)
        return {name: made.headers[name] for name in ("Authorization", "DPoP")}

    def wire(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The first line and headers of a request."""
        shown = (f"{name}: {value}" for name, value in self.headers(method, path, body).items())
        length = (f"Content-Length: {len(body)}",) if body else ()
        return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: x", *shown, *length, "", "")).encode()


async def joined(running: Node, name: str = "a") -> Member:
    client = running.client()
    await client.join(request(client, name))
    await client.close()
    await eventually(lambda: running.service.connections.kept == 0)
    return Member(client)


PUSHES = "/v1/hosts/a/pushes"


async def test_a_stream_of_pushes_stays_while_its_host_reads_and_is_cut_when_it_does_not(tmp_path: Path) -> None:
    async with node(tmp_path, http=True) as running:
        host = await joined(running)
        async with peer(running) as client:
            await client.send(host.wire("GET", PUSHES))
            await client.answer()
            connection = next(iter(running.service.connections._all.kept))
            pass_time(running, 100 * UNREAD_S)
            assert not connection.overdue
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # what asyncio's is
            await eventually(lambda: unread(connection))
            pass_time(running, UNREAD_S + WIRE_BYTES * 1000 * 8 / RATE_BPS_MIN)
            await eventually(lambda: not running.service.connections.kept)
        assert running.service._outboxes == {}


def unread(connection: Connection) -> bool:
    """Sends more, until the client's system takes no more of it."""
    connection.transport.write(b"\n" * WIRE_BYTES)
    return connection.transport.get_write_buffer_size() > 0


@pytest.mark.parametrize("complete", [True, False])
async def test_headers_that_are_too_large_are_refused(tmp_path: Path, complete: bool) -> None:
    async with node(tmp_path, http=True) as running, peer(running) as client:
        await client.send(HEALTH[:-2] + b"X: " + b"x" * HEADER_BYTES_MAX + (b"\r\n\r\n" if complete else b""))
        assert b" 400 " in await client.answer()
        assert await client.is_cut()


async def test_malformed_http_after_an_answer_has_begun_cuts_the_connection(tmp_path: Path) -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with node(tmp_path, http=True) as running, peer(running) as client:
        await client.send(b"POST /v1/hosts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert b" 401 " in await client.answer()
        await client.send(b"no chunk\r\n")
        assert await client.is_cut()
    assert complaints == []


@pytest.mark.parametrize(
    ("method", "path", "bytes_max"),
    [
        ("POST", "/v1/hosts", JOIN_BYTES_MAX),
        ("POST", "/v1/hosts/a/refresh", REFRESH_BYTES_MAX),
        ("GET", "/health", 0),
        ("GET", "/v1/channels/clip", 0),
    ],
)
async def test_a_body_larger_than_its_path_needs_is_refused(
    tmp_path: Path, method: str, path: str, bytes_max: int
) -> None:
    async with node(tmp_path, http=True) as running, running.browser() as http:
        host = await joined(running)
        host.shows = running.client()._join_token if path == "/v1/hosts" else ""
        large = b" " * (bytes_max + 1)
        refused = await http.request(method, path, content=large, headers=host.headers(method, path, large))
        assert refused.status_code == 413
        fitting = await http.request(method, path, content=large[1:], headers=host.headers(method, path, large[1:]))
        assert fitting.status_code in (200, 404, 422)


async def test_a_body_is_not_waited_for_before_the_token_is_verified(tmp_path: Path) -> None:
    async with node(tmp_path, http=True) as running, peer(running) as client:
        await client.send(b"POST /v1/hosts/a/refresh HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        assert b" 401 " in await client.answer()


async def test_the_oldest_connections_without_a_token_are_cut_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with few(tmp_path, monkeypatch, 8) as running, contextlib.AsyncExitStack() as stack:
        host = await joined(running)
        member = await stack.enter_async_context(peer(running))
        await member.send(host.wire("GET", PUSHES))
        await member.answer()
        strangers = [await stack.enter_async_context(peer(running)) for _ in range(20)]
        for stranger in strangers[:-3]:
            assert await stranger.is_cut()
        for stranger in strangers[-3:]:
            await stranger.send(HEALTH)
            assert b" 200 " in await stranger.answer()
        assert running.service.connections.kept == 1
        metrics = directory_metrics(running.service).decode()
        assert "cubecast_connections 4.0" in metrics, "half of all for one address"
        assert "cubecast_connections_kept 1.0" in metrics


async def test_where_all_connections_are_in_use_by_hosts_a_further_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with few(tmp_path, monkeypatch, 2) as running, contextlib.AsyncExitStack() as stack:
        host = await joined(running)
        member = await stack.enter_async_context(peer(running))
        await member.send(host.wire("GET", PUSHES))
        await member.answer()
        assert await (await stack.enter_async_context(peer(running))).is_cut()
        assert running.service.connections.kept == 1


class Fake:
    """A connection as the table sees it."""

    def __init__(self, address: str) -> None:
        self.address, self.waits, self.ended = address, Waits.ANSWER, False

    def cut(self) -> None:
        self.ended = True


@given(
    st.integers(2, 12),
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["stays", "keep", "idle", "end"])), max_size=60),
)
def test_no_limit_is_passed_and_a_busy_host_is_never_cut(connections_max: int, arrivals: list[tuple[str, str]]) -> None:
    table = Connections(connections_max)
    fakes: list[Fake] = []
    busy: list[Fake] = []
    for address, then in arrivals:
        fake = Fake(address)
        connection = cast(Connection, fake)
        fakes.append(fake)
        unknown_before = [other for other in table._all.unknown if not cast(Fake, other).ended]
        table.add(connection)
        if unknown_before and fake.ended:
            assert all(cast(Fake, other).address != address for other in unknown_before), "a stranger kept its place"
        if then in ("keep", "idle"):
            table.keep(connection)
            fake.waits = Waits.REQUEST if then == "idle" else Waits.ANSWER
            if then == "keep" and not fake.ended:
                busy.append(fake)
        if then == "end":
            table.remove(connection)
            fake.ended = True
        still_open = [other for other in fakes if not other.ended]
        assert len(still_open) == len(table) <= connections_max
        for place in "abc":
            assert sum(other.address == place for other in still_open) <= max(1, connections_max // 2)
        assert not any(host.ended for host in busy)


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_address_is_an_ipv4_address_or_an_ipv6_site(address: str, counts_as: str) -> None:
    assert site(address) == counts_as


@given(st.integers(16, 1 << 20))
def test_connections_leave_descriptors_free(descriptors: int) -> None:
    assert 0 < connections_for(descriptors) < descriptors
