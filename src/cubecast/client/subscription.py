"""A channel that this host receives within a contract."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Self

from cubecast.client.events import (
    Admitted,
    ContractViolated,
    Ended,
    Event,
    Receiving,
    Refused,
    SubscriptionStatus,
)
from cubecast.client.status import STATUS_S, host_status
from cubecast.engine.host import effects as fx
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.ranges import NUMBER_MAX
from cubecast.engine.protocol.records import Compliance
from cubecast.errors import BoundRefused, UsageError
from cubecast.frames import EncodedFrame, TrackFormat
from cubecast.host.channel.verification import Rejections
from cubecast.host.local import subscription as local
from cubecast.host.local.reception_stats import ReceptionStats, ReceptionSummary
from cubecast.host.runtime import HostRuntime
from cubecast.types import ChannelName, HostId

VIOLATIONS_S = 5.0
"""Shortest interval, s, between two reports that a contract was violated."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it arrived.

    Attributes:
        encoded: the frame as it was published.
        arrived_s: when it arrived, s since the Unix epoch by this host's clock.
        number: of the frame on its track.
        captured_s: its capture time, s since the Unix epoch by the publisher's clock.
        delay_ms: from capture to arrival, corrected for the difference of the clocks; None for frames that were captured
            before the subscription began.
    """

    encoded: EncodedFrame
    arrived_s: float
    number: int
    captured_s: float
    delay_ms: float | None

    @property
    def track(self) -> int:
        """Index of its track in Subscription.tracks."""
        return self.encoded.track

    @property
    def payload(self) -> bytes:
        """The encoded picture or sound, or the message of a data track."""
        return self.encoded.payload

    @property
    def pts_us(self) -> int:
        """Presentation time, microseconds from the start of the channel."""
        return self.encoded.pts_us

    @property
    def keyframe(self) -> bool:
        """Whether it can be decoded without earlier frames."""
        return self.encoded.keyframe


class Subscription:
    """A subscription; made by Host.subscribe.

    `async for frame in subscription` joins the channel and leaves it when the loop ends, also by `break`. With
    `async with host.subscribe(...) as subscription` the terms are known before the first frame is read.
    """

    def __init__(
        self, runtime: HostRuntime, emit: Callable[[Event], None], channel: ChannelName, contract: Contract
    ) -> None:
        self.channel, self.contract = channel, contract
        self._runtime, self._emit = runtime, emit
        self._stats = ReceptionStats(contract.bound_ms)
        self._admitted: local.Subscription | None = None
        self._receiving = False

    # ------------------------------------------------------------------ terms and state

    @property
    def promised_ms(self) -> float:
        """The promised delay, ms: the sum over the path's links and hosts, as measured at the admission."""
        return self._open().terms.metrics.delay_ms

    @property
    def spread_ms(self) -> float:
        """How much later than promised_ms a late frame may arrive, ms."""
        return self._open().terms.metrics.spread_ms

    @property
    def path(self) -> tuple[HostId, ...]:
        """Hosts of the latest path, the publisher first."""
        admitted = self._open()
        branch = next((each for each in self._runtime.view().branches if each.channel == self.channel), None)
        return admitted.terms.metrics.path if branch is None or branch.contract is None else branch.path

    @property
    def tracks(self) -> tuple[TrackFormat, ...]:
        """The channel's tracks."""
        return self._open().tracks

    @property
    def stats(self) -> ReceptionSummary:
        """Counts and delays of the frames so far."""
        return self._stats.summary(None if self._admitted is None else self._admitted.published)

    @property
    def rejected(self) -> Rejections:
        """What has arrived that the publisher has not sent so, by kind (docs/trust.md)."""
        return self._open().rejected

    @property
    def compliance(self) -> Compliance:
        """Seconds of the stream so far in which the contract was kept or violated."""
        return self._open().compliance

    def status(self) -> SubscriptionStatus:
        """The state now; also known before the admission."""
        if self._admitted is not None:
            self._stats.path = self.path
        compliance = None if self._admitted is None else self._admitted.compliance
        return SubscriptionStatus(self.channel, self._stats.summary(None), compliance, host_status(self._runtime))

    async def report_status(self) -> None:
        """Reports a SubscriptionStatus every 0.5 s, until cancelled."""
        while True:
            await asyncio.sleep(STATUS_S)
            self._emit(self.status())

    # ------------------------------------------------------------------ life

    async def open(self) -> Self:
        """Finds a path that keeps the contract, joins the channel and waits for its tracks.

        Raises:
            ChannelUnknown: the channel is not announced.
            BoundRefused: no path keeps the contract; the error carries a counter-offer.
            SubscriptionError: the stream was lost, or nothing arrived in time.
            TokenError: the token does not allow it.
            DirectoryError: the super-node does not answer.
        """
        try:
            admitted = await self._runtime.subscribe(self.channel, self.contract)
        except BoundRefused as refused:
            offer = (refused.bound_ms, refused.rate_bps, refused.loss)
            self._emit(Refused(self.channel, *offer, refused.best_path, str(refused)))
            raise
        self._admitted = admitted
        self._stats.path = admitted.terms.metrics.path
        self._emit(_admission(admitted.terms))
        try:
            await admitted.open()
        except BaseException:
            admitted.release()
            raise
        return self

    async def close(self) -> None:
        """Leaves the channel; a second call has no effect."""
        if self._admitted is None:
            return
        self._admitted.release()
        if self._receiving:
            self._receiving = False
            self._emit(self._end(self._admitted))

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncGenerator[Frame]:
        """Frames of all tracks as they arrive, each once, until the publisher ends the channel.

        Raises:
            UpstreamLost: the stream broke; the error names the host and the reason.
            SubscriptionError: the stream broke for an unknown reason; and all errors of `open`.
        """
        opened_here = self._admitted is None
        if opened_here:
            await self.open()
        admitted = self._open()
        self._receiving = True
        self._emit(Receiving(self.channel, tuple(str(track) for track in admitted.tracks)))
        watching = asyncio.create_task(self._report_violations(admitted))
        try:
            async with aclosing(admitted.frames()) as frames:
                async for item in frames:
                    delay_ms = admitted.delay_ms(item)
                    if self._stats.add(item, delay_ms):
                        yield Frame(item.frame, item.arrived_s, item.number, item.captured_s, delay_ms)
        finally:
            watching.cancel()
            if opened_here:
                await self.close()

    def _open(self) -> local.Subscription:
        if self._admitted is None:
            raise UsageError(f"{self.channel} is not subscribed to yet; use `async with host.subscribe(...)`")
        return self._admitted

    async def _report_violations(self, admitted: local.Subscription) -> None:
        before = admitted.compliance
        while True:
            await asyncio.sleep(VIOLATIONS_S)
            now = admitted.compliance
            if now.violated_s > before.violated_s:
                self._emit(ContractViolated(self.channel, _seconds_since(before, now)))
            before = now

    def _end(self, admitted: local.Subscription) -> Ended:
        stats, repaired = self._stats, admitted.repaired
        return Ended(
            channel=self.channel,
            bound_ms=self.contract.bound_ms,
            summary=stats.summary(admitted.published),
            path=stats.path,
            catch_up=stats.catch_up,
            timed=stats.timed,
            late=stats.timed - stats.in_time,
            gaps=tuple(stats.gaps),
            replayed=repaired["replayed"],
            filled=repaired["filled"],
            rejected=admitted.rejected,
            clock_correction_ms=admitted.clock_correction_ms,
            compliance=admitted.compliance,
            host=host_status(self._runtime),
        )


def _admission(terms: fx.Admitted) -> Admitted:
    metrics = terms.metrics
    return Admitted(
        channel=terms.channel,
        contract=terms.contract,
        promised_ms=metrics.delay_ms,
        spread_ms=metrics.spread_ms,
        path=metrics.path,
        loss=metrics.loss,
        rate_bps=None if metrics.rate_bps >= NUMBER_MAX else metrics.rate_bps,
        clock_offset_ms=metrics.clock_offset_ms,
        clock_uncertainty_ms=metrics.clock_uncertainty_ms,
    )


def _seconds_since(before: Compliance, now: Compliance) -> Compliance:
    return Compliance(
        now.kept_s - before.kept_s,
        now.violated_s - before.violated_s,
        now.late_s - before.late_s,
        now.lost_s - before.lost_s,
        now.slow_s - before.slow_s,
    )
