"""Live hosts, one of which alters the media that it relays: its child notices, leaves it, and takes the rest elsewhere."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import moq
import pytest

from cubecast.engine.protocol.path import Contract
from cubecast.frames import EncodedFrame, Kind, TrackFormat
from cubecast.host.channel.reader import ReceivedFrame
from cubecast.host.channel.tracks import ChannelWriter
from cubecast.host.runtime import HostRuntime
from cubecast.types import ChannelName, HostId
from tests.conditions import eventually
from tests.host.hostile_relay import Passed, relay
from tests.host.test_live import Start, start

__all__ = ["start"]

NEWS = ChannelName("news")
DATA = TrackFormat(Kind.DATA, "json")


@contextlib.asynccontextmanager
async def writing(host: HostRuntime, writer: ChannelWriter) -> AsyncIterator[None]:
    """Frames are written, 50 a second, while the block lasts."""

    async def write() -> None:
        for n in range(100_000):
            writer.write(EncodedFrame(0, n * 20_000, n * 20_000, 20_000, True, b"frame %d" % n), host.clock())
            await asyncio.sleep(0.02)

    task = asyncio.create_task(write())
    try:
        yield
    finally:
        task.cancel()


async def test_a_child_leaves_a_parent_that_alters_frames_and_is_delivered_none_of_them(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        start("p", "00", fan_out=1) as publisher,
        start("m", "01") as middle,
        start("s", "11", fan_out=0) as subscriber,
    ):
        await eventually(lambda: all(host.ready() for host in (publisher, middle, subscriber)))
        writer = await publisher.publish(NEWS, [DATA])
        clean = middle._plane.channels.origin(NEWS)
        dirty, honest = moq.OriginProducer(), asyncio.Event()
        honest.set()

        def tamper(passed: Passed) -> tuple[bytes]:
            is_altered = passed.track == "0" and not honest.is_set()
            return (passed.payload[:-1] + b"x" if is_altered else passed.payload,)

        got: list[ReceivedFrame] = []
        received = await middle.subscribe(NEWS, Contract(5000.0))
        await received.open()
        async with relay(clean, dirty, 1, tamper), writing(publisher, writer):
            mark = dirty.create_broadcast("at/m")
            mark.announce()
            monkeypatch.setattr(middle._plane.channels._carried[NEWS], "origin", dirty)  # its children read from there
            subscription = await subscriber.subscribe(NEWS, Contract(5000.0))
            assert subscription.terms.metrics.path == (HostId("p"), HostId("m"), HostId("s"))
            await subscription.open()

            async def read() -> None:
                async for frame in subscription.frames():
                    got.append(frame)  # noqa: PERF401  the test looks at them while they arrive

            reading = asyncio.create_task(read())
            await eventually(lambda: len(got) > 80)
            publisher._engine._downstream._fan_out = 2  # so that there is another parent
            honest.clear()
            await eventually(lambda: subscriber.view().branches[0].upstream == HostId("p"))
            count = len(got)
            await eventually(lambda: len(got) > count + 50)
            assert subscriber.view().branches[0].path == (HostId("p"), HostId("s"))
            assert all(each.frame.payload == b"frame %d" % each.number for each in got)
            assert subscription.rejected.altered > 0
            reading.cancel()
            received.release()
        await publisher.finish(NEWS, writer)
