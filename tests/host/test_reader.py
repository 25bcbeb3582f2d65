"""Reading a channel from an origin while some of its tracks are stalled."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import moq
import pytest

from cubecast.errors import MediaError
from cubecast.frames import Kind, TrackFormat
from cubecast.host.channel.frame_joiner import TrackProgress
from cubecast.host.channel.gap_fill import fetch_groups
from cubecast.host.channel.reader import ChannelReader, ReceivedFrame
from cubecast.host.channel.tracks import ChannelWriter, CopyCount
from cubecast.host.channel.verification import Verification
from cubecast.host.tasks import Tasks
from cubecast.media.sources import MediaSource
from cubecast.media.synthesis import synthesise, synthesise_light
from tests.host.publications import a_publication

FRAMES = 10
BOUND_S = 1.0
END_S = 10.0


def a_channel(tracks: Sequence[TrackFormat]) -> tuple[ChannelWriter, ChannelReader]:
    """The two ends of a channel, in one origin."""
    origin, (signer, key) = moq.OriginProducer(), a_publication()
    verification = Verification(key)
    return (
        ChannelWriter(origin, tracks, CopyCount(), signer),
        ChannelReader(origin, BOUND_S * 1000, CopyCount(), time.time, verification),
    )


@asynccontextmanager
async def frames_of(reader: ChannelReader) -> AsyncIterator[AsyncGenerator[ReceivedFrame]]:
    """Opens and starts a reader; it is over after END_S at most."""
    await reader.open()
    async with asyncio.timeout(END_S), asyncio.TaskGroup() as group:
        tasks = Tasks(group)
        reader.start(tasks)
        yield reader.frames()
        tasks.cancel_all()


@pytest.mark.parametrize("for_good", [False, True])
async def test_the_end_is_noticed_although_the_timing_track_stalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, for_good: bool
) -> None:
    synthesise_light(tmp_path / "clip.mp4", 2.0)
    with MediaSource(str(tmp_path / "clip.mp4")) as source:
        frames, tracks = list(source.frames())[:FRAMES], source.tracks
    writer, reader = a_channel(tracks)
    reads, still, stalled = reader._timing._read_once, asyncio.Event(), asyncio.Event()
    calls = 0

    async def read_once() -> None:
        nonlocal calls
        calls += 1
        reading = asyncio.ensure_future(reads())
        if calls == 1 or for_good:
            try:
                await still.wait()
            finally:
                reading.cancel()
                await asyncio.wait((reading,))
                stalled.set()
            await asyncio.Event().wait()
        await reading

    monkeypatch.setattr(reader._timing, "_read_once", read_once)
    async with frames_of(reader) as coming:
        for frame in frames:
            writer.write(frame, time.time())
        received = [await anext(coming) for _ in frames]
        still.set()
        await stalled.wait()
        writer.finish()
        received += [item async for item in coming]
    assert [item.number for item in received] == list(range(FRAMES))
    assert reader.published == (FRAMES,)
    writer.close()


@pytest.mark.parametrize("to_the_end", [False, True])
async def test_sound_that_was_missed_for_seconds_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, to_the_end: bool
) -> None:
    """Each frame of sound is a group of its own, so seconds of it are hundreds of groups."""
    synthesise(tmp_path / "clip.mp4")
    with MediaSource(str(tmp_path / "clip.mp4")) as source:
        number, track = next((n, track) for n, track in enumerate(source.tracks) if track.kind is Kind.AUDIO)
        frames = [replace(frame, track=0) for frame in source.frames() if frame.track == number]
    writer, reader = a_channel((track,))
    reads, missed, gone, written = reader._read_once, asyncio.Event(), asyncio.Event(), asyncio.Event()
    calls = 0

    async def read_once(number: int, progress: TrackProgress) -> None:
        nonlocal calls
        calls += 1
        reading = asyncio.ensure_future(reads(number, progress))
        if calls == 1:
            await missed.wait()
            reading.cancel()
            await asyncio.wait((reading,))
            gone.set()
            await written.wait()
            reader._subscription = moq.Subscription(max_age_us=0)  # as a new parent that has the newest group only
        else:
            await reading

    monkeypatch.setattr(reader, "_read_once", read_once)
    async with frames_of(reader) as coming:
        for frame in frames[:FRAMES]:
            writer.write(frame, time.time())
        received = [await anext(coming) for _ in range(FRAMES)]
        missed.set()
        await gone.wait()
        last = len(frames) if to_the_end else len(frames) - FRAMES
        for frame in frames[FRAMES:last]:
            writer.write(frame, time.time())
        written.set()
        if not to_the_end:
            received += [await anext(coming) for _ in frames[FRAMES:last]]
        for frame in frames[last:]:
            writer.write(frame, time.time())
        writer.finish()
        received += [item async for item in coming]
    assert sorted(item.number for item in received) == list(range(len(frames)))
    assert reader.published == (len(frames),)
    assert reader.filled > 0
    writer.close()


async def test_a_new_subscriber_is_not_sent_frames_older_than_its_bound(tmp_path: Path) -> None:
    synthesise_light(tmp_path / "clip.mp4", 8.0)
    with MediaSource(str(tmp_path / "clip.mp4")) as source:
        frames, tracks = list(source.frames()), source.tracks
    *before, last = frames
    starts = [frame.pts_us for frame in before if frame.keyframe]
    oldest_us = max(pts_us for pts_us in starts if pts_us <= starts[-1] - BOUND_S * 1_000_000)
    assert oldest_us > 0
    writer, reader = a_channel(tracks)
    for frame in before:
        writer.write(frame, time.time())
    async with frames_of(reader) as coming:
        received = [await anext(coming)]
        writer.write(last, time.time())
        writer.finish()
        received += [item async for item in coming]
    numbers = [item.number for item in received]
    assert numbers == list(range(received[0].number, len(frames)))
    assert received[0].frame.pts_us >= oldest_us
    writer.close()


async def test_a_track_whose_subscriptions_bring_nothing_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a group that the host below has in part and never gets to its end."""
    synthesise_light(tmp_path / "clip.mp4", 4.0)
    with MediaSource(str(tmp_path / "clip.mp4")) as source:
        frames, tracks = list(source.frames()), source.tracks
    writer, reader = a_channel(tracks)

    async def stuck(number: int, progress: TrackProgress) -> AsyncGenerator[moq.MediaFrame]:  # noqa: ARG001
        progress.group = 0
        await asyncio.Event().wait()
        yield moq.MediaFrame(payload=b"", timestamp_us=0, keyframe=False)

    monkeypatch.setattr(reader, "_frames", stuck)
    async with frames_of(reader) as coming:
        for frame in frames[:-FRAMES]:
            writer.write(frame, time.time())
        received = [await anext(coming)]
        for frame in frames[-FRAMES:]:
            writer.write(frame, time.time())
        writer.finish()
        received += [item async for item in coming]
    assert [item.number for item in received] == list(range(len(frames)))
    writer.close()


