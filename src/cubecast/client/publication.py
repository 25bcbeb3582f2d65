"""A channel that this host publishes: from a source in real time, or frame by frame."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Self

from cubecast.client.events import Announced, Event, Finished, PublicationStatus
from cubecast.client.source import Source
from cubecast.client.status import STATUS_S, host_status
from cubecast.engine.protocol.records import Tree
from cubecast.errors import UsageError
from cubecast.frames import US, EncodedFrame, Kind, TrackFormat
from cubecast.host.channel.tracks import ChannelWriter
from cubecast.host.runtime import HostRuntime
from cubecast.types import ChannelName

Content = Source | str | Path | Sequence[TrackFormat]
"""What is published: a source, opened or by its location, or the tracks of frames that the user writes."""


def data_track(codec: str) -> TrackFormat:
    """A track of any payload, one message in each frame.

    Args:
        codec: says what the payload is, such as `json`: up to 32 letters, digits, dashes and underscores.
    """
    return TrackFormat(Kind.DATA, codec)


def check_content(channel: str, content: object) -> None:
    """Checks what is to be published.

    Raises:
        UsageError: it is neither a source nor its location nor tracks, or there are no tracks.
    """
    if isinstance(content, Source | str | Path):
        return
    if not isinstance(content, Sequence) or not content or not all(isinstance(each, TrackFormat) for each in content):
        raise UsageError(f"{channel} has nothing to publish; give a file, a URL, a Source, or one or more tracks")


class Publication:
    """A published channel; made by Host.publish.

    `await` it, or use it as an async context manager, which ends the channel with the block. Frames of a source are
    sent in the background; `done` waits for the last. Frames of tracks are sent with `write`, and `finish` ends them.
    """

    def __init__(
        self,
        runtime: HostRuntime,
        emit: Callable[[Event], None],
        channel: ChannelName,
        content: Content,
        tree: Tree,
        before_start: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self.channel = channel
        self._runtime, self._emit, self._content = runtime, emit, content
        self._tree, self._before_start = tree, before_start
        self._tracks: tuple[TrackFormat, ...] = ()
        self._writer: ChannelWriter | None = None
        self._owned: Source | None = None
        """A source that was opened here, and is closed here."""
        self._sending: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._finished = False
        self._began_s = 0.0
        self._last_us: dict[int, int] = {}

    @property
    def published(self) -> tuple[int, ...]:
        """Number of frames written so far, by track."""
        return () if self._writer is None else self._writer.published

    @property
    def closed(self) -> bool:
        """Whether the channel has ended."""
        return self._closing is not None and self._closing.done()

    async def start(self) -> Self:
        """Announces the channel, and starts to send if it has a source.

        Raises:
            MediaError: the source cannot be read, or a track cannot be carried.
            DirectoryError: the super-node refuses the channel.
            TokenError: the token does not allow it.
            UsageError: the host carries a channel of this name already.
        """
        if self._writer is not None:
            return self
        content = self._content
        if isinstance(content, str | Path):
            self._owned = content = Source(content, on_event=self._emit)
        try:
            if self._owned is not None:
                await self._owned.open()
            tracks = content.tracks if isinstance(content, Source) else tuple(content)
            self._writer = await self._runtime.publish(self.channel, tracks, self._tree)
            self._tracks = tracks
        except BaseException:
            await self._close_source()
            raise
        self._began_s = self._runtime.clock()
        self._emit(Announced(self.channel, tuple(str(track) for track in tracks)))
        if isinstance(content, Source):
            self._sending = asyncio.create_task(self._send(self._writer, content))
        return self

    def write(self, content: EncodedFrame | bytes, *, track: int = 0, captured_s: float | None = None) -> None:
        """Sends one frame.

        Args:
            content: a frame, or a payload that becomes a frame of its own with the current time.
            track: of a payload.
            captured_s: the capture time, s since the Unix epoch by the host's clock; None for now.

        Raises:
            UsageError: the publication has not started, or has ended; or the argument is no frame of a track that it has.
            MediaError: the frame is not accepted.
        """
        if self._writer is None or self._closing is not None:
            raise UsageError(f"{self.channel} is not being published; write between start and finish")
        self._check_frame(content, track, captured_s)
        now_s = self._runtime.clock()
        if isinstance(content, bytes):
            elapsed_us = int((now_s - self._began_s) * US)
            time_us = max(
                elapsed_us, self._last_us.get(track, -1) + 1
            )  # two frames of a track never have the same time
            self._last_us[track] = time_us
            content = EncodedFrame(track, time_us, time_us, 0, keyframe=True, payload=content)
        self._writer.write(content, now_s if captured_s is None else captured_s)

    def _check_frame(self, content: object, track: int, captured_s: float | None) -> None:
        if not isinstance(content, EncodedFrame | bytes):
            kind = type(content).__name__
            raise UsageError(f"{self.channel}: a frame is bytes or an EncodedFrame, not {kind}; encode it first")
        number = content.track if isinstance(content, EncodedFrame) else track
        if number not in range(len(self._tracks)):
            known = ", ".join(f"{index} ({each})" for index, each in enumerate(self._tracks))
            raise UsageError(f"{self.channel} has no track {number!r}; its tracks are {known}")
        if captured_s is not None and not math.isfinite(captured_s):
            raise UsageError(
                f"{self.channel}: captured_s is {captured_s!r}; give s since the Unix epoch, or None for now"
            )

    async def done(self) -> None:
        """Waits until the source has ended and the subscribers have received all of it.

        Raises:
            UsageError: the publication has no source.
            MediaError: the source broke.
        """
        if self._sending is None:
            raise UsageError(f"{self.channel} has no source that ends; use finish()")
        await asyncio.wait([self._sending])
        if not self._sending.cancelled():
            self._sending.result()

    async def finish(self) -> None:
        """Ends the channel, and waits some seconds until the children have received all of it.

        Raises:
            MediaError: the source broke.
        """
        if self._writer is None:
            return
        await self._close()
        self._report_finished()
        if self._sending is not None and not self._sending.cancelled():
            self._sending.result()

    async def run(self) -> None:
        """Publishes the source to its end."""
        async with self:
            await self.done()

    async def report_status(self) -> None:
        """Reports a PublicationStatus every 0.5 s while the channel is published, until cancelled."""
        while True:
            await asyncio.sleep(STATUS_S)
            if self._writer is not None and not self._finished:
                self._emit(PublicationStatus(self.channel, self.published, host_status(self._runtime)))

    def __await__(self) -> Generator[object, None, Self]:
        return self.start().__await__()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await (self.finish() if kind is None else self.abort())

    async def abort(self) -> None:
        """Ends the channel after an error: nothing is reported or raised."""
        if self._writer is not None:
            await self._close()

    async def _send(self, writer: ChannelWriter, source: Source) -> None:
        try:
            if self._before_start is not None:
                await self._before_start()
            async with aclosing(source.frames()) as frames:
                async for frame in frames:
                    writer.write(frame, self._runtime.clock())
        finally:
            await self._end_channel(writer)
        self._report_finished()

    async def _close(self) -> None:
        """Stops sending and ends the channel; the error of a source that broke stays with its task."""
        assert self._writer is not None, "start() has published"
        if self._sending is not None and self._closing is None:
            self._sending.cancel()
        if self._sending is not None:
            await asyncio.wait([self._sending])
        await self._end_channel(self._writer)
        await self._close_source()

    async def _end_channel(self, writer: ChannelWriter) -> None:
        """Ends the channel once; a caller that is cancelled does not interrupt it."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._runtime.finish(self.channel, writer))
        await asyncio.shield(self._closing)

    async def _close_source(self) -> None:
        if self._owned is not None:
            await self._owned.close()

    def _report_finished(self) -> None:
        if not self._finished:
            self._finished = True
            self._emit(Finished(self.channel, self.published, host_status(self._runtime)))
