"""Link cost: smoothed round-trip time and its variation (RFC 6298), loss, and the peer's clock offset (RFC 5905)."""

from dataclasses import dataclass, field

ALPHA = 1 / 4
"""Twice RFC 6298's: what is taken in here is smoothed already, by the transport or as the least of a few pings."""
ALPHA_JUMP, JUMP_MS = 1 / 2, 40.0
"""A round trip that is so far off counts for more: links jump more often than a least of pings is wrong by as much."""
BETA = 1 / 4
PINGS = 2
"""The least of so many round trips in a row is taken in: a busy machine makes some of them longer."""
LOSS_GAIN = 1 / 8
SPREAD_MS_MIN = 2.0
"""What a hop adds to a late frame even on a steady link: sending a keyframe takes time (docs/decisions/0004)."""
CLOCK_SAMPLES = 16
CLOCK_UNKNOWN_MS = 1e9


@dataclass(slots=True)
class LinkEstimate:
    """What is known of one link; everything in ms unless the name says otherwise."""

    srtt_ms: float | None = None
    rttvar_ms: float = 0.0
    loss: float = 0.0
    samples: int = 0
    _guess_ms: float = 0.0
    _counted: tuple[int, int] = (0, 0)
    _pings: list[float] = field(default_factory=list)
    _clocks: list[tuple[float, float]] = field(default_factory=list)

    def sample(self, rtt_ms: float, packets_lost: int, packets_sent: int) -> None:
        """Takes one sample in, as RFC 6298 section 2 does; counters are running totals of this link."""
        if not rtt_ms >= 0:
            return
        if self.srtt_ms is None:
            self.srtt_ms, self.rttvar_ms, self._guess_ms = rtt_ms, rtt_ms / 2, rtt_ms / 2
        else:
            self.rttvar_ms += BETA * (abs(self.srtt_ms - rtt_ms) - self.rttvar_ms)
            jumped = abs(rtt_ms - self.srtt_ms) > JUMP_MS
            self.srtt_ms += (ALPHA_JUMP if jumped else ALPHA) * (rtt_ms - self.srtt_ms)
        self.samples += 1
        self.count(packets_lost, packets_sent)

    def pinged(self, rtt_ms: float) -> None:
        """Takes one round trip in that we measured ourselves: a link in use is followed more closely than by acks."""
        self._pings = [*self._pings[-(PINGS - 1) :], rtt_ms]
        if len(self._pings) == PINGS:
            self.sample(min(self._pings), *self._counted)

    def count(self, packets_lost: int, packets_sent: int) -> None:
        """Takes in how many packets were lost and sent, running totals of this link."""
        lost, sent = packets_lost - self._counted[0], packets_sent - self._counted[1]
        self._counted = (packets_lost, packets_sent)
        if sent > 0 and lost >= 0:
            self.loss += LOSS_GAIN * (min(1.0, lost / sent) - self.loss)

    def clock(self, sent_s: float, seen_s: float, now_s: float) -> None:
        """Takes one ping's three times in; of the last few, the shortest round trip is believed."""
        round_trip_ms = (now_s - sent_s) * 1000
        if round_trip_ms < 0:
            return
        offset_ms = (seen_s - (sent_s + now_s) / 2) * 1000
        self._clocks = [*self._clocks[-(CLOCK_SAMPLES - 1) :], (round_trip_ms, offset_ms)]

    @property
    def one_way_ms(self) -> float | None:
        """Half the smoothed round trip: the link's share of a promised delay; None before the first sample."""
        return None if self.srtt_ms is None else self.srtt_ms / 2

    @property
    def spread_ms(self) -> float:
        """How much later than one_way_ms a frame may come: RFC 6298's allowance of 4 RTTVAR, one way, and a floor.

        RFC 6298 guesses RTTVAR from the first sample; what is left of that guess after n samples is taken out again.
        """
        guess_left_ms = self._guess_ms * (1 - BETA) ** (self.samples - 1)
        return SPREAD_MS_MIN + 2 * max(0.0, self.rttvar_ms - guess_left_ms)

    @property
    def clock_offset_ms(self) -> tuple[float, float]:
        """The peer's clock minus ours and its uncertainty, half the shortest round trip; (0, CLOCK_UNKNOWN_MS) when unknown."""
        if not self._clocks:
            return 0.0, CLOCK_UNKNOWN_MS
        round_trip_ms, offset_ms = min(self._clocks)
        return offset_ms, round_trip_ms / 2
