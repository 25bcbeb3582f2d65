"""Properties of the planner: plans of hybrid trees, carried out move by move by hosts that measure what they are asked to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubecast.engine.directory.config import DelayTableConfig, PlannerConfig
from cubecast.engine.directory.delay_table import UNREACHED_MS, DelayTable, pair
from cubecast.engine.directory.planner import Planner, TreeMember
from cubecast.types import ChannelName, Floats, HostId

CHANNEL = ChannelName("clip")
NO_BOUND_MS = 1e6
STEP_S = 0.5
HOSTS = st.integers(4, 20)
SEEDS = st.integers(0, 10_000)
DELAYS, PLANS = DelayTableConfig(), PlannerConfig()
PLAN_S = PLANS.plan_timeout_s


class Group:
    """Hosts that follow the advice, over a matrix of delays."""

    def __init__(self, hosts: int, fan_out: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        places = rng.uniform(0, 100, (hosts, 2))
        self.delay_ms: Floats = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
        self.names = [HostId(f"h{index:02d}") for index in range(hosts)]
        self.number = {name: index for index, name in enumerate(self.names)}
        self.fan_out = fan_out
        self.parents: dict[HostId, HostId] = {}
        for index in range(1, hosts):  # at random, within the fan-out
            free = [name for name in self.names[:index] if self.copies(name) < fan_out]
            self.parents[self.names[index]] = free[int(rng.integers(len(free)))]
        self.delay_table = DelayTable(DELAYS)
        self.planner = Planner(self.delay_table, rng, PLANS)

    def copies(self, name: HostId) -> int:
        return sum(parent == name for parent in self.parents.values())

    def delay_from_publisher_ms(self, name: HostId) -> float:
        total, at = 0.0, name
        for _ in self.names:
            if at == self.names[0]:
                return total
            total += float(self.delay_ms[self.number[at], self.number[self.parents[at]]])
            at = self.parents[at]
        raise AssertionError(f"the parents of {name} form a loop")

    def mean_ms(self) -> float:
        return float(np.mean([self.delay_from_publisher_ms(name) for name in self.names[1:]]))

    def members(self) -> dict[HostId, TreeMember]:
        return {
            name: TreeMember(
                self.parents.get(name),
                NO_BOUND_MS,
                self.fan_out,
                self.fan_out - self.copies(name),
                self.delay_from_publisher_ms(name),
            )
            for name in self.names
        }

    def run(self, seconds: float, start_s: float = 0.0) -> list[int]:
        """Runs the planner: measures what it requests, follows its advice before the next step.

        Returns:
            Moves that were advised, by step.
        """
        moved = []
        for step in range(round(seconds / STEP_S)):
            now = start_s + step * STEP_S
            for host, others in self.delay_table.take_requests(now, self.names).items():
                assert len(others) <= DELAYS.probes_per_request_max
                links_ms = {other: float(self.delay_ms[self.number[host], self.number[other]]) for other in others}
                self.delay_table.report(host, links_ms, now)
            advice = self.planner.advise(CHANNEL, self.members(), now)
            moved.append(len(advice))
            self.parents.update(advice)
            for name in self.names:
                self.delay_from_publisher_ms(name)
                assert self.copies(name) <= self.fan_out
        return moved


@settings(max_examples=30, deadline=None)
@given(HOSTS, st.integers(2, 8), SEEDS)
def test_a_plan_makes_a_tree_no_later_and_every_step_of_it_is_a_tree_within_the_fan_out(
    hosts: int, fan_out: int, seed: int
) -> None:
    group = Group(hosts, fan_out, seed)
    before_ms = group.mean_ms()
    moved = group.run(PLAN_S + 20)
    assert group.mean_ms() <= before_ms + 1e-9
    assert max(moved) <= max(PLANS.moves_min, round(PLANS.moves_share * hosts))


def test_a_bad_tree_becomes_as_good_as_direct_connections_where_the_fan_out_allows_them() -> None:
    group = Group(12, 11, 5)
    for index in range(1, 12):  # a chain
        group.parents[group.names[index]] = group.names[index - 1]
    group.run(PLAN_S + 20)
    direct_ms = float(group.delay_ms[0, 1:].mean())
    assert group.mean_ms() <= 1.01 * direct_ms


@settings(max_examples=10, deadline=None)
@given(HOSTS, SEEDS)
def test_a_planned_tree_is_not_changed_again(hosts: int, seed: int) -> None:
    group = Group(hosts, 4, seed)
    group.run(PLAN_S + 20)
    assert sum(group.run(2 * PLAN_S, PLAN_S + 20)) == 0


def test_a_group_planned_for_the_first_time_changes_for_less_than_one_that_was_planned_before() -> None:
    publisher, near, far = (group := Group(3, 2, 1)).names
    small = (PLANS.gain_min + PLANS.gain_min_again) / 2

    def detour_by(share: float) -> None:
        """The mean delay of a chain is 125 ms, and that of direct connections less by a share of it."""
        direct_ms = 150.0 - share * 250.0
        group.delay_ms = np.array([[0.0, 100.0, direct_ms], [100.0, 0.0, 50.0], [direct_ms, 50.0, 0.0]])
        for at in (0.0, DELAYS.increase_window_s):
            group.delay_table.report(far, {publisher: direct_ms, near: 50.0}, at)

    group.parents = {near: publisher, far: near}
    detour_by(small)
    group.run(PLANS.settle_s + 5)
    assert group.parents[far] == publisher
    group.parents = {near: publisher, far: near}
    assert sum(group.run(3 * PLANS.replan_after_s, PLANS.settle_s + 5)) == 0, "the same gain again is jitter"
    detour_by(PLANS.gain_min_again + small)
    group.run(3 * PLANS.replan_after_s, 100.0)
    assert group.parents[far] == publisher


def test_a_survey_that_took_too_long_does_not_count_as_a_plan() -> None:
    publisher, near, far = (group := Group(3, 2, 1)).names
    gain = (PLANS.gain_min + PLANS.gain_min_again) / 2
    direct_ms = 150.0 - gain * 250.0
    group.delay_ms = np.array([[0.0, 100.0, direct_ms], [100.0, 0.0, 50.0], [direct_ms, 50.0, 0.0]])
    group.parents = {near: publisher, far: near}
    unmeasured_s = PLANS.settle_s + PLANS.survey_timeout_s + 1
    for now in np.arange(0.0, unmeasured_s, STEP_S).tolist():
        group.planner.advise(CHANNEL, group.members(), now)  # nobody measures
    group.run(PLANS.replan_after_s + 5, unmeasured_s)
    assert group.parents[far] == publisher, "the first plan: a gain this small is worth it"


def test_a_group_that_has_just_changed_is_not_planned_yet() -> None:
    group = Group(10, 4, 1)
    assert sum(group.run(PLANS.settle_s)) == 0


def test_for_a_group_that_has_just_changed_no_host_is_asked_to_measure_yet() -> None:
    group = Group(10, 4, 1)

    def asked_at(now: float) -> set[HostId]:
        group.planner.advise(CHANNEL, group.members(), now)
        return set(group.delay_table.take_requests(now, group.names))

    for now in np.arange(0.0, PLANS.settle_s, STEP_S).tolist():
        assert not asked_at(now)
    assert asked_at(PLANS.settle_s)


def test_a_host_that_does_not_follow_advice_is_advised_once_a_plan() -> None:
    group = Group(12, 11, 5)
    for index in range(1, 12):
        group.parents[group.names[index]] = group.names[index - 1]
    stubborn = {**group.parents}
    advised: list[int] = []
    for step in range(round((PLAN_S + 20) / STEP_S)):
        advised += group.run(STEP_S, step * STEP_S)
        group.parents = {**stubborn}
    assert 0 < sum(advised) <= 2 * len(group.names), "each host once a plan, in two plans at most"


def test_a_pair_that_cannot_be_measured_is_given_up_and_the_survey_continues() -> None:
    delay_table, a, b = DelayTable(DELAYS), HostId("a"), HostId("b")
    requests = 0
    for now in range(120):
        if delay_table.delays_ms([pair(a, b)], float(now)) is not None:
            break
        requests += len(delay_table.take_requests(float(now), [a, b]))
    assert requests == DELAYS.requests_max
    assert delay_table.delays_ms([pair(a, b)], 200.0) is not None


def test_the_delays_of_a_host_are_removed_with_it() -> None:
    delay_table, a, b = DelayTable(DELAYS), HostId("a"), HostId("b")
    delay_table.report(a, {b: 12.0}, 0.0)
    assert delay_table.one_way_ms(b, a) == 12.0
    delay_table.forget(b)
    assert delay_table.one_way_ms(a, b) is None


@given(st.floats(1, 200), st.floats(1, 200))
def test_a_shorter_delay_counts_at_once_and_a_longer_one_when_it_stays(before_ms: float, after_ms: float) -> None:
    delay_table, a, b = DelayTable(DELAYS), HostId("a"), HostId("b")
    delay_table.report(a, {b: before_ms}, 0.0)
    delay_table.report(b, {a: after_ms}, 1.0)
    stored_ms = delay_table.one_way_ms(a, b)
    assert stored_ms is not None
    increase_ms = after_ms - before_ms
    gain = 1 if increase_ms < 0 else DELAYS.increase_gain
    assert stored_ms == pytest.approx(before_ms + gain * increase_ms)
    for second in range(2, 60):
        delay_table.report(a, {b: after_ms}, float(second))
    assert delay_table.one_way_ms(b, a) == pytest.approx(after_ms, rel=0.01)
    delay_table.report(a, {b: 2 * after_ms}, 60.0 + DELAYS.increase_window_s)
    assert delay_table.one_way_ms(a, b) == 2 * after_ms


def test_two_hidden_hosts_are_not_asked_to_measure_each_other_until_one_can_be_dialled() -> None:
    delay_table, a, b = DelayTable(DELAYS), HostId("a"), HostId("b")
    for host in (a, b):
        delay_table.set_reachable(host, reachable=False)
    delays_ms = delay_table.delays_ms([pair(a, b)], 0.0)
    assert delays_ms is not None
    assert delays_ms.tolist() == [UNREACHED_MS]
    assert not delay_table.take_requests(0.0, [a, b])
    delay_table.set_reachable(b, reachable=True)
    assert delay_table.delays_ms([pair(a, b)], 1.0) is None
    assert delay_table.take_requests(1.0, [a, b]) == {a: [b]}, "the hidden host dials"


def test_for_a_publisher_with_one_subscriber_there_is_nothing_to_plan_and_nobody_measures() -> None:
    group = Group(2, 4, 1)
    for now in np.arange(0.0, 3 * PLANS.settle_s, STEP_S).tolist():
        assert not group.planner.advise(CHANNEL, group.members(), now)
        assert not group.delay_table.take_requests(now, group.names)
