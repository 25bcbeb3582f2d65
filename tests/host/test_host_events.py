"""An extension is told of what changes at its host, of what it asked for only, and of no noise."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

import pytest

from cubecast.host.derived import host_events as happenings
from cubecast.host.derived.host_events import HostEvents, Pressure
from cubecast.host.runtime import HostRuntime
from cubecast.sandbox.abi import EventKind
from cubecast.sandbox.upcalls import Upcall
from cubecast.types import ChannelName

NEWS, SMALL = ChannelName("news"), ChannelName("small")


class Host:
    """What a host would tell."""

    def __init__(self) -> None:
        self.feeds, self.link_ms, self.rates = 0, 20.0, [1e9]
        self.lines: list[str] = []

    def notify(self, line: str) -> None:
        self.lines.append(line)

    def readers(self, channel: ChannelName) -> int:
        assert channel == SMALL
        return self.feeds

    def upstream_ms(self, channel: ChannelName) -> float | None:
        assert channel == NEWS
        return self.link_ms

    def send_rates_bps(self, channel: ChannelName) -> list[float]:
        assert channel == SMALL
        return self.rates


def watching(
    host: Host, *kinds: EventKind, clock: Callable[[], float] = time.monotonic
) -> tuple[HostEvents, list[Upcall]]:
    told: list[Upcall] = []
    return HostEvents(cast(HostRuntime, host), NEWS, lambda: [SMALL], frozenset(kinds), told.append, clock), told


def of(told: Iterable[Upcall], kind: EventKind) -> list[float]:
    return [upcall.value for upcall in told if upcall.kind is kind]


def test_subscribers_come_and_go() -> None:
    host = Host()
    seen, told = watching(host, EventKind.SUBSCRIBER_JOINED, EventKind.SUBSCRIBER_LEFT)
    for feeds in (0, 1, 1, 3, 2, 2, 0):
        host.feeds = feeds
        seen.look()
    assert of(told, EventKind.SUBSCRIBER_JOINED) == [1, 3]
    assert of(told, EventKind.SUBSCRIBER_LEFT) == [2, 0]


def test_a_links_cost_is_told_when_it_has_really_changed() -> None:
    host = Host()
    seen, told = watching(host, EventKind.LINK_COST_CHANGED)
    for link_ms in (20.0, 20.9, 21.5, 19.0, 30.0, 30.5, 12.0):
        host.link_ms = link_ms
        seen.look()
    assert of(told, EventKind.LINK_COST_CHANGED) == [20.0, 30.0, 12.0]


def test_late_frames_break_the_bound_and_early_ones_do_not() -> None:
    seen, told = watching(Host(), EventKind.BOUND_VIOLATED)
    seen.came(1000, 10, -3.0)
    seen.came(2000, 10, 4.5)
    assert [(u.kind, u.time_us, u.value) for u in told] == [(EventKind.BOUND_VIOLATED, 2000, 4.5)]


def test_the_timer_counts() -> None:
    seen, told = watching(Host(), EventKind.TIMER)
    for _ in range(3):
        seen.look()
    assert of(told, EventKind.TIMER) == [1, 2, 3]


def test_congestion_is_the_slowest_childs_share_of_the_stream() -> None:
    now = [100.0]
    host = Host()
    seen, told = watching(host, EventKind.CONGESTION, clock=lambda: now[0])

    def seconds(count: int, rates: list[float]) -> None:
        host.rates = rates
        for _ in range(10 * count):
            now[0] += 0.1
            seen.came(0, 12_500, -1)  # 1 Mbit/s
            seen.look()

    seconds(5, [8e6, 5e6])
    assert of(told, EventKind.CONGESTION) == []
    seconds(5, [8e6, 0.5e6])
    seconds(5, [8e6, 5e6])
    shares = of(told, EventKind.CONGESTION)
    assert min(shares) == pytest.approx(0.5, abs=0.06)
    assert shares[-1] == 1.0


def test_pressure_is_the_share_of_the_time_since_it_was_asked_last(tmp_path: Path) -> None:
    file = tmp_path / "cpu"
    pressure = Pressure(file)
    assert pressure.share(10.0) is None
    file.write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\nfull avg10=0.00 total=0\n")
    assert pressure.share(11.0) is None
    file.write_text("some avg10=9.00 avg60=0.00 avg300=0.00 total=1250000\nfull avg10=0.00 total=0\n")
    assert pressure.share(12.0) == pytest.approx(0.25)


def test_a_kernel_that_does_not_tell_pressure_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(happenings, "PRESSURE", tmp_path / "none")
    host = Host()
    watching(host, EventKind.CPU_PRESSURE)
    assert "does not tell CPU pressure" in host.lines[0]
