"""Laws of the delay table where little is measured: what it estimates is finite, and measured delays are kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.engine.directory.config import DelayTableConfig
from cubecast.engine.directory.delay_table import UNREACHED_MS, DelayTable, pair
from cubecast.types import HostId

DELAYS = DelayTableConfig()
A, B, C, X, Y = map(HostId, "abcxy")


@pytest.mark.parametrize(
    "links",
    [
        {A: {X: 10.0}, B: {Y: 20.0}, X: {Y: 30.0}},  # no host has measured both landmarks
        {A: {X: 10.0}, B: {X: 20.0}},  # there is one landmark only
        {A: {X: 10.0, Y: 20.0}, B: {X: 20.0, Y: 5.0}},  # the delay between the landmarks is not known
    ],
)
def test_hosts_that_cannot_be_located_are_estimated_to_be_at_the_same_place(
    links: dict[HostId, dict[HostId, float]],
) -> None:
    delay_table = DelayTable(DELAYS)
    for host, links_ms in links.items():
        delay_table.report(host, links_ms, 0.0)
    assert delay_table.matrix_ms([A, B]).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_a_host_without_measurements_is_estimated_to_be_in_the_middle_of_the_others() -> None:
    delay_table = DelayTable(DELAYS)
    places_ms = {A: (0.0, 0.0), B: (40.0, 0.0), C: (0.0, 40.0), X: (40.0, 40.0)}
    for host, (east, north) in places_ms.items():
        links_ms = {
            other: float(np.hypot(east - other_east, north - other_north))
            for other, (other_east, other_north) in places_ms.items()
            if other != host
        }
        delay_table.report(host, links_ms, 0.0)
    matrix_ms = delay_table.matrix_ms([*places_ms, Y])
    assert matrix_ms[:4, 4] == pytest.approx(np.full(4, np.hypot(20.0, 20.0)), rel=0.1)


@given(st.dictionaries(st.tuples(st.integers(0, 5), st.integers(0, 5)), st.floats(1, 500), min_size=1))
def test_a_measured_delay_is_given_as_it_is_whatever_is_estimated(measured: dict[tuple[int, int], float]) -> None:
    delay_table, names = DelayTable(DELAYS), [HostId(f"h{number}") for number in range(6)]
    expected: dict[tuple[int, int], float] = {}
    for (a, b), delay_ms in measured.items():
        if a < b:
            delay_table.report(names[a], {names[b]: delay_ms}, 7.0)
            expected[a, b] = delay_ms
    matrix_ms = delay_table.matrix_ms(names)
    assert np.isfinite(matrix_ms).all()
    for (a, b), delay_ms in expected.items():
        assert (matrix_ms[a, b], matrix_ms[b, a]) == (delay_ms, delay_ms)


def test_the_delays_of_a_host_that_left_are_not_used_when_it_comes_back() -> None:
    delay_table = DelayTable(DELAYS)
    delay_table.report(A, {B: 12.0}, 0.0)
    delay_table.forget(B)
    assert delay_table.matrix_ms([A, B]).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_one_host_is_asked_to_measure_few_others_at_a_time_and_the_rest_later() -> None:
    delay_table = DelayTable(DELAYS)
    others = [HostId(f"h{number}") for number in range(2 * DELAYS.probes_per_request_max)]
    delay_table.set_reachable(A, reachable=False)  # so it has to dial all of them itself
    assert delay_table.delays_ms([pair(A, other) for other in others], 0.0) is None
    first = delay_table.take_requests(0.0, [A, *others])[A]
    assert len(first) == DELAYS.probes_per_request_max
    second = delay_table.take_requests(0.1, [A, *others])[A]
    assert {*first, *second} == set(others), "those that were not requested yet come first"


def test_a_pair_that_is_not_reported_is_requested_again_after_a_while_and_not_for_ever() -> None:
    delay_table = DelayTable(DELAYS)
    delay_table.delays_ms([pair(A, B)], 0.0)
    times = np.arange(0.0, 5 * DELAYS.requests_max * DELAYS.retry_after_s, 0.5).tolist()
    requested_at = [now for now in times if delay_table.take_requests(now, [A, B])]
    assert requested_at == [number * DELAYS.retry_after_s for number in range(DELAYS.requests_max)]


def test_a_report_of_a_pair_is_waited_for_after_the_last_request_as_after_the_others() -> None:
    delay_table = DelayTable(DELAYS)
    requested = [number * DELAYS.retry_after_s for number in range(DELAYS.requests_max)]
    for now in requested:
        assert delay_table.delays_ms([pair(A, B)], now) is None
        assert delay_table.take_requests(now, [A, B])
    waits_until = requested[-1] + DELAYS.retry_after_s
    assert delay_table.delays_ms([pair(A, B)], waits_until - 0.1) is None
    delays_ms = delay_table.delays_ms([pair(A, B)], waits_until)
    assert delays_ms is not None
    assert delays_ms.tolist() == [UNREACHED_MS]


@pytest.mark.parametrize(("a", "b", "x", "y"), [(A, B, X, Y), (X, Y, A, B)])
def test_two_hosts_are_estimated_from_their_delays_to_hosts_that_both_have_measured_whatever_their_names(
    a: HostId, b: HostId, x: HostId, y: HostId
) -> None:
    """They are 10 and 60 ms along a line of 100 ms."""
    delay_table = DelayTable(DELAYS)
    delay_table.report(a, {x: 10.0, y: 90.0}, 0.0)
    delay_table.report(b, {x: 60.0, y: 40.0}, 0.0)
    delay_table.report(x, {y: 100.0}, 0.0)
    assert delay_table.matrix_ms([a, b])[0, 1] == pytest.approx(50.0)


def test_a_host_has_no_delay_to_itself_whatever_it_has_measured() -> None:
    delay_table = DelayTable(DELAYS)
    delay_table.report(A, {B: 12.0, C: 5.0}, 0.0)
    assert delay_table.matrix_ms([A, B, C]).diagonal().tolist() == [0.0, 0.0, 0.0]
