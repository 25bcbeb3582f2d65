"""Pushes and answers that make no sense: the super-node counts as not answering, and the host goes on."""

import httpx
import msgspec
import pytest

from cubecast.engine.protocol.http_bodies import Pushed, RefreshRequest
from cubecast.engine.protocol.records import HostRecord, Placement
from cubecast.errors import DirectoryError, DirectoryUnreachable
from cubecast.host.directory.client import DirectoryClient
from cubecast.types import HostId, Label

H = HostId("h")
RECORD = HostRecord(H, "h.example:1", "ab" * 32, "cd" * 32, Label(3))


def pushed(radix: int = 2, dimensions: int = 2, label: int = 3) -> bytes:
    good = Placement(1, 0, 2, 2, RECORD, (Label(3),), ())
    placement = msgspec.to_builtins(good) | {"radix": radix, "dimensions": dimensions, "labels": [label]}
    return msgspec.json.encode({"placement": placement})


def client_of(content: bytes) -> DirectoryClient:
    client = DirectoryClient("http://s.example:1", "token", lambda _: None)
    answer = httpx.MockTransport(lambda _: httpx.Response(200, content=content))
    client._connection.http = httpx.AsyncClient(base_url=client.url, transport=answer)
    return client


async def test_a_push_in_range_arrives() -> None:
    assert [each async for each in client_of(pushed() + b"\n\n").pushes(H)] == [
        Pushed(Placement(1, 0, 2, 2, RECORD, (Label(3),), ()))
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"later": ' + b"[" * 100_000,
        b'{"probes": [{"host": "h"}]}',
        pushed(label=4),
        pushed(label=-1),
        pushed(radix=1),
        pushed(radix=3, dimensions=32),
        pushed(dimensions=33),
    ],
    ids=lambda content: repr(content[:40]),
)
async def test_a_push_that_makes_no_sense_ends_the_stream_only(content: bytes) -> None:
    with pytest.raises(DirectoryUnreachable, match="not a cubecast super-node of this version"):
        [each async for each in client_of(content + b"\n").pushes(H)]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b'{"credential": "a b", "version": 1, "channels": [], "now_s": 1}',
        b'{"credential": "", "version": -1, "channels": [], "now_s": 1}',
        b'{"credential": "", "version": 1, "channels": ["../x"], "now_s": 1}',
        b'{"credential": "", "version": 1, "channels": [], "now_s": 1e300}',
    ],
    ids=lambda content: repr(content[:60]),
)
async def test_an_answer_that_makes_no_sense_is_an_error_of_the_super_node(content: bytes) -> None:
    with pytest.raises(DirectoryError):
        await client_of(content).refresh(H, RefreshRequest())
