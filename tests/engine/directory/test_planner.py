"""The directory's plans of hybrid trees, carried out move by move over hosts that answer its questions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubecast.engine.directory.delay_table import GIVE_UP_ASKS, PROBES_AT_ONCE, RECENT_S, RISE_GAIN, DelayTable, pair
from cubecast.engine.directory.planner import MOVES_MIN, MOVES_SHARE, PLAN_S, SETTLE_S, Planner, TreeMember
from cubecast.types import ChannelName, Floats, HostId

CHANNEL = ChannelName("clip")
NO_BOUND_MS = 1e6
STEP_S = 0.5
HOSTS = st.integers(4, 20)
SEEDS = st.integers(0, 10_000)


class Group:
    """Hosts that do as they are advised, over a matrix of delays."""

    def __init__(self, hosts: int, fan_out: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        places = rng.uniform(0, 100, (hosts, 2))
        self.delay_ms: Floats = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
        self.names = [HostId(f"h{index:02d}") for index in range(hosts)]
        self.number = {name: index for index, name in enumerate(self.names)}
        self.fan_out = fan_out
        self.parents: dict[HostId, HostId] = {}
        for index in range(1, hosts):  # anyhow, within the fan-out
            free = [name for name in self.names[:index] if self.copies(name) < fan_out]
            self.parents[self.names[index]] = free[int(rng.integers(len(free)))]
        self.surveys = DelayTable()
        self.planner = Planner(self.surveys, rng)

    def copies(self, name: HostId) -> int:
        return sum(parent == name for parent in self.parents.values())

    def late_ms(self, name: HostId) -> float:
        total, at = 0.0, name
        for _ in self.names:
            if at == self.names[0]:
                return total
            total += float(self.delay_ms[self.number[at], self.number[self.parents[at]]])
            at = self.parents[at]
        raise AssertionError(f"the parents of {name} lead round in a loop")

    def mean_ms(self) -> float:
        return float(np.mean([self.late_ms(name) for name in self.names[1:]]))

    def members(self) -> dict[HostId, TreeMember]:
        return {
            name: TreeMember(
                self.parents.get(name),
                NO_BOUND_MS,
                self.fan_out,
                self.fan_out - self.copies(name),
                self.late_ms(name),
            )
            for name in self.names
        }

    def run(self, seconds: float, start_s: float = 0.0) -> list[int]:
        """Lets the planner work, answers what it asks, does what it says at the next step.

        Returns:
            Moves that were advised, by step.
        """
        moved = []
        for step in range(round(seconds / STEP_S)):
            now = start_s + step * STEP_S
            for host, others in self.surveys.probes(now, self.names).items():
                assert len(others) <= PROBES_AT_ONCE
                told = {other: float(self.delay_ms[self.number[host], self.number[other]]) for other in others}
                self.surveys.report(host, told, now)
            advice = self.planner.advise(CHANNEL, self.members(), now)
            moved.append(len(advice))
            self.parents.update(advice)
            for name in self.names:
                self.late_ms(name)
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
    assert max(moved) <= max(MOVES_MIN, round(MOVES_SHARE * hosts))


def test_a_bad_tree_becomes_as_good_as_direct_connections_where_the_fan_out_allows_them() -> None:
    group = Group(12, 11, 5)
    for index in range(1, 12):  # a chain
        group.parents[group.names[index]] = group.names[index - 1]
    group.run(PLAN_S + 20)
    direct_ms = float(group.delay_ms[0, 1:].mean())
    assert group.mean_ms() <= 1.01 * direct_ms


@settings(max_examples=10, deadline=None)
@given(HOSTS, SEEDS)
def test_a_tree_that_was_planned_is_left_alone(hosts: int, seed: int) -> None:
    group = Group(hosts, 4, seed)
    group.run(PLAN_S + 20)
    assert sum(group.run(2 * PLAN_S, PLAN_S + 20)) == 0


def test_a_group_that_has_just_changed_is_not_planned_yet() -> None:
    group = Group(10, 4, 1)
    assert sum(group.run(SETTLE_S)) == 0


def test_hosts_that_do_not_follow_are_not_pressed_for_ever() -> None:
    group = Group(12, 11, 5)
    for index in range(1, 12):
        group.parents[group.names[index]] = group.names[index - 1]
    stubborn = {**group.parents}
    told: list[int] = []
    for step in range(round((PLAN_S + 20) / STEP_S)):
        told += group.run(STEP_S, step * STEP_S)
        group.parents = {**stubborn}
    assert 0 < sum(told) <= 2 * len(group.names), "each is asked once a plan"


def test_a_pair_that_nobody_can_measure_is_given_up_and_the_survey_goes_on() -> None:
    surveys, a, b = DelayTable(), HostId("a"), HostId("b")
    asked = 0
    for now in range(120):
        if surveys.delays_ms([pair(a, b)], float(now)) is not None:
            break
        asked += len(surveys.probes(float(now), [a, b]))
    assert asked == GIVE_UP_ASKS
    assert surveys.delays_ms([pair(a, b)], 200.0) is not None


def test_what_a_host_told_is_forgotten_with_it() -> None:
    surveys, a, b = DelayTable(), HostId("a"), HostId("b")
    surveys.report(a, {b: 12.0}, 0.0)
    assert surveys.one_way_ms(b, a) == 12.0
    surveys.forget(b)
    assert surveys.one_way_ms(a, b) is None


@given(st.floats(1, 200), st.floats(1, 200))
def test_a_shorter_delay_is_believed_at_once_and_a_longer_one_when_it_stays(before_ms: float, after_ms: float) -> None:
    surveys, a, b = DelayTable(), HostId("a"), HostId("b")
    surveys.report(a, {b: before_ms}, 0.0)
    surveys.report(b, {a: after_ms}, 1.0)
    told = surveys.one_way_ms(a, b)
    assert told is not None
    gained_ms = after_ms - before_ms
    assert told == pytest.approx(before_ms + (gained_ms if gained_ms < 0 else RISE_GAIN * gained_ms))
    for second in range(2, 60):
        surveys.report(a, {b: after_ms}, float(second))
    assert surveys.one_way_ms(b, a) == pytest.approx(after_ms, rel=0.01)
    surveys.report(a, {b: 2 * after_ms}, 60.0 + RECENT_S)
    assert surveys.one_way_ms(a, b) == 2 * after_ms
