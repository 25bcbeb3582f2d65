"""The Python interface, on real hosts in this process."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import cubecast
from cubecast.client.host import Host
from cubecast.media.sources import MediaSource
from cubecast.media.verification import count_decodable
from tests.conditions import eventually

pytestmark = pytest.mark.usefixtures("supernode")

LOCAL = "127.0.0.1:0"
JSON_TRACKS = [cubecast.data_track("json")]


def join(name: str, **options: object) -> contextlib.AbstractAsyncContextManager[Host]:
    return cubecast.join(name=name, listen=LOCAL, **options)  # type: ignore[arg-type]


async def publish_numbers(publication: cubecast.Publication) -> None:
    """Writes a number every 20 ms, until cancelled."""
    for number in range(10_000):
        publication.write(json.dumps(number).encode())
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def numbers(host: Host) -> AsyncIterator[None]:
    """A channel of numbers while the block lasts."""
    async with host.publish("numbers", JSON_TRACKS) as publication:
        writing = asyncio.create_task(publish_numbers(publication))
        try:
            yield
        finally:
            writing.cancel()


async def test_a_clip_arrives_whole_and_in_order(clip: Path) -> None:
    with MediaSource(str(clip)) as source:
        sent = list(source.frames())
    async with join("p") as publisher, join("s") as subscriber:
        start = asyncio.Event()
        async with publisher.publish("cam", clip, before_start=lambda: until(start)) as publication:
            subscription = subscriber.subscribe("cam", bound_ms=3000)
            async with subscription:
                assert subscription.path == ("p", "s")
                assert subscription.promised_ms + subscription.spread_ms <= 3000
                assert [track.codec for track in subscription.tracks] == ["h264", "aac"]
                start.set()
                received = [frame async for frame in subscription]
                assert subscription.stats.frames.lost == 0
                assert subscription.compliance.violated_s == 0
            await publication.done()
    assert sorted((f.track, f.pts_us, f.payload) for f in received) == sorted(
        (f.track, f.pts_us, f.payload) for f in sent
    )
    assert all(frame.delay_ms is not None and 0 <= frame.delay_ms < 3000 for frame in received)


async def until(event: asyncio.Event) -> None:
    await event.wait()


async def test_payloads_are_frames_and_a_break_leaves_the_channel() -> None:
    async with join("p") as publisher, join("s") as subscriber, numbers(publisher):
        received = []
        async for frame in subscriber.subscribe("numbers", bound_ms=2000):
            received.append(json.loads(frame.payload))
            if len(received) == 3:
                break
        assert received == list(range(received[0], received[0] + 3))
        await eventually(lambda: not subscriber.status().channels)


async def test_a_publication_that_is_awaited_lasts_until_it_is_finished() -> None:
    async with join("p") as publisher, join("s") as subscriber:
        publication = await publisher.publish("sensor", JSON_TRACKS)
        async with subscriber.subscribe("sensor", bound_ms=2000) as subscription:
            reading = asyncio.create_task(collect(subscription))
            for value in (1, 2, 3):
                publication.write(json.dumps(value).encode())
            await eventually(lambda: subscription.stats.frames.received == 3)
            await publication.finish()
            assert [json.loads(frame.payload) for frame in await reading] == [1, 2, 3]
        with pytest.raises(cubecast.UsageError, match="not being published"):
            publication.write(b"late")


async def collect(subscription: cubecast.Subscription) -> list[cubecast.Frame]:
    return [frame async for frame in subscription]


async def test_a_refusal_carries_the_counter_offer_and_is_an_event() -> None:
    async with join("p") as publisher, numbers(publisher):
        events: list[object] = []
        async with join("s", on_event=events.append) as subscriber:
            with pytest.raises(cubecast.BoundRefused, match=r"straight from p, takes .*; ask with --bound") as refused:
                await collect(subscriber.subscribe("numbers", bound_ms=0.01))
            assert refused.value.bound_ms is not None
            assert not subscriber.status().channels
            async with subscriber.subscribe("numbers", bound_ms=refused.value.bound_ms + 100) as granted:
                assert granted.promised_ms <= refused.value.bound_ms + 100
        refusals = [event for event in events if isinstance(event, cubecast.Refused)]
        assert [each.bound_ms for each in refusals] == [refused.value.bound_ms]


async def test_events_are_typed_and_in_order(clip: Path, tmp_path: Path) -> None:
    async with join("p") as publisher, join("s") as subscriber, publisher.publish("cam", clip) as publication:
        recording = subscriber.record(subscriber.subscribe("cam", bound_ms=3000), tmp_path / "out.ts")
        await recording.run()
        await publication.done()
    published = [type(event).__name__ async for event in publisher.events()]
    assert published == ["Joined", "Announced", "Finished"]
    received = [event async for event in subscriber.events()]
    assert [type(event).__name__ for event in received] == ["Joined", "Admitted", "Receiving", "Ended"]
    ended = received[-1]
    assert isinstance(ended, cubecast.Ended)
    assert ended.path == ("p", "s")
    assert ended.summary.frames.received > 50
    assert sum(count_decodable(str(tmp_path / "out.ts")).values()) > 50


async def test_one_channel_that_fails_does_not_stop_the_others(clip: Path, tmp_path: Path) -> None:
    events: list[object] = []
    async with join("p", on_event=events.append) as host:
        await host.run_all([host.publish("cam", clip), host.publish("broken", tmp_path / "gone.mp4")])
        assert [event.channel for event in events if isinstance(event, cubecast.Finished)] == ["cam"]
        failed = [event for event in events if isinstance(event, cubecast.ChannelFailed)]
        assert [(each.channel, "gone.mp4" in each.reason) for each in failed] == [("broken", True)]


async def test_a_recording_that_is_refused_says_so_and_leaves_no_file(tmp_path: Path) -> None:
    events: list[object] = []
    async with join("p") as publisher, join("s", on_event=events.append) as host, numbers(publisher):
        impossible = host.record(host.subscribe("numbers", bound_ms=1e-9), tmp_path / "x.ts")
        assert (tmp_path / "x.ts").exists()
        await host.run_all([impossible])
        assert [event.channel for event in events if isinstance(event, cubecast.ChannelFailed)] == ["numbers"]
        assert not (tmp_path / "x.ts").exists()


async def test_a_recording_waits_for_its_channel_and_one_that_cannot_start_leaves_no_file(
    clip: Path, tmp_path: Path
) -> None:
    events: list[object] = []
    waits, gone = tmp_path / "waits.ts", tmp_path / "gone.ts"
    async with join("p") as publisher, join("s", on_event=events.append) as host:
        with pytest.raises(cubecast.ChannelUnknown):
            await host.record(host.subscribe("cam", bound_ms=2000), gone).run()
        assert not gone.exists()
        waiting = asyncio.create_task(host.run_all([host.record(host.subscribe("cam", bound_ms=2000), waits)]))
        await eventually(lambda: any(isinstance(event, cubecast.Waiting) for event in events))
        async with cubecast.Source(clip, loop=True) as source, publisher.publish("cam", source):
            await asyncio.wait_for(until_written(waits), 20)
        await waiting
    assert waits.stat().st_size > 0


async def until_written(file: Path) -> None:
    await eventually(lambda: file.stat().st_size > 0, 20)


def test_an_output_that_no_container_suits_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    with pytest.raises(cubecast.MediaError, match=r"ends in \.mkv"):
        cubecast.Output(tmp_path / "x.mkv")
    assert not (tmp_path / "x.mkv").exists()


async def test_a_source_that_ends_early_stops_after_its_period(clip: Path) -> None:
    async with join("p") as host, cubecast.Source(clip, loop=True, period_s=0.3) as source:
        async with host.publish("cam", source) as publication:
            await publication.done()
        assert 0 < publication.published[0] < 20


async def test_a_host_that_leaves_finishes_its_publications() -> None:
    async with join("s") as subscriber, contextlib.AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(join("p"))
        publication = await publisher.publish("numbers", JSON_TRACKS)
        async with subscriber.subscribe("numbers", bound_ms=2000) as subscription:
            writing = asyncio.create_task(publish_numbers(publication))
            reading = asyncio.create_task(collect(subscription))
            await eventually(lambda: subscription.stats.frames.received > 2)
            writing.cancel()
            await stack.aclose()
            received = await asyncio.wait_for(reading, 10)
            assert subscription.stats.frames.lost == 0
            assert len(received) > 2


async def test_a_derived_channel_is_made_by_the_client(clip: Path) -> None:
    async with join("p") as publisher, join("m") as maker:
        start = asyncio.Event()
        async with publisher.publish("cam", clip, before_start=lambda: until(start)) as publication:
            processing = asyncio.create_task(maker.process(cubecast.Derivation("cam", "half", "thin", 3000)))
            events = maker.events()
            async with asyncio.timeout(10):
                while not isinstance(await anext(events), cubecast.DerivedAnnounced):
                    pass
            start.set()
            await publication.done()
            await processing
    rest = [event async for event in events]
    finished = rest[-1]
    assert isinstance(finished, cubecast.DerivedFinished)
    assert finished.progress.frames_in > 40


async def test_a_file_token_and_the_overview(supernode: str, tmp_path: Path) -> None:
    token = tmp_path / "state" / "join.token"
    async with cubecast.join(supernode, token, name="p", listen=LOCAL) as host, numbers(host):
        known = await cubecast.overview(supernode, token)
        assert [channel.channel for channel in known.channels] == ["numbers"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "a/b"}, "host name"),
        ({"listen": "nonsense"}, "not HOST:PORT"),
        ({"reserve": {"news": 9}}, "--fan-out allows 8"),
        ({"token": Path("/nowhere/token")}, "cannot read token file"),
    ],
)
def test_arguments_without_meaning_are_refused_at_once(options: dict[str, object], message: str) -> None:
    with pytest.raises(cubecast.UsageError, match=message):
        cubecast.join("127.0.0.1:1", **options)  # type: ignore[arg-type]
