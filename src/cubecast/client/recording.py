"""A subscription written to a file or a pipe."""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import BinaryIO

from cubecast.client.events import Event, Notice
from cubecast.client.subscription import Subscription
from cubecast.errors import MediaError, OutputClosedError
from cubecast.frames import TrackFormat
from cubecast.media.sinks import Container, MediaSink, NullSink, Sink, check_suffix, container_for
from cubecast.types import ChannelName


class Output:
    """A file or pipe for received frames.

    It is opened before the subscription, so that a bad path is reported at once, but emptied only when a stream was
    admitted: a refusal leaves an older file as it was.
    """

    def __init__(self, name: str | Path = "", container: Container | None = None) -> None:
        """Opens the output.

        Args:
            name: a path, `-` for standard output, or nothing: then frames are counted and dropped.
            container: MPEG-TS or fragmented MP4; None chooses by the file's name.

        Raises:
            MediaError: it cannot be written, or its suffix belongs to no container.
        """
        self._name = name = str(name)
        check_suffix(name, container)
        self._container = container
        self._is_new = bool(name) and name != "-" and not Path(name).exists()
        self._file: BinaryIO | None = None
        try:
            if name == "-":
                self._file = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
            elif name:
                self._file = Path(name).open("ab", buffering=0)  # noqa: SIM115  closed by its sink, or by `abandon`
        except OSError as error:
            raise MediaError(f"cannot write {name}: {error.strerror}; choose another file") from error

    def sink(self, tracks: Sequence[TrackFormat]) -> Sink:
        """The sink for a channel's tracks; it overwrites an older file.

        Raises:
            MediaError: a codec has no place in the container.
        """
        if self._file is None:
            return NullSink()
        container = container_for(self._name, self._container, tracks)
        if self._name != "-":
            with suppress(OSError):  # a device or a named pipe
                self._file.truncate(0)
        file, self._file = self._file, None
        piped = self._name == "-"
        return MediaSink(file, "standard output" if piped else self._name, container, tracks, beside=not piped)

    def abandon(self) -> None:
        """Closes an output that no sink uses, and deletes the file if it was created here."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        if self._is_new:
            Path(self._name).unlink(missing_ok=True)


class Recording:
    """A subscription whose frames go to an output."""

    def __init__(self, subscription: Subscription, output: Output, on_event: Callable[[Event], None]) -> None:
        self.subscription, self.output, self._emit = subscription, output, on_event

    @property
    def channel(self) -> ChannelName:
        """The channel that is received."""
        return self.subscription.channel

    async def run(self) -> None:
        """Subscribes, and writes every frame until the channel ends or the reader of the output closes it.

        Raises:
            SubscriptionError: refused, or the stream was lost.
            MediaError: the output cannot be written.
        """
        try:
            await self.attempt()
        finally:
            self.output.abandon()

    async def attempt(self) -> None:
        """As `run`, but an output that was not written to stays open, so that one more attempt can use it."""
        async with self.subscription as subscription:
            sink = self.output.sink(subscription.tracks)
            try:
                async with aclosing(aiter(subscription)) as frames:
                    async for frame in frames:
                        if not isinstance(sink, NullSink):
                            await asyncio.to_thread(sink.write, frame.encoded)
            except OutputClosedError:
                self._emit(Notice("the output was closed"))
            finally:
                await asyncio.to_thread(sink.close)
