"""Statistics of the frames that one subscriber received."""

from collections import OrderedDict, deque
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from cubecast.host.channel.reader import ReceivedFrame

DELAYS_MAX = 20_000
"""Number of frames whose delays are kept: percentiles are over the last DELAYS_MAX frames."""
GAP_MS = 60.0
"""Shortest time without a frame, ms, that is recorded as a gap."""
GAPS_MAX = 500
"""Maximum number of gaps that are recorded; older ones are dropped."""
RECENT_MAX = 300
"""Number of frames that `recent_ms` is over."""
SEEN_MAX = 20_000
"""Number of frames that are remembered to recognise duplicates."""


@dataclass(slots=True)
class ReceptionStats:
    """Counts and delays of the frames that one subscriber received."""

    bound_ms: float = 0.0
    catch_up: int = 0
    """Number of frames that were captured before the subscription began: the start of the group then under way."""
    path: tuple[str, ...] = ()
    """Hosts on the channel's latest path, the publisher first."""
    received: int = 0
    seen: OrderedDict[tuple[int, int], None] = field(default_factory=OrderedDict)
    first: dict[int, int] = field(default_factory=dict)
    duplicated: int = 0
    timed: int = 0
    in_time: int = 0
    """Number of timed frames that arrived within the bound."""
    gaps: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=GAPS_MAX))
    """Times without a frame of at least GAP_MS: their end, s since the Unix epoch, and their length, ms."""
    last_s: float | None = None
    recent_ms: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_MAX))
    delays_ms: deque[float] = field(default_factory=lambda: deque(maxlen=DELAYS_MAX))

    def add(self, item: ReceivedFrame, delay_ms: float | None) -> bool:
        """Counts one frame; returns False for a duplicate.

        Args:
            delay_ms: from capture to arrival; None for a frame whose delay does not count.
        """
        frame = item.frame
        key = (frame.track, frame.pts_us)
        if key in self.seen:
            self.duplicated += 1
            return False
        self.seen[key] = None
        if self.last_s is not None and (item.arrived_s - self.last_s) * 1000 >= GAP_MS:
            self.gaps.append((round(item.arrived_s, 3), round((item.arrived_s - self.last_s) * 1000, 1)))
        self.last_s = item.arrived_s
        self.received += 1
        if len(self.seen) > SEEN_MAX:
            self.seen.popitem(last=False)
        self.first[frame.track] = min(item.number, self.first.get(frame.track, item.number))
        if delay_ms is None:
            self.catch_up += 1
            return True
        self.timed += 1
        self.in_time += delay_ms <= self.bound_ms
        self.delays_ms.append(delay_ms)
        self.recent_ms.append(delay_ms)
        return True

    def summary(self, published: tuple[int, ...] | None) -> "ReceptionSummary":
        """Counts and delays so far; losses count from the first frame received of each track.

        Args:
            published: number of frames that the publisher wrote, by track; None while that is unknown.
        """
        due = None if published is None else sum(n - self.first.get(t, 0) for t, n in enumerate(published))
        lost = None if due is None else due - self.received
        return ReceptionSummary(
            frames=FrameCounts(due, self.received, lost, self.duplicated),
            delay_ms=Percentiles.of(self.delays_ms),
            recent_ms=Percentiles.of(self.recent_ms),
            in_time=round(self.in_time / self.timed, 4) if self.timed else None,
        )


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """Number of frames published, received, lost and received twice; None where the publisher's count is unknown."""

    published: int | None
    received: int
    lost: int | None
    duplicated: int


@dataclass(frozen=True, slots=True)
class Percentiles:
    """The 50th and 99th percentile, ms; None without values."""

    p50: float | None
    p99: float | None

    @classmethod
    def of(cls, values: Collection[float]) -> "Percentiles":
        """The percentiles of some delays, ms."""
        if not values:
            return cls(None, None)
        p50, p99 = np.percentile(np.fromiter(values, dtype=np.float64), [50, 99])
        return cls(round(float(p50), 2), round(float(p99), 2))


@dataclass(frozen=True, slots=True)
class ReceptionSummary:
    """Counts and delays of one subscriber's frames.

    Attributes:
        delay_ms: from capture to arrival, over the last DELAYS_MAX frames.
        recent_ms: the same over the last RECENT_MAX frames.
        in_time: share of the timed frames that arrived within the bound, 0..1; None without timed frames.
    """

    frames: FrameCounts
    delay_ms: Percentiles
    recent_ms: Percentiles
    in_time: float | None
