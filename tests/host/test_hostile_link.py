"""A peer that sends what is no message: its link is closed, and the host and its other links go on."""

import asyncio
from collections import Counter

import moq

from cubecast.engine.protocol.frames import decode
from cubecast.engine.protocol.messages import Cancel
from cubecast.engine.protocol.records import HostRecord
from cubecast.errors import MessageError
from cubecast.host.media import links as module
from cubecast.host.media.links import MALFORMED_MAX, Links
from cubecast.host.media.sessions import dialler
from cubecast.host.tasks import Tasks
from cubecast.types import ORIGIN, ChannelName, HostId
from tests.conditions import eventually

A, B = HostId("a"), HostId("b")
WAIT_S = 20.0


class Recorded:
    """Hooks that record."""

    def __init__(self) -> None:
        self.up: list[HostId] = []
        self.down: list[tuple[HostId, str]] = []
        self.count: Counter[str] = Counter()

    def link_up(self, host: HostId) -> None:
        self.up.append(host)

    def link_down(self, host: HostId, reason: str) -> None:
        self.down.append((host, reason))

    def message(self, host: HostId, payload: bytes) -> None:
        try:
            self.count[f"good of {host}"] += len(decode(payload))
        except MessageError:
            self.count["malformed"] += 1
            raise

    def may_pull(self, channel: ChannelName, host: HostId, key: str) -> bool:
        raise AssertionError(channel, host, key)

    def pulled(self, channel: ChannelName, host: HostId) -> None:
        raise AssertionError(channel, host)

    prepared = pulled

    def pull_failed(self, channel: ChannelName, host: HostId, reason: str) -> None:
        raise AssertionError(channel, host, reason)


async def test_a_link_is_closed_after_some_malformed_frames_and_the_process_goes_on() -> None:
    server = moq.Server("127.0.0.1:0", tls_generate=["localhost"], publish=moq.OriginProducer(), subscribe=None)
    async with server, asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
        tasks = Tasks(group)
        mine, theirs = Recorded(), Recorded()
        here = Links(A, dialler(lambda _: "t", ""), mine, tasks)
        there = Links(B, dialler(lambda _: "t", ""), theirs, tasks)

        async def answer() -> None:
            await here.accept(await anext(server), B)

        tasks.create_task(answer())
        there.dial(HostRecord(A, server.local_addr, server.cert_fingerprints()[0], "", ORIGIN))
        await eventually(lambda: mine.up == [B] and theirs.up == [A])
        link = there._links[A]
        for _ in range(MALFORMED_MAX - 1):
            _send(link, b"\x91" * 1000)
        there.send(A, Cancel(1))
        there.flush()
        await eventually(lambda: mine.count == {"malformed": MALFORMED_MAX - 1, "good of b": 1})
        assert mine.down == [], "it bears some"
        _send(link, b"\xff")
        await eventually(lambda: [host for host, _ in mine.down] == [B])
        assert mine.count["malformed"] == MALFORMED_MAX
        await eventually(lambda: [host for host, _ in theirs.down] == [A])
        tasks.cancel_all()


async def test_a_record_that_cannot_be_dialled_is_a_link_that_is_down() -> None:
    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
        tasks, mine = Tasks(group), Recorded()
        links = Links(A, dialler(lambda _: "t", ""), mine, tasks)
        links.dial(HostRecord(B, "no address", "no fingerprint", "", ORIGIN))
        await eventually(lambda: [host for host, _ in mine.down] == [B])


def _send(link: module._Link, payload: bytes) -> None:
    if link.group is not None:
        link.group.finish()
    group = link.outbox.track.append_group()
    group.write_frame(payload)
    group.finish()
    link.group = None
