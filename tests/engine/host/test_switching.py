"""Better parents: who moves when, and who does not."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT
from cubecast.engine.protocol import messages as m
from cubecast.engine.protocol.records import Advice, HostRecord, Tree
from cubecast.types import HostId, Label
from tests.engine.host.scripted import Peer, ScriptedHost
from tests.engine.host.scripted import record as record_of
from tests.engine.host.test_subscribe import NO_BOUND_MS, assert_trees_hold, ready
from tests.engine.in_memory import CHANNEL, Overlay

SETTLED_S = 40.0
JUMP_MS = 100.0
LEFT_S, STEP_S = 3.0, 0.5
RETURNED_S = 30.0
WORTH_MS = 40.0
"""Another path must be so much shorter than the slow link, or staying is right."""


def settled(hosts: int, seed: int) -> Overlay:
    overlay = ready(hosts, seed)
    for index in range(1, hosts):
        overlay.subscribe(index, NO_BOUND_MS)
    overlay.run(SETTLED_S)
    return overlay


def around_ms(overlay: Overlay, child: HostId, parent: HostId) -> float:
    """The least delay at which another host could feed one that leaves its parent."""
    reaches = {name: overlay.engines[name].metrics(CHANNEL) for name in overlay.names if name not in (child, parent)}
    return min(
        metrics.delay_ms + float(overlay.delay_ms[overlay.hosts[name].index, overlay.hosts[child].index])
        for name, metrics in reaches.items()
        if metrics is not None and child not in metrics.path
    )


@settings(max_examples=4, deadline=None)
@given(st.integers(8, 12), st.integers(0, 10_000), st.data())
def test_traffic_leaves_a_link_that_became_slow_and_comes_back_when_it_was_good_for_long(
    hosts: int, seed: int, data: st.DataObject
) -> None:
    overlay = settled(hosts, seed)
    child = overlay.names[data.draw(st.integers(1, hosts - 1))]
    parent = overlay.engines[child].upstream(CHANNEL)
    assert parent is not None
    a, b = overlay.hosts[child].index, overlay.hosts[parent].index
    good_ms = overlay.delay_ms[a, b]
    assume(around_ms(overlay, child, parent) + WORTH_MS <= good_ms + JUMP_MS)
    overlay.delay_ms[a, b] = overlay.delay_ms[b, a] = good_ms + JUMP_MS
    for _ in range(round(LEFT_S / STEP_S)):
        overlay.run(STEP_S)
        if overlay.engines[child].upstream(CHANNEL) != parent:
            break
    assert overlay.engines[child].upstream(CHANNEL) != parent
    overlay.delay_ms[a, b] = overlay.delay_ms[b, a] = good_ms
    overlay.run(
        DEFAULT.switching.settle_ticks * DEFAULT.tick_s - 2 * STEP_S
    )  # by itself it waits for DEFAULT.switching.return_ticks; advice may bring it back sooner
    assert overlay.engines[child].upstream(CHANNEL) != parent, "not at once"
    overlay.run(RETURNED_S)
    above, metrics = overlay.engines[parent].metrics(CHANNEL), overlay.engines[child].metrics(CHANNEL)
    assert above is not None
    assert metrics is not None
    assert child in above.path or metrics.delay_ms <= above.delay_ms + good_ms + WORTH_MS, (
        "when it has been good for long"
    )
    assert all(overlay.flows(host, CHANNEL) for host in overlay.names)
    assert_trees_hold(overlay, 8)


@settings(max_examples=3, deadline=None)
@given(st.integers(8, 14), st.integers(0, 10_000))
def test_small_variations_of_delays_cause_no_switch(hosts: int, seed: int) -> None:
    overlay = settled(hosts, seed)
    before = {host: overlay.hosts[host].changes for host in overlay.names}
    rng, steady = np.random.default_rng(seed), overlay.delay_ms.copy()
    for _ in range(60):
        wander = rng.uniform(0, 6, size=steady.shape)
        overlay.delay_ms = steady + (wander + wander.T) / 2
        overlay.run(0.5)
    assert {host: overlay.hosts[host].changes for host in overlay.names} == before


@settings(max_examples=4, deadline=None)
@given(st.integers(10, 16), st.integers(0, 10_000))
def test_the_planned_tree_has_less_delay_than_the_cubes(hosts: int, seed: int) -> None:
    def mean_ms(tree: Tree) -> float:
        overlay = ready(hosts, seed, fan_out=3, tree=tree)
        for index in range(1, hosts):
            overlay.subscribe(index, NO_BOUND_MS)
        overlay.run(SETTLED_S)
        assert_trees_hold(overlay, 3)
        reaches = [overlay.engines[host].metrics(CHANNEL) for host in overlay.names[1:]]
        return float(np.mean([metrics.delay_ms for metrics in reaches if metrics is not None]))

    assert mean_ms(Tree.HYBRID) <= mean_ms(Tree.CUBE) + 1.0


def test_a_host_that_is_late_itself_changes_nothing_for_a_gain() -> None:
    overlay = settled(10, 3)
    before = {host: overlay.hosts[host].changes for host in overlay.names}
    late_ms, on_time = 2 * DEFAULT.failure.busy_ms, overlay.handle

    def late(host: HostId, event: ev.Event) -> None:
        on_time(host, ev.Tick(late_ms) if isinstance(event, ev.Tick) else event)

    overlay.handle = late  # type: ignore[method-assign]
    overlay.run(LEFT_S)
    overlay.delay_ms = np.random.default_rng(5).permutation(overlay.delay_ms.ravel()).reshape(overlay.delay_ms.shape)
    overlay.delay_ms = np.triu(overlay.delay_ms) + np.triu(overlay.delay_ms).T
    overlay.run(RETURNED_S)
    assert {host: overlay.hosts[host].changes for host in overlay.names} == before
    late_ms = 0.0
    overlay.run(RETURNED_S)
    assert {host: overlay.hosts[host].changes for host in overlay.names} != before


def scripted() -> ScriptedHost:
    """A host that receives the channel from one of its two neighbours, both equally good."""
    host = ScriptedHost()
    host.subscribe()
    host.run(10)
    return host


@pytest.mark.parametrize(
    ("gain_ms", "hold_ticks"),
    [(60.0, DEFAULT.switching.hold_ticks_min), (1.3 * DEFAULT.switching.gain_ms, DEFAULT.switching.hold_ticks / 1.3)],
)
def test_a_better_parent_is_asked_after_its_gain_has_held_the_larger_the_sooner(
    gain_ms: float, hold_ticks: float
) -> None:
    host = scripted()
    better, begun = host.other(), host.ticks
    host.peers[better].delay_ms -= gain_ms
    host.run(DEFAULT.switching.hold_ticks + 2 * DEFAULT.switching.look_ticks)
    assert host.parent == better
    assert (
        hold_ticks - DEFAULT.switching.look_ticks
        <= host.asked(better)[0] - begun
        <= hold_ticks + 2 * DEFAULT.switching.look_ticks
    )


def test_a_gain_that_does_not_last_causes_no_switch() -> None:
    host = scripted()
    parent, better = host.parent, host.other()
    for _ in range(10):
        host.peers[better].delay_ms = 40.0
        host.run(DEFAULT.switching.hold_ticks_min - DEFAULT.switching.look_ticks)
        host.peers[better].delay_ms = 100.0
        host.run(DEFAULT.switching.look_ticks)
    assert host.parent == parent
    assert not host.asked(better)


def test_a_parent_that_was_left_must_be_better_for_longer() -> None:
    host = scripted()
    first, second = host.parent, host.other()
    assert first is not None
    host.peers[second].delay_ms = 60.0
    host.run(DEFAULT.switching.hold_ticks_min + 2 * DEFAULT.switching.look_ticks)
    assert host.parent == second
    host.run(DEFAULT.switching.settle_ticks)
    known, begun = len(host.asked(first)), host.ticks
    host.peers[first].delay_ms = 5.0
    host.run(DEFAULT.switching.return_ticks + 2 * DEFAULT.switching.look_ticks)
    assert host.parent == first
    assert host.asked(first)[known] - begun >= DEFAULT.switching.return_ticks - DEFAULT.switching.look_ticks


def test_a_parent_that_turns_out_to_be_worse_is_declined_unless_the_present_one_leaves() -> None:
    host = scripted()
    parent, other = host.parent, host.other()
    assert parent is not None
    host.peers[other].delay_ms, host.peers[other].confirms_ms = 40.0, 300.0
    host.run(DEFAULT.switching.hold_ticks_min + 2 * DEFAULT.switching.look_ticks)
    assert host.asked(other)
    assert host.parent == parent
    assert any(to == other and isinstance(message, m.Release) for _, to, message in host.sent), "it was given back"
    host.handle(ev.Received(parent, m.Leaving()))
    host.run(2 * DEFAULT.switching.look_ticks)
    assert host.parent == other


def test_advice_that_cannot_be_followed_is_given_up_and_the_host_compares_for_itself_again() -> None:
    host = scripted()
    better = host.other()
    unknown = HostRecord(HostId("x"), "x:1", "", "", Label(0))
    host.handle(ev.Advised(Advice(CHANNEL, unknown)))
    host.peers[better].delay_ms = 40.0
    host.run(DEFAULT.switching.advice_ticks)
    assert not host.asked(better), "the directory's plan goes first"
    host.run(DEFAULT.switching.hold_ticks_min + 2 * DEFAULT.switching.look_ticks)
    assert host.parent == better


def test_advice_is_followed_although_the_parent_advised_is_no_better_for_this_host() -> None:
    host = scripted()
    advised = host.other()
    host.peers[advised].delay_ms = 160.0
    host.handle(ev.Advised(Advice(CHANNEL, record_of(advised))))
    host.run(5)
    assert host.parent == advised
    host.run(DEFAULT.switching.advice_ticks)
    assert host.parent == advised, "it rests, so that the directory can complete its plan"


def test_a_better_parent_that_is_full_is_not_asked() -> None:
    host = scripted()
    better = host.other()
    host.peers[better].delay_ms, host.peers[better].spare = 20.0, 0
    host.run(3 * DEFAULT.switching.hold_ticks)
    assert not host.asked(better)


def test_a_better_parent_with_one_spare_copy_is_asked() -> None:
    host = scripted()
    better = host.other()
    host.peers[better].delay_ms, host.peers[better].spare = 20.0, 1
    host.run(3 * DEFAULT.switching.hold_ticks)
    assert host.parent == better


def test_while_the_bound_is_broken_a_small_gain_is_enough_and_none_is_not() -> None:
    host = ScriptedHost()
    host.search(bound_ms=200.0)
    host.run(10)
    parent, other = host.parent, host.other()
    assert parent is not None
    host.peers[parent].delay_ms = host.peers[other].delay_ms = 300.0
    host.run(3 * DEFAULT.switching.hold_ticks)
    assert host.parent == parent
    host.peers[other].delay_ms -= 2.1 * DEFAULT.switching.broken_gain_ms
    host.run(DEFAULT.switching.hold_ticks + 2 * DEFAULT.switching.look_ticks)
    assert host.parent == other
    host.peers[parent].delay_ms = 100.0
    begun = host.ticks
    host.run(DEFAULT.switching.return_ticks + 2 * DEFAULT.switching.look_ticks)
    assert host.parent == parent, "a greater gain counts as well"
    assert host.asked(parent)[-1] - begun >= DEFAULT.switching.return_ticks - DEFAULT.switching.look_ticks


def advised_to(host: ScriptedHost, advised: HostId) -> None:
    """The directory advises a host that the scripted one has a link to, not measured yet."""
    host.peers[advised] = Peer()
    host.handle(ev.LinkUp(advised))
    there = HostRecord(advised, f"{advised}:1", "", "", Label(0))
    host.receive(advised, m.Hello(there))
    host.handle(ev.Advised(Advice(CHANNEL, there)))


def test_advice_is_followed_once_the_link_is_measured_well_enough() -> None:
    host, advised = scripted(), HostId("x")
    advised_to(host, advised)
    host.run(DEFAULT.switching.advice_samples - 1)
    assert not host.asked(advised)
    host.run(2)
    assert host.asked(advised)
    assert host.parent == advised


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_each_parent_that_was_left_must_be_better_for_longer_not_only_the_last_one(names: str) -> None:
    host, (first, second), third = ScriptedHost(), map(HostId, names), HostId("x")
    config = DEFAULT.switching
    advised_to(host, third)
    host.peers[first].delay_ms, host.peers[second].delay_ms, host.peers[third].delay_ms = 300.0, 400.0, 500.0
    host.run(DEFAULT.links.slow_heartbeat_ticks)
    host.subscribe()
    assert host.parent == first
    for better, delay_ms in ((second, 200.0), (third, 100.0)):
        host.peers[better].delay_ms = delay_ms
        host.run(config.hold_ticks_min + config.settle_ticks + 3 * config.look_ticks)
        assert host.parent == better
    known, begun = len(host.asked(first)), host.ticks
    host.peers[first].delay_ms = 5.0
    host.run(config.return_ticks + 2 * config.look_ticks)
    assert host.parent == first
    assert host.asked(first)[known] - begun >= config.return_ticks - config.look_ticks
