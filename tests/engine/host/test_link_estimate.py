"""Link estimates against the text of RFC 6298 and RFC 5905."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.engine.host.config import DEFAULT, EstimateConfig
from cubecast.engine.host.link_estimate import CLOCK_UNKNOWN_MS, LinkEstimate


def test_the_first_samples_follow_rfc_6298() -> None:
    link = LinkEstimate()
    link.sample(100.0, 0, 0)
    assert (link.srtt_ms, link.rttvar_ms) == (100.0, 50.0)
    link.sample(140.0, 0, 0)
    assert link.rttvar_ms == pytest.approx(0.75 * 50 + 0.25 * 40)
    assert link.srtt_ms == pytest.approx(3 / 4 * 100 + 1 / 4 * 140), "twice the gain: samples are smoothed already"


def test_of_pings_the_least_of_a_few_counts_so_that_a_busy_moment_does_not() -> None:
    link = LinkEstimate()
    for rtt_ms in (40.0, 40.0, 40.0, 900.0, 40.0, 40.0, 700.0, 40.0):
        link.pinged(rtt_ms)
    assert link.srtt_ms == pytest.approx(40.0)
    for _ in range(10):
        link.pinged(240.0)
    assert link.srtt_ms is not None
    assert link.srtt_ms > 200.0, "what lasts is believed soon"


@given(st.floats(0.1, 1000), st.integers(1, 60))
def test_a_steady_link_costs_half_its_round_trip_and_spreads_no_more_than_the_floor(rtt_ms: float, n: int) -> None:
    link = LinkEstimate()
    for _ in range(n):
        link.sample(rtt_ms, 0, 0)
    assert link.one_way_ms == pytest.approx(rtt_ms / 2)
    assert link.spread_ms == pytest.approx(DEFAULT.estimate.spread_ms_min)
    assert link.samples == n


@given(st.lists(st.floats(10, 500), min_size=30, max_size=60))
def test_the_estimate_stays_within_what_was_seen_and_spread_grows_with_variation(rtts: list[float]) -> None:
    link = LinkEstimate()
    for rtt_ms in rtts:
        link.sample(rtt_ms, 0, 0)
    assert link.one_way_ms is not None
    assert min(rtts) / 2 - 1e-6 <= link.one_way_ms <= max(rtts) / 2 + 1e-6
    assert (
        DEFAULT.estimate.spread_ms_min
        <= link.spread_ms
        <= DEFAULT.estimate.spread_ms_min + 2 * (max(rtts) - min(rtts)) + 1e-6
    )


def test_a_link_within_one_machine_may_cost_nothing() -> None:
    link = LinkEstimate()
    link.sample(0.0, 0, 0)
    assert (link.one_way_ms, link.samples) == (0.0, 1)


def test_before_the_first_sample_nothing_is_known_to_vary() -> None:
    link = LinkEstimate()
    assert (link.one_way_ms, link.rttvar_ms, link.spread_ms) == (None, 0.0, DEFAULT.estimate.spread_ms_min)


def test_loss_approaches_the_share_of_packets_lost() -> None:
    link = LinkEstimate()
    for n in range(1, 80):
        link.sample(10.0, n * 5, n * 100)
    assert link.loss == pytest.approx(0.05, abs=0.001)


@pytest.mark.parametrize("rtt_ms", [-1.0, float("nan")])
def test_an_impossible_sample_changes_nothing(rtt_ms: float) -> None:
    link = LinkEstimate()
    link.sample(rtt_ms, 0, 0)
    assert link.one_way_ms is None


@given(st.floats(-1e5, 1e5), st.floats(0.001, 0.5), st.floats(0, 1), st.floats(0, 10))
def test_the_clock_offset_is_right_within_its_uncertainty(
    offset_s: float, round_trip_s: float, share: float, held_s: float
) -> None:
    """Whatever way the round trip is split, the true offset lies within half of it."""
    link = LinkEstimate()
    sent = 1000.0
    seen = sent + share * round_trip_s + offset_s
    measured_ms = link.clock(sent, seen, seen + held_s, sent + round_trip_s + held_s)
    assert measured_ms == pytest.approx(1000 * round_trip_s, abs=1e-3), "without the time for which the peer held it"
    offset_ms, uncertainty_ms = link.clock_offset_ms
    assert abs(offset_ms - offset_s * 1000) <= uncertainty_ms + 1e-3


def test_without_a_ping_the_clock_is_unknown() -> None:
    assert LinkEstimate().clock_offset_ms == (0.0, CLOCK_UNKNOWN_MS)


@pytest.mark.parametrize("kept", [1, 2, 16])
def test_an_estimate_keeps_no_more_samples_than_it_is_told(kept: int) -> None:
    link = LinkEstimate(EstimateConfig(clock_samples=kept, pings=kept))
    for number in range(3 * kept):
        link.clock(number, number + 0.01, number + 0.01, number + 0.02)
        link.pinged(5.0)
        assert len(link._clocks) == min(kept, number + 1)
        assert len(link._pings) == min(kept, number + 1)
    assert link.samples == 2 * kept + 1


@pytest.mark.parametrize(("seen_s", "answered_s", "now_s"), [(5.0, 4.0, 2.0), (5.0, 5.0, 0.5), (5.0, 9.0, 2.0)])
def test_times_that_make_no_sense_are_left_out(seen_s: float, answered_s: float, now_s: float) -> None:
    link = LinkEstimate()
    assert link.clock(1.0, seen_s, answered_s, now_s) is None
    assert link.clock_offset_ms == (0.0, CLOCK_UNKNOWN_MS)


def test_no_more_packets_count_as_lost_than_were_sent() -> None:
    link = LinkEstimate()
    for n in range(1, 80):
        link.sample(10.0, n * 300, n * 100)  # those lost now were sent before
        assert link.loss <= 1
    assert link.loss == pytest.approx(1.0, abs=0.001)
