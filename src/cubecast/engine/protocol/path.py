"""Metrics of the path from a publisher to a host, and the contract a subscriber asks for: delay, rate and loss.

PathMetrics accumulate hop by hop from the publisher down; a Contract is reduced hop by hop from the subscriber up. So
any host on the way can decide whether its own path is good enough.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from cubecast.engine.protocol.ranges import NUMBER_MAX, Amount, Path, Seqno, Share, Signed

RELAY_MS = 0.5
"""Forwarding delay of one relay, ms, added to every promised delay; measured: 0.35 ms (docs/decisions/0004)."""


IMPOSSIBLE_LOSS = -1.0
"""Least loss in a contract: stands for every negative one, which no path keeps."""


class PathMetrics(msgspec.Struct, frozen=True):
    """Metrics of the path from the publisher of a channel to a host.

    Attributes:
        delay_ms: from the publisher to the host.
        spread_ms: how much later than that a late frame may arrive.
        path: hosts from the publisher to the host, both included.
        seqno: the publisher's sequence number that it was computed with (cubecast.engine.protocol.feasibility).
        clock_offset_ms: publisher's clock minus the host's, give or take clock_uncertainty_ms (half the round trips).
        loss: share of packets lost on the way, which have to be sent again.
        publication: which publication of the channel's name this is; 0 for a derived channel, which another host may make on.
        rate_bps: rate that the path carries or could carry: the least that a host on it sends, or has left for one copy.
    """

    delay_ms: Amount
    spread_ms: Amount
    path: Path
    seqno: Seqno = 0
    clock_offset_ms: Signed = 0.0
    clock_uncertainty_ms: Amount = 0.0
    loss: Share = 0.0
    rate_bps: Amount = NUMBER_MAX
    publication: Seqno = 0

    @property
    def least_bound_ms(self) -> float:
        """The least bound that this path keeps; NUMBER_MAX for every greater one."""
        return min(NUMBER_MAX, self.delay_ms + self.spread_ms)

    @property
    def depth(self) -> int:
        """Hops from the publisher."""
        return len(self.path) - 1


class Contract(msgspec.Struct, frozen=True):
    """What a subscriber asks for; on its way up, what is left of it at a host.

    Attributes:
        bound_ms: greatest delay of a frame from its capture to its arrival.
        rate_bps: least rate; 0 for any.
        loss: greatest share of packets lost on the way, and of frames late or lost; 1 for any.
    """

    bound_ms: Signed
    rate_bps: Amount = 0.0
    loss: Annotated[float, Meta(ge=IMPOSSIBLE_LOSS, le=1)] = 1.0

    def rank(self, metrics: PathMetrics) -> tuple[bool, float]:
        """Orders paths, best first: those that keep rate and loss before others, then by delay."""
        return metrics.rate_bps < self.rate_bps or metrics.loss > self.loss, metrics.least_bound_ms

    def kept_by(self, metrics: PathMetrics) -> bool:
        """Whether a path keeps every term."""
        short, least_bound_ms = self.rank(metrics)
        return not short and least_bound_ms <= self.bound_ms

    def before(self, delay_ms: float, loss: float) -> "Contract":
        """What must hold at the parent for this to hold behind a link with that delay and loss."""
        left = 1.0 if self.loss >= 1 else 1 - (1 - self.loss) / max(1e-9, 1 - loss)
        return Contract(max(-NUMBER_MAX, self.bound_ms - delay_ms), self.rate_bps, max(IMPOSSIBLE_LOSS, left))

    def both(self, other: "Contract") -> "Contract":
        """The weakest contract that implies both."""
        return Contract(
            min(self.bound_ms, other.bound_ms), max(self.rate_bps, other.rate_bps), min(self.loss, other.loss)
        )

    def counter(self, metrics: PathMetrics) -> "Contract":
        """The counter-offer: each term that the path does not keep is replaced by what it can keep."""
        return Contract(
            max(self.bound_ms, metrics.least_bound_ms),
            min(self.rate_bps, metrics.rate_bps),
            max(self.loss, metrics.loss),
        )
