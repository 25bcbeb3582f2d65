"""What clients trust as the super-node, and how they word what does not fit together."""

import asyncio
import contextlib
import gc
from collections.abc import Callable
from pathlib import Path

import pytest

from cubecast.engine.protocol.http_bodies import RefreshRequest
from cubecast.errors import DirectoryError, DirectoryUnreachable, UsageError
from cubecast.host.directory.client import DirectoryClient
from cubecast.supernode import server
from cubecast.supernode.server import TOKEN_FILE, SupernodeConfig, serving
from cubecast.supernode.tls.certificate import (
    Transport,
)
from cubecast.tokens.authority import Authority
from cubecast.tokens.permission import Permission
from cubecast.types import HostId
from tests.conditions import eventually
from tests.supernode.certificates import issued
from tests.supernode.node import node, request


async def refusal(url: str, token: str, kind: type[Exception] = DirectoryUnreachable) -> str:
    """How a client words it that it cannot talk to the super-node; it does not try again."""
    tries: list[str] = []

    async def asked() -> None:
        client = DirectoryClient(url, token, tries.append)
        try:
            await client.overview()
        finally:
            await client.close()

    with pytest.raises(kind) as error:
        await asked()
    assert tries == []
    assert "\n" not in str(error.value)
    return str(error.value)


# ---------------------------------------------------------------------- what clients trust


async def test_a_client_with_the_pin_joins_whatever_the_host_in_the_url(tmp_path: Path) -> None:
    async with node(tmp_path) as running:
        for host in ("127.0.0.1", "localhost"):
            client = DirectoryClient(f"https://{host}:{running.service.port}", running.token(), lambda _: None)
            running.clients.append(client)
            await client.join(request(client, host.replace(".", "-")))
            await client.refresh(HostId(host.replace(".", "-")), RefreshRequest())
        assert len(running.service.engine.members) == 2


async def test_a_url_without_a_scheme_is_https(tmp_path: Path) -> None:
    async with node(tmp_path) as running:
        client = DirectoryClient(f"127.0.0.1:{running.service.port}", running.token(), lambda _: None)
        running.clients.append(client)
        await client.overview()
        assert client.url.startswith("https://")


async def test_another_certificate_than_the_pinned_one_is_refused_even_if_authorities_vouch_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, certificate, key = issued(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    files = Transport(files=(certificate, key))
    config = SupernodeConfig("127.0.0.1", 0, tmp_path / "a", None, 8, 1, dial_back=False, transport=files)
    async with serving(config) as service:
        token = Authority.load(tmp_path / "a" / server.KEY_FILE).join_token(Permission(), pin="ab" * 32)
        printed = await refusal(config.url(service.port), token)
    assert (
        "has another certificate than the one your token names: ask for a new token, or somebody is in between"
        in printed
    )


async def test_a_certificate_that_changes_after_the_first_request_is_refused(tmp_path: Path) -> None:
    async with node(tmp_path / "a") as running:
        client = DirectoryClient(running.url, running.token(), lambda _: None)
        await client.overview()
        port = running.service.port
    other = SupernodeConfig("127.0.0.1", port, tmp_path / "b", None, 8, 1, dial_back=False)
    async with serving(other):
        with pytest.raises(DirectoryUnreachable, match="another certificate than the one your token names"):
            await client.overview()
    await client.close()


async def test_an_operators_certificate_needs_no_pin_and_is_verified_as_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, certificate, key = issued(tmp_path)
    files = Transport(files=(certificate, key))
    config = SupernodeConfig("127.0.0.1", 0, tmp_path / "s", None, 8, 1, dial_back=False, transport=files)
    async with serving(config) as service:
        url, token = config.url(service.port), (tmp_path / "s" / TOKEN_FILE).read_text().strip()
        assert "is not trusted here (unable to get local issuer certificate)" in await refusal(url, token)
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        client = DirectoryClient(url, token, lambda _: None)
        await client.overview()
        await client.close()
        assert "Hostname mismatch" in await refusal(url.replace("127.0.0.1", "localhost"), token)


# ---------------------------------------------------------------------- what does not fit together


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda _: "", "no token that names it was given: ask for one"),
        (lambda _: "nonsense", "what was given as token is none: ask for one"),
        (lambda state: Authority.load(state / server.KEY_FILE).join_token(Permission()), "your token does not name it"),
    ],
    ids=["no token", "no token at all", "no pin"],
)
async def test_a_token_without_a_pin_is_refused_by_a_certificate_of_its_own(
    tmp_path: Path, make: Callable[[Path], str], expected: str
) -> None:
    async with node(tmp_path) as running:
        printed = await refusal(running.url, make(tmp_path))
    assert expected in printed
    assert "has a certificate of its own" in printed


async def test_http_to_a_super_node_with_https_says_so(tmp_path: Path) -> None:
    async with node(tmp_path) as running:
        plain = running.url.replace("https://", "http://")
        unpinned = Authority.load(tmp_path / server.KEY_FILE).join_token(Permission())
        assert f"serves HTTPS; use {running.url}" in await refusal(plain, unpinned)


async def test_a_token_with_a_pin_is_never_sent_in_the_clear(tmp_path: Path) -> None:
    async with node(tmp_path, http=True) as running:
        pinned = Authority.load(tmp_path / server.KEY_FILE).join_token(Permission(), pin="ab" * 32)
        printed = await refusal(running.url, pinned, UsageError)
        assert f"use {running.url.replace('http', 'https')}, or a new token" in printed
        assert len(running.service.connections) == 0


@pytest.mark.parametrize("pinned", [True, False])
async def test_https_to_a_super_node_with_plain_http_says_so(tmp_path: Path, pinned: bool) -> None:
    async with node(tmp_path, http=True) as running:
        token = Authority.load(tmp_path / server.KEY_FILE).join_token(Permission(), pin="ab" * 32 if pinned else "")
        printed = await refusal(running.url.replace("http", "https"), token)
        assert "serves plain HTTP" in printed
        assert f"use {running.url}" in printed
        assert ("new token" in printed) == pinned


async def test_an_absent_super_node_with_a_pin_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("cubecast.host.directory.client.RETRY_PAUSES_S", (0.01, 0.01))
    token = Authority.load(tmp_path / server.KEY_FILE).join_token(Permission(), pin="ab" * 32)
    tries: list[str] = []
    client = DirectoryClient("127.0.0.1:1", token, tries.append)
    with pytest.raises(DirectoryError, match="connection refused"):
        await client.overview()
    await client.close()
    assert len(tries) == 2


async def test_a_request_that_is_cancelled_in_its_handshake_leaves_no_socket_open() -> None:
    began, closed = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        began.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        closed.set()
        writer.close()

    gc.disable()  # which closes forgotten sockets some time
    try:
        async with await asyncio.start_server(silent, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            client = DirectoryClient(f"https://127.0.0.1:{port}", "", lambda _: None)
            asking = asyncio.create_task(client.overview())
            await began.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await eventually(closed.is_set)
            await client.close()
    finally:
        gc.enable()
