"""Link cost: smoothed round-trip time and its variation (RFC 6298), loss, and the peer's clock offset (RFC 5905)."""

from dataclasses import dataclass, field

from cubecast.engine.host.config import DEFAULT, EstimateConfig

CLOCK_UNKNOWN_MS = 1e9
"""Stands for the uncertainty of a clock that was not measured, ms: 11 days, more than any measured one."""
ROUND_TRIP_MAX_MS = 3.6e6
"""Longest round trip that is believed, ms: an hour. A peer names two of the four times, and this host may have slept."""


@dataclass(slots=True)
class LinkEstimate:
    """Measurements of one link; times in ms unless the name says otherwise."""

    config: EstimateConfig = DEFAULT.estimate
    srtt_ms: float | None = None
    rttvar_ms: float = 0.0
    loss: float = 0.0
    samples: int = 0
    _guess_ms: float = 0.0
    """RTTVAR as RFC 6298 guesses it from the first sample."""
    _counted: tuple[int, int] = (0, 0)
    """Packets lost and sent, as of the last sample."""
    _pings: list[float] = field(default_factory=list)
    _clocks: list[tuple[float, float]] = field(default_factory=list)
    """Round trips and clock offsets of the last exchanges."""

    def sample(self, rtt_ms: float, packets_lost: int, packets_sent: int) -> None:
        """Adds one sample, as RFC 6298 section 2 does; the counters are running totals of this link."""
        if not rtt_ms >= 0:
            return
        config = self.config
        if self.srtt_ms is None:
            self.srtt_ms, self.rttvar_ms, self._guess_ms = rtt_ms, rtt_ms / 2, rtt_ms / 2
        else:
            self.rttvar_ms += config.variation_gain * (abs(self.srtt_ms - rtt_ms) - self.rttvar_ms)
            gain = config.jump_gain if self.is_jump(rtt_ms) else config.rtt_gain
            self.srtt_ms += gain * (rtt_ms - self.srtt_ms)
        self.samples += 1
        self.count(packets_lost, packets_sent)

    def is_jump(self, rtt_ms: float) -> bool:
        """Whether a round trip is far off what is known of the link."""
        return self.srtt_ms is not None and abs(rtt_ms - self.srtt_ms) > self.config.jump_ms

    def pinged(self, rtt_ms: float) -> None:
        """Adds a round trip that the engine measured itself: a link in use is followed more closely than by acks."""
        self._pings = [*self._pings, rtt_ms][-self.config.pings :]
        if len(self._pings) == self.config.pings:
            self.sample(min(self._pings), *self._counted)

    def count(self, packets_lost: int, packets_sent: int) -> None:
        """Updates the loss from running totals of packets lost and sent on this link."""
        lost, sent = packets_lost - self._counted[0], packets_sent - self._counted[1]
        self._counted = (packets_lost, packets_sent)
        if sent > 0 and lost >= 0:
            self.loss += self.config.loss_gain * (min(1.0, lost / sent) - self.loss)

    def clock(self, sent_s: float, seen_s: float, answered_s: float, now_s: float) -> float | None:
        """Adds the four times of one exchange (RFC 5905, section 8); of the last few the one with the shortest round trip counts.

        Args:
            sent_s: by this host's clock, s.
            seen_s: when it arrived there, by the peer's clock.
            answered_s: when the peer's answer was sent, by its clock.
            now_s: when that arrived here.

        Returns:
            The round trip, ms, without the time that the peer took; None if the times make no sense.
        """
        round_trip_ms = ((now_s - sent_s) - (answered_s - seen_s)) * 1000
        if not (0 <= round_trip_ms <= ROUND_TRIP_MAX_MS and answered_s >= seen_s):
            return None
        offset_ms = ((seen_s - sent_s) + (answered_s - now_s)) * 500
        self._clocks = [*self._clocks, (round_trip_ms, offset_ms)][-self.config.clock_samples :]
        return round_trip_ms

    @property
    def one_way_ms(self) -> float | None:
        """Half the smoothed round trip: the link's share of a promised delay; None before the first sample."""
        return None if self.srtt_ms is None else self.srtt_ms / 2

    @property
    def spread_ms(self) -> float:
        """How much later than one_way_ms a frame may arrive: RFC 6298's allowance of 4 RTTVAR, one way, and a minimum.

        RFC 6298 guesses RTTVAR from the first sample; what is left of that guess after n samples is subtracted again.
        """
        guess_left_ms = self._guess_ms * (1 - self.config.variation_gain) ** (self.samples - 1)
        return self.config.spread_ms_min + 2 * max(0.0, self.rttvar_ms - guess_left_ms)

    @property
    def clock_offset_ms(self) -> tuple[float, float]:
        """The peer's clock minus ours and its uncertainty, half the shortest round trip.

        (0, CLOCK_UNKNOWN_MS) while it was not measured.
        """
        if not self._clocks:
            return 0.0, CLOCK_UNKNOWN_MS
        round_trip_ms, offset_ms = min(self._clocks)
        return offset_ms, round_trip_ms / 2
