"""A local subscription after its admission: opening, reading, and how it ends."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from cubecast.engine import effects as fx
from cubecast.errors import RemoteError, SubscriptionError, UpstreamLost
from cubecast.host.reader import ChannelReader, ReceivedFrame
from cubecast.host.tasks import Tasks
from cubecast.media.frames import TrackFormat

OPEN_S = 10.0
DRAIN_S = 5.0


@dataclass(slots=True, eq=False)
class Answers:
    """What the engine says, in time, of a local subscription."""

    admitted: asyncio.Future[fx.Admitted]
    ended: asyncio.Future[fx.StreamEnded]


class Subscription:
    """An admitted subscription: `open` learns the tracks, `frames` yields what arrives and releases it at the end."""

    def __init__(
        self, terms: fx.Admitted, reader: ChannelReader, tasks: Tasks, local: Answers, release: Callable[[], None]
    ) -> None:
        self.terms = terms
        self._release = release
        self._reader = reader
        self._tasks = tasks
        self._local = local
        local.ended.add_done_callback(self._on_ended)

    @property
    def tracks(self) -> tuple[TrackFormat, ...]:
        """The channel's tracks; empty before `open`."""
        return self._reader.tracks

    @property
    def published(self) -> tuple[int, ...] | None:
        """Frames the publisher wrote, by track; known at the end."""
        return self._reader.published

    @property
    def repaired(self) -> dict[str, int]:
        """Frames that came again and were dropped, and frames that were fetched afterwards."""
        return {"replayed": self._reader.replayed, "filled": self._reader.filled}

    async def open(self) -> None:
        """Waits for the channel's format and begins to read.

        Raises:
            SubscriptionError: the stream was lost, or nothing came in time.
        """
        opening = asyncio.ensure_future(self._reader.open())
        try:
            await asyncio.wait((opening, self._local.ended), timeout=OPEN_S, return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                opening.result()
                self._reader.start(self._tasks)
                return
        except RemoteError as error:
            if not self._local.ended.done():
                self._release()
                raise SubscriptionError(f"{self.terms.channel}: {error}") from error
        finally:
            opening.cancel()
        self._release()
        if self._local.ended.done():
            raise self._lost(self._local.ended.result())
        raise SubscriptionError(f"{self.terms.channel}: nothing arrived within {OPEN_S:.0f} s; try again")

    async def frames(self) -> AsyncGenerator[ReceivedFrame]:
        """Frames of all tracks as they arrive; ends when the publisher ends the channel.

        Raises:
            UpstreamLost: the stream broke; which host and why.
            SubscriptionError: the stream broke, nobody knows why.
        """
        try:
            async with aclosing(self._reader.frames()) as frames:
                async for frame in frames:
                    yield frame
        except RemoteError as error:
            raise SubscriptionError(f"{self.terms.channel}: {error}; subscribe again") from error
        finally:
            self._reader.stop()
            self._release()

    def _on_ended(self, ended: asyncio.Future[fx.StreamEnded]) -> None:
        if ended.cancelled():
            return
        if ended.result().finished:
            asyncio.get_running_loop().call_later(DRAIN_S, self._reader.stop)  # the last frames are on their way
        else:
            self._reader.fail(self._lost(ended.result()))

    def _lost(self, ended: fx.StreamEnded) -> UpstreamLost:
        return UpstreamLost(ended.channel, ended.host, ended.reason)
