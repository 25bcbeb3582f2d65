"""What an extension can be told of, as seen from the host it runs on: the slides' kernel events."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cubecast.host.runtime import HostRuntime
from cubecast.sandbox.abi import EventKind
from cubecast.sandbox.upcalls import Upcall
from cubecast.types import ChannelName

PRESSURE = Path("/proc/pressure/cpu")
"""Linux's pressure stall information; missing where the kernel was built without it."""
PRESSURE_S = 1.0
PRESSURE_STEP = 0.05
LINK_STEP, LINK_STEP_MS = 0.1, 1.0
"""A link's cost is told when it has changed by both."""
CONGESTION_STEP = 0.05
RATE_S = 2.0
"""The stream's rate is taken over so long."""


@dataclass(slots=True)
class Pressure:
    """Share of the time in which some task waited for a CPU."""

    file: Path = PRESSURE
    _total_us: int | None = None
    _at_s: float = 0.0

    def share(self, now_s: float) -> float | None:
        """Since it was asked last, 0..1; None at first, and where the kernel does not tell."""
        try:
            some = self.file.read_text(encoding="ascii").splitlines()[0]
            total_us = int(some.rpartition("total=")[2])
        except (OSError, ValueError, IndexError):
            return None
        before_us, before_s = self._total_us, self._at_s
        self._total_us, self._at_s = total_us, now_s
        if before_us is None or now_s <= before_s:
            return None
        return min(1.0, max(0.0, (total_us - before_us) / 1e6 / (now_s - before_s)))


class HostEvents:
    """Looks at a host again and again, and posts what has changed for one extension."""

    def __init__(
        self,
        host: HostRuntime,
        source: ChannelName,
        channels: Callable[[], list[ChannelName]],
        kinds: frozenset[EventKind],
        post: Callable[[Upcall], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is posted yet.

        Args:
            channels: those that are made now.
            kinds: what the extension wants to be told of; nothing else is looked at.
            post: takes an upcall in.
            clock: s.
        """
        self._host, self._source, self._channels, self._kinds, self._post = host, source, channels, kinds, post
        self._clock = clock
        self._ticks = 0
        self._time_us = 0
        self._subscribers = 0
        self._link_ms: float | None = None
        self._pressure = Pressure()
        self._pressure_share, self._pressed_s = 0.0, clock()
        self._taken = 1.0
        self._bytes = 0
        self._rate_bps, self._rated_s, self._rated_bytes = 0.0, clock(), 0
        if EventKind.CPU_PRESSURE in kinds and not PRESSURE.is_file():
            host.notify(
                f"{PRESSURE} is missing: this kernel does not tell CPU pressure, nor will the extension be told"
            )

    def came(self, time_us: int, size: int, over_ms: float) -> None:
        """A frame of the input arrived.

        Args:
            time_us: its time in the channel.
            size: bytes.
            over_ms: how much later than its bound; negative for in time.
        """
        self._time_us = max(self._time_us, time_us)
        self._bytes += size
        if over_ms > 0:
            self._tell(EventKind.BOUND_VIOLATED, over_ms)

    def look(self) -> None:
        """Posts what has changed; called every 100 ms."""
        self._ticks += 1
        self._tell(EventKind.TIMER, self._ticks)
        for kind, look in (
            (EventKind.SUBSCRIBER_JOINED, self._look_at_subscribers),
            (EventKind.LINK_COST_CHANGED, self._look_at_link),
            (EventKind.CPU_PRESSURE, self._look_at_pressure),
            (EventKind.CONGESTION, self._look_at_senders),
        ):
            if kind in self._kinds or (
                kind is EventKind.SUBSCRIBER_JOINED and EventKind.SUBSCRIBER_LEFT in self._kinds
            ):
                look()

    def _tell(self, kind: EventKind, value: float) -> None:
        self._post(Upcall(kind, self._time_us, value))

    def _look_at_subscribers(self) -> None:
        now = sum(self._host.readers(channel) for channel in self._channels())
        if now != self._subscribers:
            joined = now > self._subscribers
            self._subscribers = now
            self._tell(EventKind.SUBSCRIBER_JOINED if joined else EventKind.SUBSCRIBER_LEFT, now)

    def _look_at_link(self) -> None:
        now_ms = self._host.upstream_ms(self._source)
        if now_ms is None:
            return
        before_ms = self._link_ms
        if before_ms is None or abs(now_ms - before_ms) > max(LINK_STEP_MS, LINK_STEP * before_ms):
            self._link_ms = now_ms
            self._tell(EventKind.LINK_COST_CHANGED, now_ms)

    def _look_at_pressure(self) -> None:
        now_s = self._clock()
        if now_s - self._pressed_s < PRESSURE_S:
            return
        self._pressed_s = now_s
        share = self._pressure.share(now_s)
        if share is not None and abs(share - self._pressure_share) >= PRESSURE_STEP:
            self._pressure_share = share
            self._tell(EventKind.CPU_PRESSURE, share)

    def _look_at_senders(self) -> None:
        """The slowest child's share of the input's rate; at most all of it."""
        now_s = self._clock()
        if now_s - self._rated_s >= RATE_S:
            self._rate_bps = 8 * (self._bytes - self._rated_bytes) / (now_s - self._rated_s)
            self._rated_s, self._rated_bytes = now_s, self._bytes
        offered = [bps for channel in self._channels() for bps in self._host.send_rates_bps(channel)]
        if not self._rate_bps:
            return
        share = min(1.0, *(bps / self._rate_bps for bps in offered)) if offered else 1.0
        if abs(share - self._taken) >= CONGESTION_STEP or (share == 1.0) != (self._taken == 1.0):
            self._taken = share
            self._tell(EventKind.CONGESTION, share)
