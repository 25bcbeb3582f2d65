"""What one copy of a channel takes, as a host measures it."""

import pytest

from cubecast.engine.host.config import DEFAULT
from cubecast.engine.host.tree.branch import Branch
from cubecast.engine.protocol.path import PathMetrics
from cubecast.types import ChannelName, HostId

PERIOD_S, GAIN = DEFAULT.tree.rate_s, DEFAULT.tree.rate_gain


def test_the_first_rate_counts_as_it_is_and_later_ones_are_smoothed() -> None:
    branch = Branch(ChannelName("clip"), HostId("p"), PathMetrics(0.0, 0.0, (HostId("p"),)))
    received, now = 0, 100.0
    branch.media.count(received)
    branch.media.measure_rate(now, DEFAULT.tree)
    assert branch.media.rate_bps == 0
    for period_bytes, expected_bps in ((1000, 4000.0), (3000, 4000.0 + GAIN * 8000.0)):
        received, now = received + period_bytes, now + PERIOD_S
        branch.media.count(received)
        branch.media.measure_rate(now - 0.1, DEFAULT.tree)  # too early
        branch.media.measure_rate(now, DEFAULT.tree)
        assert branch.media.rate_bps == pytest.approx(expected_bps * 2.0 / PERIOD_S)


def test_a_pause_takes_nothing_from_the_rate_and_the_media_after_it_count_from_its_end() -> None:
    branch = Branch(ChannelName("clip"), HostId("p"), PathMetrics(0.0, 0.0, (HostId("p"),)))
    branch.media.count(0)
    now, rates_bps = 100.0, []
    for received in (0, 1000, 1000, 1000, 2000):
        branch.media.count(received)
        branch.media.measure_rate(now, DEFAULT.tree)
        rates_bps.append(branch.media.rate_bps)
        now += PERIOD_S
    assert rates_bps == pytest.approx([0.0, *[8 * 1000 / PERIOD_S] * 4])


def test_a_new_session_that_counts_from_zero_takes_no_bytes_back() -> None:
    branch = Branch(ChannelName("clip"), HostId("p"), PathMetrics(0.0, 0.0, (HostId("p"),)))
    for total in (0, 1000, 0, 500):
        branch.media.count(total)
    assert branch.media.new_bytes == 1500
