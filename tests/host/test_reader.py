"""Reading a channel from an origin while parts of it stand still."""

import asyncio
import time
from pathlib import Path

import moq
import pytest

from cubecast.host.reader import ChannelReader
from cubecast.host.tasks import Tasks
from cubecast.host.tracks import ChannelWriter, CopyCount
from cubecast.media.sources import MediaSource
from cubecast.media.synthesis import synthesise_light

FRAMES = 10
END_S = 10.0


@pytest.mark.parametrize("for_good", [False, True])
async def test_the_end_is_told_though_the_timing_track_stood_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, for_good: bool
) -> None:
    synthesise_light(tmp_path / "clip.mp4", 2.0)
    origin = moq.OriginProducer()
    with MediaSource(str(tmp_path / "clip.mp4")) as source:
        frames, tracks = list(source.frames())[:FRAMES], source.tracks
    writer = ChannelWriter(origin, tracks, CopyCount())
    reader = ChannelReader(origin, 1000.0, CopyCount(), time.time)
    reads, still = reader._read_timing_once, asyncio.Event()
    calls = 0

    async def read_timing_once() -> None:
        nonlocal calls
        calls += 1
        reading = asyncio.ensure_future(reads())
        if calls == 1 or for_good:
            await still.wait()
            reading.cancel()
            await asyncio.Event().wait()
        await reading

    monkeypatch.setattr(reader, "_read_timing_once", read_timing_once)
    await reader.open()
    async with asyncio.timeout(END_S), asyncio.TaskGroup() as group:
        tasks = Tasks(group)
        reader.start(tasks)
        for frame in frames:
            writer.write(frame, time.time())
        coming = reader.frames()
        received = [await anext(coming) for _ in frames]
        still.set()
        await asyncio.sleep(0.1)
        writer.finish()
        received += [item async for item in coming]
        tasks.cancel_all()
    assert [item.number for item in received] == list(range(FRAMES))
    assert reader.published == (FRAMES,)
    writer.close()
