"""The super-node over real HTTP: joins, pushes, tokens, its store, and malformed requests."""

import asyncio
import contextlib
import socket
import sqlite3
from pathlib import Path

import pytest

from cubecast.engine.protocol.http_bodies import RefreshRequest, RelocationRequest
from cubecast.engine.protocol.records import Placement, SubscriptionRecord, Tree, Verdict
from cubecast.errors import (
    AddressError,
    ChannelUnknown,
    DirectoryError,
    DirectoryUnreachable,
    LocalError,
    StoreError,
    TokenError,
)
from cubecast.host.directory.client import DirectoryClient
from cubecast.host.directory.connection import supernode_url
from cubecast.overlay.cube import Cube
from cubecast.supernode.server import TOKEN_FILE, serving
from cubecast.supernode.sqlite import SqliteStore
from cubecast.types import HostId
from tests.supernode.node import CLIP, config, node, request


async def test_a_host_joins_announces_resolves_and_leaves(tmp_path: Path) -> None:
    async with node(tmp_path) as running:
        publisher, subscriber = running.client(), running.client()
        placed = (await publisher.join(request(publisher, "p", "101"))).placement
        assert placed.seat == 0b101
        assert placed.labels == tuple(range(8))
        await subscriber.join(request(subscriber, "s"))
        await publisher.announce(CLIP, Tree.HYBRID)
        answer = await subscriber.resolve(CLIP)
        assert (answer.channel.publisher, answer.channel.seat) == ("p", 0b101)
        line = SubscriptionRecord(CLIP, HostId("s"), 100.0, "receiving", 42.0)
        await subscriber.refresh(HostId("s"), RefreshRequest((line,), ()))
        overview = await running.client().overview()
        assert [h.host for h in overview.hosts] == ["p", "s"]
        assert [(c.channel, c.label, c.subscribers) for c in overview.channels] == [(CLIP, "101", 1)]
        assert overview.subscriptions == (line,)
        await publisher.leave(HostId("p"))
        with pytest.raises(ChannelUnknown, match="no channel is announced"):
            await subscriber.resolve(CLIP)


async def test_changes_are_pushed_to_hosts(tmp_path: Path) -> None:
    async with node(tmp_path) as running:
        first, second = running.client(), running.client()
        await first.join(request(first, "a"))
        async with contextlib.aclosing(first.pushes(HostId("a"))) as pushes:

            async def placed() -> Placement:
                async with asyncio.timeout(1):
                    pushed = await anext(pushes)
                assert pushed.placement is not None
                return pushed.placement

            assert len((await placed()).labels) == 8
            await second.join(request(second, "b"))
            assert {n.record.host for n in (await placed()).neighbours} == {"b"}
            await second.leave(HostId("b"))
            assert (await placed()).neighbours == ()


async def test_the_stored_state_is_restored_after_a_restart(tmp_path: Path) -> None:
    async with node(tmp_path) as running:
        client = running.client()
        placed = (await client.join(request(client, "p"))).placement
        await client.announce(CLIP, Tree.HYBRID)
    async with serving(config(tmp_path, None)) as service:
        assert service.engine.cube == Cube(2, 3)
        assert service.engine.placement(HostId("p")).seat == placed.seat
        assert service.engine.channels[CLIP].publisher == "p"
        with pytest.raises(LocalError, match="cannot use directory store"):
            SqliteStore(tmp_path / "directory.sqlite")
    with pytest.raises(LocalError, match=r"holds an overlay that began as 2\^3"):
        async with serving(config(tmp_path, Cube(3, 3))):
            raise AssertionError("another shape was accepted")


@pytest.mark.parametrize("field", ["address", "fingerprint", "key"])
async def test_a_join_with_impossible_fields_is_refused(tmp_path: Path, field: str) -> None:
    async with node(tmp_path) as running:
        client = running.client()
        for wrong in ("not an address", "zz" * 32, "", "foo bar:1", "host:99999", "AB" * 32):
            body = request(client, "x")
            object.__setattr__(body, field, wrong)
            with pytest.raises((DirectoryError, TokenError)):
                await client.join(body)
        assert not running.service.engine.members


