"""A local subscription after its admission: it is opened, read, and ends."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from cubecast.engine.host import effects as fx
from cubecast.engine.protocol.records import Compliance
from cubecast.errors import RemoteError, SubscriptionError, UpstreamLost
from cubecast.frames import TrackFormat
from cubecast.host.channel.reader import ChannelReader, ReceivedFrame
from cubecast.host.channel.verification import Rejections
from cubecast.host.local.contract_monitor import ContractMonitor
from cubecast.host.tasks import Tasks

OPEN_S = 10.0
"""Longest time, s, from the admission until the channel's format has arrived."""
DRAIN_S = 5.0
"""Longest time, s, that frames are still read after the overlay has reported the end of the channel."""


@dataclass(slots=True, eq=False)
class LocalSubscriber:
    """The engine's decisions on a local subscription, as they come, and the monitor of its contract."""

    admitted: asyncio.Future[fx.Admitted]
    ended: asyncio.Future[fx.StreamEnded]
    monitor: ContractMonitor


class Subscription:
    """An admitted subscription: `open` waits for the tracks, `frames` yields what arrives and releases it at the end."""

    def __init__(
        self,
        terms: fx.Admitted,
        reader: ChannelReader,
        tasks: Tasks,
        local: LocalSubscriber,
        clock: Callable[[], float],
        release: Callable[[], None],
    ) -> None:
        self.terms = terms
        """The contract and the metrics of the path that was found."""
        offset_ms, uncertainty_ms = terms.metrics.clock_offset_ms, terms.metrics.clock_uncertainty_ms
        self.clock_correction_ms = offset_ms if abs(offset_ms) > uncertainty_ms else 0.0
        """The publisher's clock minus this host's; 0 where the difference is within the uncertainty of the measurement."""
        self._clock = clock
        self._since_s = 0.0
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
        """Number of frames that the publisher wrote, by track; None before the channel has ended."""
        return self._reader.published

    @property
    def repaired(self) -> dict[str, int]:
        """Number of frames that arrived a second time and were dropped, and of frames that were fetched afterwards."""
        return {"replayed": self._reader.replayed, "filled": self._reader.filled}

    @property
    def rejected(self) -> Rejections:
        """What has arrived that the publisher has not sent so, by kind."""
        return self._reader.rejections

    @property
    def compliance(self) -> Compliance:
        """Seconds of the stream so far in which the contract was kept or violated."""
        return self._local.monitor.compliance

    def delay_ms(self, item: ReceivedFrame) -> float | None:
        """Delay from capture to arrival; None for frames captured before the subscription began."""
        if item.captured_s < self._since_s:
            return None
        return (item.arrived_s - item.captured_s) * 1000 + self.clock_correction_ms

    def release(self) -> None:
        """Ends the subscription; a second call has no effect."""
        self._release()

    async def open(self) -> None:
        """Waits for the channel's format and starts to read.

        Raises:
            SubscriptionError: the stream was lost, or nothing came in time.
        """
        opening = asyncio.ensure_future(self._reader.open())
        try:
            await asyncio.wait((opening, self._local.ended), timeout=OPEN_S, return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                opening.result()
                self._since_s = self._clock() + self.clock_correction_ms / 1000
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
            UpstreamLost: the stream broke; the error names the host and the reason.
            SubscriptionError: the stream broke for an unknown reason.
        """
        try:
            async with aclosing(self._reader.frames()) as frames:
                async for item in frames:
                    delay_ms = self.delay_ms(item)
                    if delay_ms is not None:
                        frame = item.frame
                        self._local.monitor.add(frame.track, item.number, item.captured_s, delay_ms, len(frame.payload))
                    yield item
        except RemoteError as error:
            raise SubscriptionError(f"{self.terms.channel}: {error}; subscribe again") from error
        finally:
            self._reader.stop()
            self._local.monitor.close()
            self._release()

    def _on_ended(self, ended: asyncio.Future[fx.StreamEnded]) -> None:
        if ended.cancelled():
            return
        if ended.result().finished:
            asyncio.get_running_loop().call_later(DRAIN_S, self._reader.stop)  # the last frames are still arriving
        else:
            self._reader.fail(self._lost(ended.result()))

    def _lost(self, ended: fx.StreamEnded) -> UpstreamLost:
        return UpstreamLost(ended.channel, ended.host, ended.reason)
