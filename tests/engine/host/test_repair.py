"""Properties of repair: a host that loses its parent finds another one, no stream ends, and no loop ever forms.

The overlay checks its invariants (cubecast.simulation.invariants) after every event of every test here.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT
from cubecast.engine.host.engine import HostEngine
from cubecast.engine.protocol import messages as m
from cubecast.overlay.cube import cube
from cubecast.types import HostId
from tests.engine.host.scripted import PUBLISHER, ScriptedHost
from tests.engine.host.test_subscribe import NO_BOUND_MS, assert_trees_hold, ready
from tests.engine.in_memory import CHANNEL, Overlay

REPAIRED_S = 1.0
LEASED_OUT_S = 8.0


def streaming(hosts: int, seed: int, fan_out: int = 8) -> Overlay:
    overlay = ready(hosts, seed, fan_out=fan_out)
    for index in range(1, hosts):
        overlay.subscribe(index, NO_BOUND_MS)
    overlay.run(3)  # relatives are known, links to them are up
    return overlay


def receiving(overlay: Overlay) -> list[HostId]:
    """Living hosts with a local subscription."""
    return [h for h in overlay.living() for b in overlay.engines[h].branches() if b.contract is not None]


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 20), st.integers(0, 10_000), st.data())
def test_a_crash_is_repaired_within_a_second_and_nobodys_stream_ends(
    hosts: int, seed: int, data: st.DataObject
) -> None:
    overlay = streaming(hosts, seed)
    victim = overlay.names[data.draw(st.integers(1, hosts - 1))]
    served = set(receiving(overlay)) - {victim}
    overlay.crash(victim)
    overlay.run(REPAIRED_S)
    assert set(receiving(overlay)) == served
    assert all(overlay.flows(host, CHANNEL) for host in served)
    overlay.run(LEASED_OUT_S)
    assert not overlay.ended()
    assert_trees_hold(overlay, 8)


@pytest.mark.parametrize("ticks", range(0, 24, 2))
def test_a_subscriber_that_joins_while_hosts_look_for_parents_is_not_refused(ticks: int) -> None:
    overlay = ready(4, 7, fan_out=1)  # so the tree is a chain
    for index in (1, 2):
        overlay.run(3)  # links to relatives are up
        assert isinstance(overlay.subscribe(index, NO_BOUND_MS), fx.Admitted)
    overlay.run(3)
    overlay.crash(next(host for host in overlay.names[1:3] if overlay.engines[host].branches()[0].below.children))
    overlay.run(ticks * DEFAULT.tick_s)
    assert isinstance(overlay.subscribe(3, NO_BOUND_MS), fx.Admitted)


@settings(max_examples=20, deadline=None)
@given(st.integers(8, 20), st.integers(0, 10_000), st.integers(2, 4))
def test_crashes_in_a_row_with_little_fan_out_end_no_stream_that_could_go_on(
    hosts: int, seed: int, fan_out: int
) -> None:
    overlay = streaming(hosts, seed, fan_out)
    rng = np.random.default_rng(seed)
    for victim in rng.permutation(overlay.names[1:])[:3]:
        overlay.crash(HostId(str(victim)))
        overlay.run(float(rng.uniform(0, 1.0)))
    overlay.run(LEASED_OUT_S)
    assert not overlay.ended()
    assert all(overlay.flows(host, CHANNEL) for host in receiving(overlay))
    assert_trees_hold(overlay, fan_out)


@settings(max_examples=15, deadline=None)
@given(st.integers(8, 16), st.integers(0, 10_000), st.sampled_from([0.02, 0.1, 0.3]))
def test_repair_works_while_messages_get_lost(hosts: int, seed: int, loss: float) -> None:
    overlay = streaming(hosts, seed)
    overlay.loss = loss
    overlay.crash(overlay.names[1 + seed % (hosts - 1)])
    overlay.run(LEASED_OUT_S)
    overlay.loss = 0.0
    overlay.run(LEASED_OUT_S)
    assert all(overlay.flows(host, CHANNEL) for host in receiving(overlay))
    assert_trees_hold(overlay, 8)


def test_when_the_publisher_crashes_every_subscriber_learns_which_host_was_lost() -> None:
    overlay = streaming(10, 4)
    overlay.crash(overlay.names[0])
    overlay.run((DEFAULT.tree.repair_ticks + DEFAULT.failure.silent_ticks + 20) * DEFAULT.tick_s)
    ended = overlay.ended()
    assert set(ended) == set(overlay.names[1:])
    assert not any(e.finished for e in ended.values())
    assert overlay.names[0] in {e.host for e in ended.values()}
    assert all(e.host and e.reason for e in ended.values())
    assert not any(overlay.engines[host].branches() for host in overlay.names[1:])


@settings(max_examples=15, deadline=None)
@given(st.integers(6, 16), st.integers(0, 10_000), st.data())
def test_a_host_that_is_stalled_for_three_seconds_ends_no_stream(hosts: int, seed: int, data: st.DataObject) -> None:
    overlay = streaming(hosts, seed)
    sleeper = overlay.names[data.draw(st.integers(0, hosts - 1))]
    overlay.stall(sleeper)
    overlay.run(3.0)
    overlay.resume(sleeper)
    overlay.run(LEASED_OUT_S)
    assert not overlay.ended()
    assert all(overlay.flows(host, CHANNEL) for host in overlay.names)
    assert_trees_hold(overlay, 8)


@settings(max_examples=15, deadline=None)
@given(st.integers(6, 16), st.integers(0, 10_000), st.sampled_from([3, 8]), st.floats(2.0, 6.0))
def test_hosts_that_are_cut_off_for_some_seconds_keep_their_streams(
    hosts: int, seed: int, fan_out: int, seconds: float
) -> None:
    overlay = streaming(hosts, seed, fan_out)
    others = np.random.default_rng(seed).permutation(overlay.names[1:])
    overlay.island = {HostId(str(host)) for host in others[: max(1, hosts // 4)]}
    overlay.run(seconds)
    overlay.island = set()
    overlay.run(LEASED_OUT_S)
    assert not overlay.ended()
    assert all(overlay.flows(host, CHANNEL) for host in overlay.names)
    assert_trees_hold(overlay, fan_out)


def test_repair_needs_no_super_node() -> None:
    overlay = streaming(12, 5)
    overlay.supernode.stop()
    overlay.run(30)
    relay = next(h for h in overlay.names[1:] if overlay.engines[h].branches()[0].below.children)
    overlay.crash(relay)
    overlay.run(30)
    assert not overlay.ended()
    assert all(overlay.flows(host, CHANNEL) for host in overlay.living())


def test_a_media_session_that_breaks_is_opened_again() -> None:
    overlay = streaming(8, 3)
    host = next(h for h in overlay.names if overlay.engines[h].upstream(CHANNEL) == overlay.names[0])
    overlay.handle(host, ev.PullFailed(CHANNEL, HostId("another"), "closed"))
    overlay.run(0.5)
    assert overlay.engines[host].upstream(CHANNEL) == overlay.names[0], "an older session of another says nothing"
    del overlay.hosts[host].sessions[CHANNEL][overlay.names[0]]
    overlay.handle(host, ev.PullFailed(CHANNEL, overlay.names[0], "closed"))
    overlay.run(2)
    assert overlay.flows(host, CHANNEL)
    assert not overlay.ended()


def test_media_that_the_parent_has_and_that_does_not_arrive_is_requested_again() -> None:
    overlay = streaming(6, 3)
    host = next(h for h in overlay.names if overlay.engines[h].upstream(CHANNEL) == overlay.names[0])
    overlay.hosts[host].sessions[CHANNEL][overlay.names[0]] = False  # it is open, and nothing arrives over it
    assert not overlay.flows(host, CHANNEL)
    overlay.run(5)
    assert overlay.flows(host, CHANNEL)
    assert not overlay.ended()


def test_a_link_to_the_parent_that_breaks_is_dialled_again_and_costs_nothing() -> None:
    overlay = streaming(10, 4)
    neighbours = {h: overlay.engines[h].view().neighbours for h in overlay.names}
    child = next(h for h in overlay.names[1:] if overlay.engines[h].upstream(CHANNEL) not in neighbours[h])
    parent = overlay.engines[child].upstream(CHANNEL)
    assert parent is not None
    before = overlay.hosts[child].changes
    overlay.network.hang_up(overlay.hosts[parent], child)
    overlay.run(5)
    assert (overlay.engines[child].upstream(CHANNEL), overlay.hosts[child].changes) == (parent, before)
    assert parent in overlay.hosts[child].dialled


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_everyone_may_look_for_another_parent_at_once(seed: int) -> None:
    overlay = streaming(16, seed, fan_out=3)
    for host in overlay.names[1:]:
        for branch in overlay.engines[host].branches():
            for effect in overlay.engines[host]._upstream.lose(branch, "a test says so"):
                overlay.shell.perform(overlay.hosts[host], effect)
    served = receiving(overlay)
    overlay.run(LEASED_OUT_S)
    assert not overlay.ended()
    assert set(receiving(overlay)) == set(served)
    assert all(overlay.flows(host, CHANNEL) for host in served)


def test_a_parent_that_has_no_parent_itself_is_left_although_it_still_forwards_sequence_numbers() -> None:
    host = ScriptedHost()
    host.subscribe()
    parent, other = host.parent, host.other()
    assert parent is not None
    host.run(2 * DEFAULT.tree.stale_ticks)
    assert host.parent == parent
    host.peers[parent].fed = False
    host.run(DEFAULT.tree.stale_ticks - 2)
    assert host.parent == parent, "it may find another one itself"
    host.run(4)
    assert host.parent == other
    assert [(change.before, change.reason) for change in host.parent_changes] == [
        (parent, "it has lost its own parent")
    ]


@pytest.mark.parametrize("parent", ["a", "b"])
def test_only_the_parent_can_say_that_the_stream_is_lost_or_over(parent: str) -> None:
    for finished in (False, True):
        host = ScriptedHost()
        host.peers[HostId(parent)].delay_ms = 50.0
        host.subscribe()
        assert host.parent == parent
        ended = m.Ended(CHANNEL, finished, PUBLISHER, "it has gone")
        host.receive(host.other(), ended)
        assert host.parent == parent
        assert not host.done(fx.StreamEnded)
        host.receive(HostId(parent), ended)
        assert bool(host.done(fx.StreamEnded)) == finished
        host.run(2 * DEFAULT.search.shun_ticks)
        changes = [(change.before, change.reason) for change in host.parent_changes]
        assert changes == [(parent, "it has gone")] * (not finished), "the parent is lost, wherever its stream was"


def test_a_stream_that_is_given_up_names_the_host_where_it_was_lost() -> None:
    host = ScriptedHost()
    host.subscribe()
    assert host.parent is not None
    host.receive(host.parent, m.Ended(CHANNEL, False, PUBLISHER, "it has gone"))
    for peer in host.peers.values():
        peer.alive = False
    host.run(2 * DEFAULT.tree.repair_ticks)
    assert [(ended.host, ended.reason) for ended in host.done(fx.StreamEnded)] == [(PUBLISHER, "it has gone")]


def test_a_parent_that_leaves_the_overlay_is_replaced_with_the_next_tick() -> None:
    host = ScriptedHost()
    host.subscribe()
    parent, other = host.parent, host.other()
    assert parent is not None
    host.peers[parent].alive = False
    host.receive(parent, m.Goodbye())
    host.run(1)
    assert [(change.before, change.after, change.reason) for change in host.parent_changes] == [
        (parent, other, "it left the overlay")
    ]


def test_a_parent_that_sends_no_newer_sequence_number_for_long_is_left_although_it_says_it_has_a_parent() -> None:
    host = ScriptedHost()
    host.subscribe()
    parent, other = host.parent, host.other()
    assert parent is not None
    host.peers[parent].seqno = host.ticks
    host.run(DEFAULT.tree.stale_fed_ticks - 2)
    assert host.parent == parent
    host.run(4)
    assert [(change.before, change.after, change.reason) for change in host.parent_changes] == [
        (parent, other, "it has lost its own parent")
    ]


def test_a_parent_that_loses_its_own_has_its_time_to_find_another_from_then_on() -> None:
    host = ScriptedHost()
    host.subscribe()
    parent, other = host.parent, host.other()
    assert parent is not None
    host.peers[parent].seqno = host.ticks
    host.run(DEFAULT.tree.stale_fed_ticks - 5)
    host.peers[parent].fed = False
    host.run(DEFAULT.tree.stale_ticks - 2)
    assert host.parent == parent
    host.run(4)
    assert host.parent == other


@pytest.mark.parametrize("link_ms", [20.0, 150.0, 400.0])
def test_a_new_parent_far_away_is_not_taken_for_dead_before_it_can_have_answered(
    link_ms: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, reasons = HostEngine.handle, list[str]()

    def noted(engine: HostEngine, event: ev.Event, now: float) -> list[fx.Effect]:
        effects = handle(engine, event, now)
        reasons.extend(effect.reason for effect in effects if isinstance(effect, fx.ParentChanged))
        return effects

    monkeypatch.setattr(HostEngine, "handle", noted)
    delay_ms = np.full((4, 4), link_ms)
    np.fill_diagonal(delay_ms, 0)
    overlay = Overlay(delay_ms, cube(2, 2), fan_out=2)
    overlay.run(5)
    overlay.publish(0)
    overlay.run(1)
    for index in (1, 2, 3):
        assert isinstance(overlay.subscribe(index, 5000.0), fx.Admitted)
    overlay.run(10)
    assert set(reasons) <= {"a better parent was found"}
