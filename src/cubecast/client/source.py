"""A media source, read in real time."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Self

from cubecast.client.events import Event, Notice
from cubecast.client.ranges import PERIOD_S_MAX, checked_positive
from cubecast.errors import UsageError
from cubecast.frames import US, EncodedFrame, TrackFormat
from cubecast.media.reading import SourceReader


class Source:
    """A file, URL or pipe whose frames become available when they are due. Use as an async context manager."""

    def __init__(
        self,
        location: str | Path,
        *,
        loop: bool = False,
        period_s: float | None = None,
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> None:
        """A source that is not open yet.

        Args:
            location: a path or URL that FFmpeg reads, or `-` for standard input.
            loop: start again at the end.
            period_s: end after this time; None reads to the end.
            on_event: called with a Notice, for example when a codec has to be transcoded.

        Raises:
            UsageError: the period is outside its range.
        """
        if period_s is not None:
            checked_positive("period_s", period_s, PERIOD_S_MAX, "s")
        self._location, self._loop, self._period_s, self._emit = str(location), loop, period_s, on_event
        self._reader: SourceReader | None = None
        self._tracks: tuple[TrackFormat, ...] | None = None

    @property
    def tracks(self) -> tuple[TrackFormat, ...]:
        """The source's tracks.

        Raises:
            UsageError: the source is not open.
        """
        if self._tracks is None:
            raise UsageError(f"source {self._location} is not open; use it with `async with`")
        return self._tracks

    async def open(self) -> Self:
        """Opens the source and reads its tracks.

        Raises:
            MediaError: it cannot be read, or holds nothing that can be published.
        """
        if self._location == "-":
            self._emit(Notice("waiting for media on standard input"))
        self._reader = SourceReader(self._location, self._loop)
        source = await self._reader.open()
        self._tracks = source.tracks
        for note in source.notes:
            self._emit(Notice(note))
        return self

    async def close(self) -> None:
        """Closes the source."""
        if self._reader is not None:
            await asyncio.to_thread(self._reader.stop)

    async def __aenter__(self) -> Self:
        try:
            return await self.open()
        except BaseException:
            await self.close()
            raise

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def frames(self) -> AsyncGenerator[EncodedFrame]:
        """Each frame when it is due; a frame that a live source delivers late is yielded at once.

        Raises:
            MediaError: the source broke.
        """
        assert self._reader is not None, "open() first"
        clock = asyncio.get_running_loop().time
        start: float | None = None
        end = math.inf
        async with aclosing(self._reader.frames()) as frames:
            async for frame in frames:
                if start is None:
                    start = clock() - frame.dts_us / US
                    end = math.inf if self._period_s is None else clock() + self._period_s
                if clock() >= end:
                    return
                wait_s = start + frame.dts_us / US - clock()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                yield frame
