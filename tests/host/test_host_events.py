"""Host events: posted for what changes at the host, only those that the extension names, and not for noise."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from cubecast.host.derived import host_events
from cubecast.host.derived.host_events import CpuPressure, HostEvents
from cubecast.sandbox.abi import EventKind
from cubecast.sandbox.upcalls import Upcall
from cubecast.types import ChannelName

NEWS, SMALL = ChannelName("news"), ChannelName("small")


class Host:
    """An ObservedHost whose state the test sets."""

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


def observe(
    host: Host, *kinds: EventKind, clock: Callable[[], float] = time.monotonic
) -> tuple[HostEvents, list[Upcall]]:
    posted: list[Upcall] = []
    return HostEvents(host, NEWS, lambda: [SMALL], frozenset(kinds), posted.append, clock), posted


def values(posted: Iterable[Upcall], kind: EventKind) -> list[float]:
    return [upcall.value for upcall in posted if upcall.kind is kind]


def test_subscribers_come_and_go() -> None:
    host = Host()
    events, posted = observe(host, EventKind.SUBSCRIBER_JOINED, EventKind.SUBSCRIBER_LEFT)
    for feeds in (0, 1, 1, 3, 2, 2, 0):
        host.feeds = feeds
        events.check()
    assert values(posted, EventKind.SUBSCRIBER_JOINED) == [1, 3]
    assert values(posted, EventKind.SUBSCRIBER_LEFT) == [2, 0]


def test_a_links_cost_is_posted_when_it_has_changed_by_both_steps() -> None:
    host = Host()
    events, posted = observe(host, EventKind.LINK_COST_CHANGED)
    for link_ms in (20.0, 20.9, 21.5, 19.0, 30.0, 30.5, 12.0):
        host.link_ms = link_ms
        events.check()
    assert values(posted, EventKind.LINK_COST_CHANGED) == [20.0, 30.0, 12.0]


def test_late_frames_break_the_bound_and_early_ones_do_not() -> None:
    events, posted = observe(Host(), EventKind.BOUND_VIOLATED)
    events.frame_arrived(1000, 10, -3.0)
    events.frame_arrived(2000, 10, 4.5)
    assert [(u.kind, u.time_us, u.value) for u in posted] == [(EventKind.BOUND_VIOLATED, 2000, 4.5)]


def test_only_events_that_the_extension_names_are_observed() -> None:
    class Unobservable(Host):
        def readers(self, channel: ChannelName) -> int:
            raise AssertionError(channel)

        def send_rates_bps(self, channel: ChannelName) -> list[float]:
            raise AssertionError(channel)

    events, posted = observe(Unobservable(), EventKind.LINK_COST_CHANGED)
    events.check()
    assert values(posted, EventKind.LINK_COST_CHANGED) == [20.0]


def test_the_timer_counts() -> None:
    events, posted = observe(Host(), EventKind.TIMER)
    for _ in range(3):
        events.check()
    assert values(posted, EventKind.TIMER) == [1, 2, 3]


def test_congestion_is_the_slowest_childs_share_of_the_stream() -> None:
    now = [100.0]
    host = Host()
    events, posted = observe(host, EventKind.CONGESTION, clock=lambda: now[0])

    def seconds(count: int, rates: list[float]) -> None:
        host.rates = rates
        for _ in range(10 * count):
            now[0] += 0.1
            events.frame_arrived(0, 12_500, -1)  # 1 Mbit/s
            events.check()

    seconds(5, [8e6, 5e6])
    assert values(posted, EventKind.CONGESTION) == []
    seconds(5, [8e6, 0.5e6])
    seconds(5, [8e6, 5e6])
    shares = values(posted, EventKind.CONGESTION)
    assert min(shares) == pytest.approx(0.5, abs=0.06)
    assert shares[-1] == 1.0


def test_cpu_pressure_is_the_share_of_the_time_since_the_last_reading(tmp_path: Path) -> None:
    file = tmp_path / "cpu"
    pressure = CpuPressure(file)
    assert pressure.share(10.0) is None
    file.write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\nfull avg10=0.00 total=0\n")
    assert pressure.share(11.0) is None
    file.write_text("some avg10=9.00 avg60=0.00 avg300=0.00 total=1250000\nfull avg10=0.00 total=0\n")
    assert pressure.share(12.0) == pytest.approx(0.25)


def test_the_user_learns_that_the_kernel_does_not_report_cpu_pressure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(host_events, "PRESSURE", tmp_path / "none")
    host = Host()
    observe(host, EventKind.CPU_PRESSURE)
    assert "does not report CPU pressure" in host.lines[0]
