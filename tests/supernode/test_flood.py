"""A super-node whose connections are all taken by clients that never complete a request still serves its hosts."""

import asyncio
import contextlib
import re
import resource
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from cubecast.descriptors import raise_descriptor_limit
from cubecast.host.directory.client import TIMEOUT
from cubecast.supernode.connections import connections_for
from cubecast.supernode.dial_backs import DIAL_BACKS_MAX
from tests.cli.processes import Process

pytestmark = pytest.mark.system

HALF_OPEN, SLOW = 1000, 1000
"""Connections that send half of their headers, and those that send a body byte by byte."""
SOURCES = [f"127.0.0.{number}" for number in range(2, 12)]
SPARE_DESCRIPTORS = 128
"""Descriptors of the test's own process that the flood leaves free."""
SUPERNODE_DESCRIPTORS = 1024
"""So few that the flood takes every connection there is."""
ANSWER_S = 15.0
"""An answer counts if it comes at all; this only ends a test whose super-node is shut."""
PAUSE_S = 5.0
"""Pause of each connection that was cut before it is opened again, s. All of them at once, without a pause, take a new
connection's place before this process, which opens them too, has sent its request."""
FLOOD_S = 90.0
"""Ends a test in which some connection is never cut."""
HALF = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Half: "
BODY = b"POST /v1/hosts HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n"


@dataclass
class Flood:
    """Connections that are opened again, after PAUSE_S, whenever the super-node cuts them."""

    port: int
    cuts: list[int] = field(default_factory=list)
    """How many times each was cut."""

    async def hold(self, number: int, start: bytes) -> None:
        source = SOURCES[number % len(SOURCES)]
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._once(source, start)
            self.cuts[number] += 1
            await asyncio.sleep(PAUSE_S)

    async def _once(self, source: str, start: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        try:
            writer.write(start)
            while not reader.at_eof():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):  # a byte a second
                        await reader.read(1000)
                writer.write(b"x")
        finally:
            writer.transport.abort()


@pytest.fixture
def descriptors() -> Iterator[int]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield raise_descriptor_limit()
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("limit", [None, SUPERNODE_DESCRIPTORS], ids=["connections enough", "connections short"])
async def test_health_answers_and_a_lease_is_kept_in_a_flood(
    tmp_path: Path, descriptors: int, limit: int | None
) -> None:
    scale = min(1.0, (descriptors - SPARE_DESCRIPTORS) / (HALF_OPEN + SLOW))
    starts = [HALF] * int(HALF_OPEN * scale) + [BODY] * int(SLOW * scale)
    if scale < 1:
        print(f"{len(starts)} connections, not {HALF_OPEN + SLOW}: this process may open {descriptors} files")
    with contextlib.ExitStack() as stack:
        supernode = started(stack, tmp_path, "supernode", "--http", "--listen", "127.0.0.1:0", "--state", str(tmp_path / "sn"),
                            descriptors=limit)  # fmt: skip
        url = supernode.wait_for(r"super-node at (\S+),")[1]
        if limit is not None:
            supernode.wait_for(f"at most {connections_for(limit)} connections")
            assert len(starts) > connections_for(limit)
        token = f"@{tmp_path / 'sn' / 'join.token'}"
        host = started(stack, tmp_path, "host", "--supernode", url, "--token", token, "--name", "h",
                       "--listen", "127.0.0.1:0")  # fmt: skip
        host.wait_for("joined")
        limited = None if limit is None else (supernode.popen.pid, limit)
        await flooded(url, limited, Flood(int(url.rpartition(":")[2]), [0] * len(starts)), starts)
        assert "again" not in host.text
        assert "does not answer" not in host.text
        assert host.popen.poll() is None
        for process in (supernode, host):
            assert not re.search("Traceback|out of system resource", process.text), process.text


async def flooded(url: str, limited: tuple[int, int] | None, flood: Flood, starts: list[bytes]) -> None:
    """Floods until the super-node has cut every connection, which takes longer than a lease; asks it meanwhile.

    Args:
        limited: process ID of the super-node and its limit of descriptors, of which it must leave some free.
    """
    tasks = [asyncio.create_task(flood.hold(number, start)) for number, start in enumerate(starts)]
    try:
        async with asyncio.timeout(FLOOD_S):
            while not all(flood.cuts):
                assert '"ok"' in await answer(url + "/health")
                assert "cubecast_hosts 1.0" in await answer(url + "/metrics"), "the host's lease was lost"
                if limited is not None:
                    assert open_files(limited[0]) < limited[1] - DIAL_BACKS_MAX
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def open_files(process_id: int) -> int:
    return len(list(Path(f"/proc/{process_id}/fd").iterdir()))


async def answer(url: str) -> str:
    """What a client that is new, with the timeouts of a host, gets within ANSWER_S; where connections are short, it may have to try again."""
    async with asyncio.timeout(ANSWER_S):
        while True:
            with contextlib.suppress(httpx.TransportError):
                async with httpx.AsyncClient(timeout=TIMEOUT) as http:
                    return (await http.get(url)).text


def started(stack: contextlib.ExitStack, folder: Path, *arguments: str, descriptors: int | None = None) -> Process:
    process = Process(folder, arguments, {}, subprocess.DEVNULL, descriptors)
    stack.callback(process.end)
    return process
