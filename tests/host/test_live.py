"""Live hosts in one process: real QUIC on loopback, a real super-node, real media."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cubecast.engine.host.config import DEFAULT
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import ChannelRecord, Tree
from cubecast.errors import AddressError, BoundRefused, ChannelUnknown, DirectoryError, UpstreamLost
from cubecast.frames import EncodedFrame
from cubecast.host.channel.reader import ReceivedFrame
from cubecast.host.channel.tracks import ChannelWriter
from cubecast.host.config import HostConfig
from cubecast.host.directory.client import DirectoryClient
from cubecast.host.local.reception_stats import FrameCounts, ReceptionStats
from cubecast.host.local.subscription import Subscription
from cubecast.host.open_host import open_host
from cubecast.host.runtime import HostRuntime
from cubecast.media.sources import MediaSource
from cubecast.overlay.cube import Cube
from cubecast.supernode.server import TOKEN_FILE, SupernodeConfig, serving
from cubecast.types import ChannelName, HostId
from tests.conditions import eventually
from tests.media.test_sources_and_sinks import CARRIED, make

CLIP = ChannelName("clip")
BOUND_MS = 5000.0

Start = Callable[..., contextlib.AbstractAsyncContextManager[HostRuntime]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts hosts that join one super-node of shape 2^2."""
    async with serving(SupernodeConfig("127.0.0.1", 0, tmp_path / "state", Cube(2, 2), 4, 1)) as service:
        token = (tmp_path / "state" / TOKEN_FILE).read_text().strip()
        url = f"https://127.0.0.1:{service.port}"

        def make_host(
            name: str, label: str = "", **changes: object
        ) -> contextlib.AbstractAsyncContextManager[HostRuntime]:
            values: dict[str, object] = {"listen": "127.0.0.1:0", "label": label} | changes
            config = HostConfig(HostId(name), url, token, **values)  # type: ignore[arg-type]
            return open_host(config, lambda _: None)

        yield make_host


async def receive(subscription: Subscription) -> list[ReceivedFrame]:
    async with contextlib.aclosing(subscription.frames()) as frames:
        return [frame async for frame in frames]


def read(path: Path) -> tuple[MediaSource, list[EncodedFrame]]:
    with MediaSource(str(path)) as source:
        return source, list(source.frames())


async def until_read(writer: ChannelWriter, seconds: float = 10.0) -> None:
    """Waits until subscriptions to all tracks of the channel have reached its publisher."""
    async with asyncio.timeout(seconds):
        await asyncio.gather(*(track.demand().used() for track in (*writer._tracks, writer._timing)))