async def test_a_store_that_cannot_be_written_stops_the_super_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(tmp_path) as running:

        def full(_store: SqliteStore, _effects: object, _now_s: float) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(SqliteStore, "_write", full)
        client = running.client()
        with pytest.raises(DirectoryError, match="cannot write its store"):
            await client.join(request(client, "a"))
        with pytest.raises(StoreError, match="disk is full"):
            await running.service.broken
    async with serving(config(tmp_path, None)) as service:
        assert not service.engine.members, "what was not on disk was not acknowledged either"


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b", "x" * 65, ".hidden", "ü"])
async def test_names_that_cannot_stand_in_a_path_are_refused(tmp_path: Path, name: str) -> None:
    async with node(tmp_path) as running:
        client = running.client()
        with pytest.raises((DirectoryError, TokenError)):
            await client.join(request(client, name))
        assert not running.service.engine.members


async def test_the_openapi_description_health_and_metrics_are_served(tmp_path: Path) -> None:
    async with node(tmp_path) as running, running.browser() as http:
        client = running.client()
        await client.join(request(client, "a"))
        assert (await http.get("/health")).json()["status"] == "ok"
        for page in ("/docs", "/redoc"):
            assert (await http.get(page)).status_code == 404, "a page that loads scripts of others"
        paths = (await http.get("/openapi.json")).json()["paths"]
        assert {"/v1/hosts", "/v1/channels/{channel}", "/v1/overview"} <= set(paths)
        metrics = (await http.get("/metrics")).text
        assert "cubecast_hosts 1.0" in metrics
        assert 'cubecast_subscriptions{state="receiving"} 0.0' in metrics


async def test_malformed_requests_are_answered_and_do_no_harm(tmp_path: Path) -> None:
    async with node(tmp_path, http=True) as running, running.browser() as http:
        for body in (b"", b"{", b"[]", b'{"name": 3}', b"\xff" * 100):
            answer = await http.post("/v1/hosts", content=body, headers={"Authorization": "Bearer x"})
            assert answer.status_code in (401, 422)
            assert "detail" in answer.json()
        huge = await http.post("/v1/hosts", content=b"x" * (2 << 20), headers={"Authorization": "Bearer x"})
        assert huge.status_code == 413
        reader, writer = await asyncio.open_connection("127.0.0.1", running.service.port)
        writer.write(b"\x00\xff\x16\x03garbage\r\n\r\n" * 100)
        await writer.drain()
        assert b"400" in await reader.read(1000)
        writer.close()
        assert (await http.get("/health")).status_code == 200


async def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AddressError, match="choose another with --listen"):
            async with serving(config(tmp_path, port=port)):
                raise AssertionError("the port was taken")


async def test_an_absent_super_node_is_tried_again_and_then_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cubecast.host.directory.client.RETRY_PAUSES_S", (0.01, 0.01))
    notes: list[str] = []
    client = DirectoryClient("127.0.0.1:1", "token", notes.append)
    with pytest.raises(DirectoryUnreachable, match="start it with `cubecast supernode`"):
        await client.overview()
    await client.close()
    assert len(notes) >= 2
    assert "does not answer" in notes[0]


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://[", "://"])
def test_a_malformed_url_is_refused(url: str) -> None:
    with pytest.raises(LocalError, match="not a valid URL"):
        supernode_url(url)


def test_the_join_token_file_is_private_and_kept(tmp_path: Path) -> None:
    async def start() -> str:
        async with serving(config(tmp_path)):
            path = tmp_path / TOKEN_FILE
            assert path.stat().st_mode & 0o077 == 0
            return path.read_text()

    assert asyncio.run(start()) == asyncio.run(start())


async def test_a_subscriber_over_the_cube_is_moved_on_request_and_answered(tmp_path: Path) -> None:
    async with node(tmp_path) as running:
        publisher, subscriber = running.client(), running.client()
        await publisher.join(request(publisher, "p", "000"))
        await subscriber.join(request(subscriber, "s", "111"))
        await publisher.announce(CLIP, Tree.HYBRID)
        wanted = RelocationRequest(CLIP, 1.0)
        assert (await subscriber.relocate(HostId("s"), wanted)).verdict is Verdict.STAYS
        await publisher.announce(CLIP, Tree.CUBE)
        assert (await subscriber.relocate(HostId("s"), wanted)).verdict is Verdict.LATER
        with pytest.raises(TokenError):
            await subscriber.relocate(HostId("p"), wanted)
