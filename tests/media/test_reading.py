"""Reading in a thread: frames, the end and all errors reach the event loop."""

import asyncio
import shutil
from contextlib import aclosing
from pathlib import Path

import pytest

from cubecast.errors import MediaError
from cubecast.media.reading import SourceReader
from cubecast.media.sources import MediaSource
from tests.media.clips import encode


async def test_the_same_frames_come_as_without_a_thread(clip: Path) -> None:
    with MediaSource(str(clip)) as source:
        expected = list(source.frames())
    reader = SourceReader(str(clip))
    opened = await reader.open()
    assert len(opened.tracks) == 2
    async with aclosing(reader.frames()) as frames:
        assert [frame async for frame in frames] == expected
    reader.stop()


async def test_a_reader_that_is_stopped_early_ends_its_thread(clip: Path) -> None:
    reader = SourceReader(str(clip), loop=True)
    await reader.open()
    async with aclosing(reader.frames()) as frames:
        await anext(frames)
    reader.stop()
    assert not reader._thread.is_alive()


async def test_a_source_that_cannot_be_opened_is_an_error_of_open(tmp_path: Path) -> None:
    reader = SourceReader(str(tmp_path / "gone.mp4"))
    with pytest.raises(MediaError, match="No such file"):
        await reader.open()
    reader.stop()


async def test_a_file_that_is_replaced_while_it_loops_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "looped.mp4"
    encode(path, "libx264", "aac")
    encode(tmp_path / "other.mp4", "libx264", None)
    reader = SourceReader(str(path), loop=True)
    await reader.open()
    shutil.move(tmp_path / "other.mp4", path)

    async def read_on() -> None:
        async with aclosing(reader.frames()) as frames:
            async for _ in frames:
                pass

    with pytest.raises(MediaError, match="changed while it was looped"):
        await asyncio.wait_for(read_on(), 10)
    reader.stop()


async def test_an_unexpected_exception_in_the_thread_is_raised_as_a_media_error(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_source: MediaSource) -> object:
        raise IndexError("a bug")

    monkeypatch.setattr(MediaSource, "frames", broken)
    reader = SourceReader(str(clip))
    await reader.open()
    async with aclosing(reader.frames()) as frames:
        with pytest.raises(MediaError, match="IndexError: a bug"):
            await anext(frames)
    reader.stop()