async def write(host: HostRuntime, writer: ChannelWriter, frames: list[EncodedFrame], speed: float = 4.0) -> None:
    """Writes frames at their decoding times, `speed` times as fast, as a live source does."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for frame in frames:
        await asyncio.sleep(max(0.0, begun + frame.dts_us / 1e6 / speed - loop.time()))
        writer.write(frame, host.clock())


def assert_all_arrived(sent: list[EncodedFrame], received: list[ReceivedFrame], exact: bool = True) -> None:
    assert len(received) == len(sent)
    for track in {f.track for f in sent}:
        there = [r for r in received if r.frame.track == track]
        here = [f for f in sent if f.track == track]
        assert [r.number for r in there] == list(range(len(here))), "in order, none twice"
        assert [(r.frame.pts_us, r.frame.dts_us, r.frame.duration_us) for r in there] == [
            (f.pts_us, f.dts_us, f.duration_us) for f in here
        ]
        if exact:
            assert [r.frame.payload for r in there] == [f.payload for f in here]
        assert all(r.arrived_s >= r.captured_s for r in there)


async def test_a_clip_crosses_relays_whole_and_no_relay_touches_it(start: Start, clip: Path) -> None:
    async with (
        start("p", "00") as publisher,
        start("r1", "01") as r1,
        start("r2", "10") as r2,
        start("s", "11") as subscriber,
    ):
        await eventually(subscriber.ready)
        source, sent = read(clip)
        writer = await publisher.publish(CLIP, source.tracks, Tree.CUBE)
        far = await subscriber.subscribe(CLIP, Contract(BOUND_MS))
        assert len(far.terms.metrics.path) == 3, "two hops: through one of the relays"
        near = await r1.subscribe(CLIP, Contract(BOUND_MS))
        for subscription in (far, near):
            await subscription.open()
            assert subscription.tracks == source.tracks
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(receive(s)) for s in (far, near)]
            await until_read(writer)
            await write(publisher, writer, sent)
            await publisher.finish(CLIP, writer)
        for task, subscription in zip(reading, (far, near), strict=True):
            assert_all_arrived(sent, task.result())
            assert subscription.published == writer.published
        relays = [h for h in (r1, r2) if h.view().branches or h.copies()]
        assert relays
        assert all(count.relayed == 0 for h in relays for count in h.copies().values())
        assert not r2.copies() or r2.copies()[CLIP].into_python == 0
        assert publisher.copies()[CLIP].out_of_python == len(sent)


@pytest.mark.parametrize(("name", "video", "audio"), CARRIED, ids=[c[0] for c in CARRIED])
async def test_every_codec_that_passes_through_arrives(
    start: Start, tmp_path: Path, name: str, video: str | None, audio: str | None
) -> None:
    async with start("p", "00") as publisher, start("s", "11") as subscriber:
        source, sent = read(make(tmp_path, name, video, audio))
        writer = await publisher.publish(CLIP, source.tracks)
        subscription = await subscriber.subscribe(CLIP, Contract(BOUND_MS))
        await subscription.open()
        assert subscription.tracks == source.tracks
        reading = asyncio.ensure_future(receive(subscription))
        await until_read(writer)
        await write(publisher, writer, sent)
        await publisher.finish(CLIP, writer)
        in_band = name in ("h264.ts", "hevc.ts")  # the parameter sets are put before each keyframe
        assert_all_arrived(sent, await reading, exact=not in_band)


async def test_a_late_subscriber_starts_at_a_keyframe_and_loses_nothing_after(start: Start, clip: Path) -> None:
    async with start("p", "00") as publisher, start("s", "11") as subscriber:
        source, sent = read(clip)
        writer = await publisher.publish(CLIP, source.tracks)
        playing = asyncio.ensure_future(write(publisher, writer, sent, speed=1.0))
        await eventually(lambda: sum(writer.published) >= len(sent) / 3)
        subscription = await subscriber.subscribe(CLIP, Contract(BOUND_MS))
        await subscription.open()
        reading = asyncio.ensure_future(receive(subscription))
        await playing
        await publisher.finish(CLIP, writer)
        tally = ReceptionStats(BOUND_MS)
        received = await reading
        for item in received:
            tally.add(item, subscription.delay_ms(item))
        first = next(r for r in received if r.frame.track == 0)
        assert first.frame.keyframe
        assert tally.summary(subscription.published).frames == FrameCounts(len(received), len(received), 0, 0)


async def test_an_impossible_bound_is_refused_with_the_best_and_nothing_else_is_disturbed(
    start: Start, clip: Path
) -> None:
    async with start("p", "00") as publisher, start("r", "01") as other, start("s", "11") as subscriber:
        source, sent = read(clip)
        writer = await publisher.publish(CLIP, source.tracks)
        watching = await other.subscribe(CLIP, Contract(BOUND_MS))
        await watching.open()
        reading = asyncio.ensure_future(receive(watching))
        await until_read(writer)
        playing = asyncio.ensure_future(write(publisher, writer, sent))
        with pytest.raises(BoundRefused) as refused:
            await subscriber.subscribe(CLIP, Contract(0.01))
        assert refused.value.bound_ms is not None
        assert 0.01 < refused.value.bound_ms < 200
        with pytest.raises(ChannelUnknown, match="clip"):
            await subscriber.subscribe(ChannelName("nothing"), Contract(BOUND_MS))
        again = await subscriber.subscribe(CLIP, Contract(refused.value.bound_ms + 50))
        assert again.terms.metrics.delay_ms <= refused.value.bound_ms + 50
        again.release()
        await playing
        await publisher.finish(CLIP, writer)
        assert_all_arrived(sent, await reading)


async def test_a_relay_is_refused_a_bound_that_no_path_keeps_and_goes_on_relaying(start: Start, clip: Path) -> None:
    async with (
        start("p", "00") as publisher,
        start("r", "01") as relay,
        start("x", "10", fan_out=0) as closed,
        start("s", "11", fan_out=0) as subscriber,
    ):
        await eventually(lambda: all(host.ready() for host in (publisher, relay, closed, subscriber)))
        source, sent = read(clip)
        writer = await publisher.publish(CLIP, source.tracks, Tree.CUBE)
        subscription = await subscriber.subscribe(CLIP, Contract(BOUND_MS))
        assert subscription.terms.metrics.path[1] == "r"
        with pytest.raises(BoundRefused, match="ask with --bound"):
            await relay.subscribe(CLIP, Contract(0.01))
        await subscription.open()
        reading = asyncio.ensure_future(receive(subscription))
        await until_read(writer)
        await write(publisher, writer, sent)
        await publisher.finish(CLIP, writer)
        assert_all_arrived(sent, await reading)


async def test_when_a_relay_leaves_its_subscriber_moves_over_without_losing_a_frame(start: Start, clip: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(start("p", "00"))
        subscriber = await stack.enter_async_context(start("s", "11"))
        relay_stack = contextlib.AsyncExitStack()
        relay = await relay_stack.enter_async_context(start("r", "01"))
        other = await stack.enter_async_context(start("x", "10", fan_out=0))
        await eventually(lambda: all(host.ready() for host in (publisher, subscriber, relay, other)))
        source, sent = read(clip)
        writer = await publisher.publish(CLIP, source.tracks, Tree.CUBE)
        subscription = await subscriber.subscribe(CLIP, Contract(BOUND_MS))
        assert subscription.terms.metrics.path == ("p", "r", "s"), "x sends no copies"
        await subscription.open()
        reading = asyncio.ensure_future(receive(subscription))
        playing = asyncio.ensure_future(write(publisher, writer, sent, speed=1.0))
        await eventually(lambda: subscriber.copies()[CLIP].into_python >= len(sent) / 4)
        await relay_stack.aclose()
        assert subscriber.view().branches[0].path == ("p", "s")
        await playing
        await publisher.finish(CLIP, writer)
        assert_all_arrived(sent, await reading)


async def test_when_the_publisher_is_gone_its_subscribers_are_notified(start: Start, clip: Path) -> None:
    async with start("s", "11") as subscriber, contextlib.AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(start("p", "00"))
        await eventually(lambda: subscriber.ready() and publisher.ready())
        source, _ = read(clip)
        await publisher.publish(CLIP, source.tracks)
        subscription = await subscriber.subscribe(CLIP, Contract(BOUND_MS))
        await subscription.open()
        reading = asyncio.ensure_future(receive(subscription))
        await stack.aclose()
        with pytest.raises(UpstreamLost, match="host p"):
            async with asyncio.timeout(DEFAULT.tree.repair_ticks * DEFAULT.tick_s + 3):
                await reading


async def test_a_port_in_use_and_a_name_in_use_are_reported(start: Start) -> None:
    async with start("a") as first:
        with pytest.raises(AddressError, match="--listen"):
            async with start("b", listen=first.address):
                raise AssertionError("the port was taken")
        with pytest.raises(DirectoryError, match="the name a is taken"):
            async with start("a"):
                raise AssertionError("the name was taken")
        with pytest.raises(DirectoryError, match="digits below 2"):
            async with start("c", "77"):
                raise AssertionError("no such label")


async def test_a_channel_name_is_taken_once(start: Start, clip: Path) -> None:
    async with start("a") as first, start("b") as second:
        source, _ = read(clip)
        await first.publish(CLIP, source.tracks)
        with pytest.raises(DirectoryError, match="already published by host a"):
            await second.publish(CLIP, source.tracks)
        with pytest.raises(DirectoryError, match="not allowed"):
            await second.publish(ChannelName("a b"), source.tracks)


@pytest.mark.parametrize("listen", ["[::1]:0", "[::]:0"])
async def test_hosts_meet_over_ipv6(start: Start, clip: Path, listen: str) -> None:
    with contextlib.closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError as error:
            pytest.skip(f"this machine has no IPv6: {error}")
    async with start("p", "00", listen=listen) as publisher, start("s", "11", listen=listen) as subscriber:
        assert publisher.placement.record.reachable
        source, sent = read(clip)
        writer = await publisher.publish(CLIP, source.tracks)
        subscription = await subscriber.subscribe(CLIP, Contract(BOUND_MS))
        await subscription.open()
        reading = asyncio.ensure_future(receive(subscription))
        await until_read(writer)
        await write(publisher, writer, sent)
        await publisher.finish(CLIP, writer)
        assert_all_arrived(sent, await reading)


async def test_a_host_that_cannot_be_dialled_publishes_and_receives(start: Start, clip: Path) -> None:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as silent:
        silent.bind(("127.0.0.1", 0))
        nowhere = f"127.0.0.1:{silent.getsockname()[1]}"
        async with start("z", "00", advertise=nowhere) as hidden, start("a", "11") as other:
            assert not hidden.placement.record.reachable
            await eventually(lambda: hidden.ready() and other.ready())
            source, sent = read(clip)
            for publisher, subscriber, channel in ((hidden, other, "out"), (other, hidden, "in")):
                writer = await publisher.publish(ChannelName(channel), source.tracks)
                subscription = await subscriber.subscribe(ChannelName(channel), Contract(BOUND_MS))
                await subscription.open()
                reading = asyncio.ensure_future(receive(subscription))
                await until_read(writer)
                await write(publisher, writer, sent)
                await publisher.finish(ChannelName(channel), writer)
                assert_all_arrived(sent, await reading)


async def test_an_error_of_the_callers_passes_through_as_it_is(start: Start) -> None:
    with pytest.raises(ValueError, match="mine"):
        async with start("a"):
            raise ValueError("mine")


async def test_a_channel_whose_publication_was_cancelled_can_be_published_again(
    start: Start, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = read(clip)
    announce = DirectoryClient.announce

    async def slow(client: DirectoryClient, channel: ChannelName, tree: Tree, publication: int) -> ChannelRecord:
        record = await announce(client, channel, tree, publication)
        await asyncio.sleep(5)  # the answer is late; it is not waited for
        return record

    async with start("a") as host, start("b") as other:
        monkeypatch.setattr(DirectoryClient, "announce", slow)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await host.publish(CLIP, source.tracks)
        monkeypatch.setattr(DirectoryClient, "announce", announce)
        writer = await host.publish(CLIP, source.tracks)
        await host.finish(CLIP, writer)
        await eventually(lambda: not host.view().branches, 15)
        with pytest.raises(ChannelUnknown):
            await other.subscribe(CLIP, Contract(BOUND_MS))


async def test_one_host_has_several_subscribers_to_a_channel_even_to_its_own_each_with_its_own_bound(
    start: Start, clip: Path
) -> None:
    async with start("p", "00") as publisher, start("s", "01", fan_out=0) as host:
        await eventually(lambda: publisher.ready() and host.ready())
        source, sent = read(clip)
        writer = await publisher.publish(CLIP, source.tracks)
        loose = await host.subscribe(CLIP, Contract(BOUND_MS))
        strict = await host.subscribe(CLIP, Contract(BOUND_MS / 2))
        own = await publisher.subscribe(CLIP, Contract(BOUND_MS))
        with pytest.raises(BoundRefused):
            await host.subscribe(CLIP, Contract(0.001))
        third = await host.subscribe(CLIP, Contract(BOUND_MS))
        third.release()
        assert [each.terms.contract.bound_ms for each in (loose, strict)] == [BOUND_MS, BOUND_MS / 2]
        assert own.terms.metrics.path == ("p",)
        for each in (loose, strict, own):
            await each.open()
        reading = [asyncio.ensure_future(receive(each)) for each in (loose, strict, own)]
        await write(publisher, writer, sent)
        await publisher.finish(CLIP, writer)
        for received in reading:
            assert_all_arrived(sent, await received)
        await eventually(lambda: not host.view().branches)
