"""Host events delivered to an extension: the slides' kernel events, observed at the host that runs the extension."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cubecast.sandbox.abi import EventKind
from cubecast.sandbox.upcalls import Upcall
from cubecast.types import ChannelName

PRESSURE = Path("/proc/pressure/cpu")
"""Linux's pressure stall information; missing if the kernel was built without it."""
PRESSURE_S = 1.0
"""Interval between two readings of the CPU pressure, s."""
PRESSURE_STEP = 0.05
"""Smallest change of the CPU pressure, a share of the time, that is reported."""
LINK_STEP = 0.1
"""Smallest change of a link's delay that is reported, relative to the delay; it must exceed LINK_STEP_MS too."""
LINK_STEP_MS = 1.0
"""Smallest change of a link's delay that is reported, ms; it must exceed LINK_STEP too."""
CONGESTION_STEP = 0.05
"""Smallest change of the send rate, a share of the stream's rate, that is reported."""
RATE_S = 2.0
"""Interval over which the stream's rate is measured, s."""


class ObservedHost(Protocol):
    """The parts of a host that HostEvents observes; HostRuntime has them."""

    @property
    def notify(self) -> Callable[[str], None]:
        """Reports one line to the user."""

    def readers(self, channel: ChannelName) -> int:
        """Number of subscribers to whom this host sends a channel."""

    def upstream_ms(self, channel: ChannelName) -> float | None:
        """One-way delay of the link on which a channel arrives, ms; None if unknown."""

    def send_rates_bps(self, channel: ChannelName) -> list[float]:
        """Rates that congestion control allows towards the children of a channel, bit/s."""


@dataclass(slots=True)
class CpuPressure:
    """Share of the time in which some task waited for a CPU."""

    file: Path = PRESSURE
    _total_us: int | None = None
    _read_s: float = 0.0

    def share(self, now_s: float) -> float | None:
        """The share since the last call, 0..1; None at the first call, and if the kernel does not report it."""
        try:
            some = self.file.read_text(encoding="ascii").splitlines()[0]
            total_us = int(some.rpartition("total=")[2])
        except (OSError, ValueError, IndexError):
            return None
        before_us, before_s = self._total_us, self._read_s
        self._total_us, self._read_s = total_us, now_s
        if before_us is None or now_s <= before_s:
            return None
        return min(1.0, max(0.0, (total_us - before_us) / 1e6 / (now_s - before_s)))


class HostEvents:
    """Observes a host and posts what has changed as upcalls for one extension."""

    def __init__(
        self,
        host: ObservedHost,
        source: ChannelName,
        channels: Callable[[], list[ChannelName]],
        kinds: frozenset[EventKind],
        post: Callable[[Upcall], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Posts nothing yet.

        Args:
            source: channel that the extension processes.
            channels: returns the channels now derived from it.
            kinds: events that the extension's manifest names; only these are observed.
            post: queues an upcall for the extension.
            clock: monotonic, s.
        """
        self._host, self._source, self._channels, self._kinds, self._post = host, source, channels, kinds, post
        self._clock = clock
        self._ticks = 0
        self._time_us = 0
        self._subscribers = 0
        self._link_ms: float | None = None
        self._pressure = CpuPressure()
        self._pressure_share, self._pressure_read_s = 0.0, clock()
        self._send_share = 1.0
        self._bytes = 0
        self._rate_bps, self._rate_since_s, self._rate_since_bytes = 0.0, clock(), 0
        if EventKind.CPU_PRESSURE in kinds and not PRESSURE.is_file():
            host.notify(
                f"{PRESSURE} is missing: this kernel does not report CPU pressure, so the extension gets no cpu_pressure"
            )

    def frame_arrived(self, time_us: int, size: int, late_ms: float) -> None:
        """Counts a frame of the input, and posts a violation of the bound.

        Args:
            time_us: presentation time of the frame.
            size: bytes.
            late_ms: by how much it arrived after its bound; negative if it was in time.
        """
        self._time_us = max(self._time_us, time_us)
        self._bytes += size
        if late_ms > 0:
            self._post_event(EventKind.BOUND_VIOLATED, late_ms)

    def check(self) -> None:
        """Posts what has changed; to be called every 100 ms, the period of the timer event."""
        self._ticks += 1
        self._post_event(EventKind.TIMER, self._ticks)
        if self._kinds & {EventKind.SUBSCRIBER_JOINED, EventKind.SUBSCRIBER_LEFT}:
            self._check_subscribers()
        for kind, check in (
            (EventKind.LINK_COST_CHANGED, self._check_link),
            (EventKind.CPU_PRESSURE, self._check_pressure),
            (EventKind.CONGESTION, self._check_send_rates),
        ):
            if kind in self._kinds:
                check()

    def _post_event(self, kind: EventKind, value: float) -> None:
        self._post(Upcall(kind, self._time_us, value))

    def _check_subscribers(self) -> None:
        now = sum(self._host.readers(channel) for channel in self._channels())
        if now != self._subscribers:
            joined = now > self._subscribers
            self._subscribers = now
            self._post_event(EventKind.SUBSCRIBER_JOINED if joined else EventKind.SUBSCRIBER_LEFT, now)

    def _check_link(self) -> None:
        now_ms = self._host.upstream_ms(self._source)
        if now_ms is None:
            return
        before_ms = self._link_ms
        if before_ms is None or abs(now_ms - before_ms) > max(LINK_STEP_MS, LINK_STEP * before_ms):
            self._link_ms = now_ms
            self._post_event(EventKind.LINK_COST_CHANGED, now_ms)

    def _check_pressure(self) -> None:
        now_s = self._clock()
        if now_s - self._pressure_read_s < PRESSURE_S:
            return
        self._pressure_read_s = now_s
        share = self._pressure.share(now_s)
        if share is not None and abs(share - self._pressure_share) >= PRESSURE_STEP:
            self._pressure_share = share
            self._post_event(EventKind.CPU_PRESSURE, share)

    def _check_send_rates(self) -> None:
        """Posts the send rate to the slowest child as a share of the input's rate, at most 1."""
        now_s = self._clock()
        if now_s - self._rate_since_s >= RATE_S:
            self._rate_bps = 8 * (self._bytes - self._rate_since_bytes) / (now_s - self._rate_since_s)
            self._rate_since_s, self._rate_since_bytes = now_s, self._bytes
        rates_bps = [bps for channel in self._channels() for bps in self._host.send_rates_bps(channel)]
        if not self._rate_bps:
            return
        share = min(1.0, *(bps / self._rate_bps for bps in rates_bps)) if rates_bps else 1.0
        if abs(share - self._send_share) >= CONGESTION_STEP or (share == 1.0) != (self._send_share == 1.0):
            self._send_share = share
            self._post_event(EventKind.CONGESTION, share)
