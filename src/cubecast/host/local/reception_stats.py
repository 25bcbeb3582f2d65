"""What one subscriber received, counted frame by frame."""

from collections import OrderedDict, deque
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from cubecast.host.channel.reader import ReceivedFrame

DELAYS_MAX = 20_000
"""Delays kept: percentiles are over the last so many frames."""
GAP_MS, GAPS_MAX = 60.0, 500
RECENT_MAX = 300
"""Frames that `recent_ms` is over."""
SEEN_MAX = 20_000
"""Frames remembered to tell a duplicate."""


@dataclass(slots=True)
class ReceptionStats:
    """What one subscriber received."""

    bound_ms: float = 0.0
    catch_up: int = 0
    """Frames of the group that was under way when we came, captured before that."""
    path: tuple[str, ...] = ()
    """Hosts that the channel came over last, the publisher first."""
    received: int = 0
    seen: OrderedDict[tuple[int, int], None] = field(default_factory=OrderedDict)
    first: dict[int, int] = field(default_factory=dict)
    duplicated: int = 0
    untimed: int = 0
    timed: int = 0
    in_time: int = 0
    """Of the timed frames, those within the bound."""
    gaps: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=GAPS_MAX))
    """Times without a frame of GAP_MS or more: when they ended, s since the Unix epoch, and how long, ms."""
    last_s: float | None = None
    recent_ms: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_MAX))
    delays_ms: deque[float] = field(default_factory=lambda: deque(maxlen=DELAYS_MAX))

    def add(self, item: ReceivedFrame, delay_ms: float | None) -> bool:
        """Counts one frame; False for a frame seen before.

        Args:
            delay_ms: from its capture; None when that does not count.
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
        if item.number is None or item.captured_s is None:
            self.untimed += 1
            return True
        self.first[frame.track] = min(item.number, self.first.get(frame.track, item.number))
        if delay_ms is None:
            self.catch_up += 1
            return True
        self.timed += 1
        self.in_time += delay_ms <= self.bound_ms
        self.delays_ms.append(delay_ms)
        self.recent_ms.append(delay_ms)
        return True

    def summary(self, published: tuple[int, ...] | None) -> dict[str, object]:
        """Counts and delays; lost counts from the first frame received of each track."""
        due = None if published is None else sum(n - self.first.get(t, 0) for t, n in enumerate(published))
        return {
            "frames": {
                "published": due,
                "received": self.received,
                "lost": None if due is None else due - self.received,
                "duplicated": self.duplicated,
            },
            "delay_ms": percentiles(self.delays_ms),
            "recent_ms": percentiles(self.recent_ms),
            "in_time": round(self.in_time / self.timed, 4) if self.timed else None,
        }


def percentiles(values: Collection[float]) -> dict[str, float | None]:
    """p50 and p99, ms; None without values."""
    if not values:
        return {"p50": None, "p99": None}
    p50, p99 = np.percentile(np.fromiter(values, dtype=np.float64), [50, 99])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2)}