async def test_a_refused_frame_leaves_the_numbers_of_the_groups_right(tmp_path: Path) -> None:
    """They name the groups that are fetched again after a loss; a group that does not exist would be waited for."""
    synthesise_light(tmp_path / "clip.mp4", 1.0)
    with MediaSource(str(tmp_path / "clip.mp4")) as source:
        (picture, other), tracks = list(source.frames())[:2], source.tracks
    assert (picture.keyframe, other.keyframe) == (True, False)
    writer, reader = a_channel(tracks)
    wanted: dict[int, list[int]] = {}
    for ms, keyframe in ((100, True), (140, False), (50, True), (180, False), (200, True), (0, True), (240, True)):
        frame = replace(picture if keyframe else other, pts_us=ms * 1000, dts_us=ms * 1000)
        try:
            writer.write(frame, time.time())
        except MediaError:
            assert ms in {50, 180, 0}  # keyframes before the last, and what refers to one of them
        else:
            wanted.setdefault(writer._groups[0], []).append(ms)
    writer.finish()
    async with frames_of(reader):
        fetched: dict[int, list[int]] = {}
        for group in wanted:
            async for media in fetch_groups(reader._current, 0, range(group, group + 1), 10**9):
                fetched.setdefault(group, []).append(media.timestamp_us // 1000)
    assert fetched == wanted
