"""A local subscription after its admission: opening, reading, and how it ends."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from cubecast.engine.host import effects as fx
from cubecast.engine.protocol.records import Compliance
from cubecast.errors import BoundRefused, RemoteError, SubscriptionError, UpstreamLost
from cubecast.frames import TrackFormat
from cubecast.host.channel.reader import ChannelReader, ReceivedFrame
from cubecast.host.local.contract_monitor import ContractMonitor
from cubecast.host.tasks import Tasks

OPEN_S = 10.0
DRAIN_S = 5.0


@dataclass(slots=True, eq=False)
class LocalSubscriber:
    """What the engine says, in time, of a local subscription."""

    admitted: asyncio.Future[fx.Admitted]
    ended: asyncio.Future[fx.StreamEnded]
    ledger: ContractMonitor


class Subscription:
    """An admitted subscription: `open` learns the tracks, `frames` yields what arrives and releases it at the end."""

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
        offset_ms, known = terms.metrics.clock_offset_ms, terms.metrics.clock_uncertainty_ms
        self.clock_correction_ms = offset_ms if abs(offset_ms) > known else 0.0
        """The publisher's clock minus ours, where it is surely another one."""
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
        """Frames the publisher wrote, by track; known at the end."""
        return self._reader.published

    @property
    def repaired(self) -> dict[str, int]:
        """Frames that came again and were dropped, and frames that were fetched afterwards."""
        return {"replayed": self._reader.replayed, "filled": self._reader.filled}

    @property
    def compliance(self) -> Compliance:
        """How the contract has fared so far."""
        return self._local.ledger.compliance

    def delay_ms(self, item: ReceivedFrame) -> float | None:
        """From capture to arrival; None when that is unknown, and for the start of a group that was under way before us."""
        if item.captured_s is None or item.captured_s < self._since_s:
            return None
        return (item.arrived_s - item.captured_s) * 1000 + self.clock_correction_ms

    def release(self) -> None:
        """Gives the channel back; what has been read stays."""
        self._release()

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
            UpstreamLost: the stream broke; which host and why.
            SubscriptionError: the stream broke, nobody knows why.
        """
        try:
            async with aclosing(self._reader.frames()) as frames:
                async for item in frames:
                    delay_ms = self.delay_ms(item)
                    if delay_ms is not None and item.number is not None and item.captured_s is not None:
                        frame, ledger = item.frame, self._local.ledger
                        ledger.add(frame.track, item.number, item.captured_s, delay_ms, len(frame.payload))
                    yield item
        except RemoteError as error:
            raise SubscriptionError(f"{self.terms.channel}: {error}; subscribe again") from error
        finally:
            self._reader.stop()
            self._local.ledger.close()
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


def counter_offer(refused: fx.Refused) -> BoundRefused:
    """A refusal in words, with the options that would be granted now."""
    channel, asked, best = refused.channel, refused.contract, refused.best
    if best is None:
        why = f" ({refused.reason})" if refused.reason else ""
        return BoundRefused(f"{channel}: no path to the publisher now{why}; try again later")
    possible, wanted, options = [], [], []
    offer = asked.counter(best)
    if offer.bound_ms > asked.bound_ms:
        wanted.append(f"within {asked.bound_ms:.0f} ms")
        possible.append(f"{offer.bound_ms:.0f} ms")
        options.append(f"--bound {int(offer.bound_ms) + 1}ms")
    if offer.rate_bps < asked.rate_bps:
        wanted.append(f"for {asked.rate_bps / 1000:.0f} kbit/s")
        possible.append(f"{offer.rate_bps / 1000:.0f} kbit/s")
        options.append(f"--rate {math.floor(offer.rate_bps)}" if offer.rate_bps >= 1 else "no --rate")
    if offer.loss > asked.loss:
        wanted.append(f"with at most {asked.loss:.2%} lost")
        possible.append(f"{offer.loss:.2%} lost")
        options.append(f"--loss {math.ceil(offer.loss * 10_000) / 100:g}%")
    if not options:
        text = f"{channel}: {refused.reason or 'the path found was lost again'}; try again"
    else:
        text = f"{channel}: no path {', '.join(wanted)}; {', '.join(possible)} is possible now, ask with {' '.join(options)}"
    return BoundRefused(text, best.path, offer.bound_ms, offer.rate_bps, offer.loss)
