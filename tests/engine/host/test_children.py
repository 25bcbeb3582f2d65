"""What a host does for its children, tick by tick."""

from itertools import pairwise

import pytest

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT
from cubecast.engine.protocol import messages as m
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import Tree
from cubecast.types import ChannelName, HostId, Label
from tests.engine.host.scripted import CHANNEL, ME, PUBLISHER, ScriptedHost, feeding

NO_BOUND = Contract(10_000.0)


def test_the_directory_is_sent_reports_of_the_local_subscriber_now_and_then_and_of_nobody_else() -> None:
    host, _ = feeding()
    before, periods = len(host.done(fx.Report)), 4
    for _ in range(periods * DEFAULT.tree.report_ticks):
        host.receive(host.other(), m.SubtreeContract(CHANNEL, NO_BOUND))
        host.run(1)
    assert len(host.done(fx.Report)) - before == periods
    host.handle(ev.UnsubscribeRequested(CHANNEL))
    left = len(host.done(fx.Report))
    for _ in range(periods * DEFAULT.tree.report_ticks):
        host.receive(host.other(), m.SubtreeContract(CHANNEL, NO_BOUND))
        host.run(1)
    assert host.parent is not None, "its child needs the channel still"
    assert len(host.done(fx.Report)) == left


def test_a_child_that_sends_no_contract_loses_its_copy() -> None:
    host, child = feeding()
    host.run(DEFAULT.tree.child_ticks - 1)
    assert not host.done(fx.Evict)
    host.run(1)
    assert host.done(fx.Evict) == [fx.Evict(CHANNEL, child)]
    assert not host.engine.may_pull(CHANNEL, child)


def test_a_child_that_sends_its_contract_keeps_its_copy() -> None:
    host, child = feeding()
    for _ in range(3):
        host.run(DEFAULT.tree.child_ticks - 1)
        host.receive(child, m.SubtreeContract(CHANNEL, NO_BOUND))
    assert not host.done(fx.Evict)
    assert host.engine.may_pull(CHANNEL, child)


def test_the_end_of_one_channel_delays_no_other() -> None:
    host, own, child = ScriptedHost(), ChannelName("own"), HostId("x")
    host.subscribe()
    host.handle(ev.PublishRequested(own, Tree.HYBRID))
    host.handle(ev.LinkUp(child))
    host.receive(child, m.Attach(1, own, NO_BOUND, (child,)))
    for peer in host.peers.values():
        peer.alive = False
    while host.engine.metrics(CHANNEL) is not None:
        host.receive(child, m.SubtreeContract(own, NO_BOUND))
        host.run(1)
    from_now = host.ticks + 4 * DEFAULT.tree.update_ticks  # the rate is measured
    for tick in range(8 * DEFAULT.tree.update_ticks):
        host.handle(ev.MediaSampled(own, ME, 1000 * tick))
        host.receive(child, m.SubtreeContract(own, NO_BOUND))
        host.run(1)
    updates = ((tick, message) for tick, _, message in host.sent if isinstance(message, m.PathUpdate))
    updated = [tick for tick, message in updates if message.channel == own and tick > from_now]
    assert {later - earlier for earlier, later in pairwise(updated)} == {DEFAULT.tree.update_ticks}


def test_a_host_that_leaves_feeds_its_children_for_a_while_and_accepts_no_more() -> None:
    host, child = feeding()
    late = HostId("x")
    host.handle(ev.LinkUp(late))
    host.handle(ev.LeaveRequested())
    assert host.sent_to(child, m.Leaving)
    host.receive(late, m.Attach(1, CHANNEL, NO_BOUND, (late,)))
    assert not host.sent_to(late, m.Confirm)
    assert host.sent_to(late, m.PathRefusal)
    host.run(DEFAULT.links.heartbeat_ticks)
    assert [each.spare for each in host.sent_to(child, m.Heartbeat)[-1].carried] == [0]
    host.run(DEFAULT.tree.leave_ticks - DEFAULT.links.heartbeat_ticks - 1)
    assert not host.done(fx.Leave)
    host.run(1)
    assert host.done(fx.Leave)


def test_a_host_that_leaves_goes_once_its_children_have_other_parents() -> None:
    host, child = feeding()
    host.handle(ev.LeaveRequested())
    host.run(2)
    assert not host.done(fx.Leave)
    host.receive(child, m.Release(CHANNEL))
    host.run(1)
    assert host.done(fx.Leave)


def test_a_channel_that_has_ended_is_kept_until_the_last_frames_have_arrived() -> None:
    host, own = ScriptedHost(), ChannelName("own")
    host.subscribe()
    assert not host.engine.is_ending(CHANNEL)
    host.handle(ev.PublishRequested(own, Tree.HYBRID))
    assert not host.engine.is_ending(own)
    host.handle(ev.PublishFinished(own))
    host.handle(ev.PublishFinished(CHANNEL))  # another host publishes it
    assert (host.engine.is_ending(own), host.engine.is_ending(CHANNEL)) == (True, False)
    host.run(DEFAULT.tree.drain_ticks - 1)
    assert host.engine.is_ending(own)
    host.run(1)
    assert not host.engine.publishes(own)
    assert host.parent is not None


def test_a_channel_that_a_host_does_not_carry_is_free_to_publish_whether_it_did_before_or_not() -> None:
    host, own = ScriptedHost(), ChannelName("own")
    assert not host.engine.is_ending(own)
    host.handle(ev.PublishRequested(own, Tree.HYBRID))
    host.handle(ev.PublishFinished(own))
    assert host.engine.is_ending(own)
    host.run(DEFAULT.tree.drain_ticks)
    assert not host.engine.is_ending(own)


def test_an_orphan_that_asks_before_its_parent_is_silent_here_gets_its_slot_all_the_same() -> None:
    host, orphan = ScriptedHost(fan_out=1), HostId("y")
    host.subscribe()
    parent = host.other()
    host.receive(parent, m.Attach(1, CHANNEL, NO_BOUND, (parent,)))
    host.handle(ev.LinkUp(orphan))
    host.receive(orphan, m.StandbyRequest(CHANNEL, (orphan,), parent))
    host.peers[parent].alive = False
    host.receive(orphan, m.Attach(1, CHANNEL, NO_BOUND, (orphan,)))
    host.run(DEFAULT.tree.dead_ticks + 1)
    assert not host.sent_to(orphan, m.PathRefusal), "path updates have come from above meanwhile"
    assert host.sent_to(orphan, m.Confirm)
    assert host.done(fx.Evict) == [fx.Evict(CHANNEL, parent)]


def test_each_neighbour_is_told_of_every_channel_in_turn_however_many_there_are() -> None:
    host = ScriptedHost()
    names = {ChannelName(f"c{number}") for number in range(2 * m.CARRIED_MAX)}
    for name in names:
        host.handle(ev.PublishRequested(name, Tree.HYBRID))
    host.sent.clear()
    host.run(3 * DEFAULT.links.heartbeat_ticks)
    for peer in host.peers:
        heartbeats = host.sent_to(peer, m.Heartbeat)
        assert all(len(each.carried) == m.CARRIED_MAX for each in heartbeats), "a full one: there may be others"
        assert {each.channel for heartbeat in heartbeats for each in heartbeat.carried} == names


def test_children_that_attach_do_not_delay_the_reports_to_the_directory() -> None:
    host, child = feeding()
    before, periods = len(host.done(fx.Report)), 4
    for tick in range(periods * DEFAULT.tree.report_ticks):
        if tick % (DEFAULT.tree.report_ticks - 10) == 0:
            host.receive(child, m.Attach(2 + tick, CHANNEL, NO_BOUND, (child,)))
        host.receive(child, m.SubtreeContract(CHANNEL, NO_BOUND))
        host.run(1)
    assert len(host.done(fx.Report)) - before == periods


def test_a_new_child_is_sent_its_relatives_at_once_and_then_once_a_period() -> None:
    host, child = feeding()
    attached_at = host.ticks
    for _ in range(3 * DEFAULT.tree.relatives_ticks):
        host.receive(child, m.SubtreeContract(CHANNEL, NO_BOUND))
        host.run(1)
    ticks = [tick - attached_at for tick, to, each in host.sent if to == child and isinstance(each, m.Relatives)]
    assert ticks[0] == 1
    assert {later - earlier for earlier, later in pairwise(ticks[1:])} == {DEFAULT.tree.relatives_ticks}
    assert len(ticks) <= 4


def test_a_parent_is_sent_the_subtree_contract_with_each_heartbeat() -> None:
    host = ScriptedHost()
    host.subscribe()
    parent, periods = host.parent, 6
    assert parent is not None
    host.run(DEFAULT.links.heartbeat_ticks)
    before = len(host.sent_to(parent, m.SubtreeContract))
    host.run(periods * DEFAULT.links.heartbeat_ticks)
    assert len(host.sent_to(parent, m.SubtreeContract)) - before == periods
    host.peers[parent].alive = False
    host.peers[host.other()].alive = False
    host.run(DEFAULT.tree.repair_ticks // 2)
    assert {to for _, to, message in host.sent if isinstance(message, m.SubtreeContract)} == {parent}


def test_the_parent_of_an_idle_channel_may_be_silent_between_two_heartbeats() -> None:
    host = ScriptedHost()
    host.subscribe()
    parent = host.parent
    assert parent is not None
    host.peers[parent].media = False
    host.run(DEFAULT.tree.idle_ticks + 5)
    assert host.parent == parent, "an idle channel is no reason to leave"
    host.peers[parent].alive = False
    host.run(DEFAULT.tree.idle_silent_ticks - 2)
    host.peers[parent].alive = True
    host.run(5)
    assert host.parent == parent
    assert not host.parent_changes


def test_a_child_that_leaves_the_overlay_loses_its_copy_and_no_other_host_does() -> None:
    host, child = feeding()
    other = HostId("x")
    host.handle(ev.LinkUp(other))
    host.receive(other, m.Goodbye())
    assert not host.done(fx.Evict)
    assert fx.Evict(CHANNEL, child) in host.receive(child, m.Goodbye())
    assert not host.engine.may_pull(CHANNEL, child)


def path_update(host: ScriptedHost, peer: HostId) -> m.PathUpdate:
    """What a peer sends a host that it considers its child."""
    return m.PathUpdate(CHANNEL, host.metrics_at(peer, 100.0), 0, Label(0), flowing=True, fed=True)


def test_a_host_that_feeds_this_one_although_it_is_no_parent_is_told_to_stop() -> None:
    host = ScriptedHost()
    for peer in host.peers:
        assert host.receive(peer, path_update(host, peer)) == [fx.Send(peer, m.Release(CHANNEL))]
    host.subscribe()
    other = host.other()
    assert host.receive(other, path_update(host, other)) == [fx.Send(other, m.Release(CHANNEL))]


def test_a_host_without_a_parent_turns_away_none_that_feeds_it() -> None:
    host = ScriptedHost()
    host.subscribe()
    parent, other = host.parent, host.other()
    assert parent is not None
    host.receive(parent, m.Ended(CHANNEL, False, PUBLISHER, "it has gone"))
    assert host.parent is None
    assert host.receive(other, path_update(host, other)) == []


def test_a_childs_need_of_a_newer_sequence_number_is_passed_on_to_the_parent_and_without_one_to_nobody() -> None:
    host, child = feeding()
    parent = host.parent
    assert parent is not None
    host.peers[parent].seqno = host.ticks
    host.run(DEFAULT.tree.seqno_request_ticks)
    passed_on = [fx.Send(parent, m.SeqnoRequest(CHANNEL))]
    assert host.receive(child, m.SeqnoRequest(CHANNEL)) == passed_on
    host.run(DEFAULT.tree.seqno_request_ticks - 1)
    assert host.receive(child, m.SeqnoRequest(CHANNEL)) == [], "another one is under way"
    host.run(1)
    assert host.receive(child, m.SeqnoRequest(CHANNEL)) == passed_on
    host.run(DEFAULT.tree.seqno_request_ticks)
    host.receive(parent, m.Ended(CHANNEL, False, PUBLISHER, "it has gone"))
    assert host.receive(child, m.SeqnoRequest(CHANNEL)) == []


@pytest.mark.parametrize(("tighter_ms", "early"), [(1.2, True), (0.8, False)])
def test_a_bound_that_becomes_tighter_below_is_sent_to_the_parent_before_the_next_heartbeat_unless_it_is_noise(
    tighter_ms: float, early: bool
) -> None:
    host, child = feeding()
    parent = host.parent
    assert parent is not None
    sent = len(host.sent_to(parent, m.SubtreeContract))
    while len(host.sent_to(parent, m.SubtreeContract)) == sent:
        host.run(1)
    (*_, before) = host.sent_to(parent, m.SubtreeContract)
    tighter = Contract(NO_BOUND.bound_ms - tighter_ms * DEFAULT.links.announce_ms)
    host.receive(child, m.SubtreeContract(CHANNEL, tighter))
    host.run(DEFAULT.tree.contract_ticks)
    sent_since = host.sent_to(parent, m.SubtreeContract)[sent + 1 :]
    lower_ms = [before.contract.bound_ms - each.contract.bound_ms for each in sent_since]
    assert lower_ms == pytest.approx([tighter_ms * DEFAULT.links.announce_ms] * early, abs=0.01)


def test_an_orphan_that_finds_spare_fan_out_takes_it_and_not_its_parents() -> None:
    host, orphan = ScriptedHost(fan_out=2), HostId("y")
    host.subscribe()
    parent = host.other()
    host.receive(parent, m.Attach(1, CHANNEL, NO_BOUND, (parent,)))
    host.handle(ev.LinkUp(orphan))
    host.peers[parent].alive = False
    host.receive(orphan, m.StandbyRequest(CHANNEL, (orphan,), parent, silent=True))
    host.run(DEFAULT.tree.dead_ticks + 1)
    host.receive(orphan, m.Attach(1, CHANNEL, NO_BOUND, (orphan,)))
    assert host.sent_to(orphan, m.Confirm)
    assert not host.done(fx.Evict), "it may be only slow"
    assert host.engine.may_pull(CHANNEL, parent)


def test_a_channel_beyond_those_of_one_heartbeat_is_announced_as_soon_as_any_other() -> None:
    host = ScriptedHost()
    for number in range(m.CARRIED_MAX):
        host.handle(ev.PublishRequested(ChannelName(f"c{number}"), Tree.HYBRID))
    beats = [len(host.sent_to(peer, m.Heartbeat)) for peer in host.peers]
    while any(len(host.sent_to(peer, m.Heartbeat)) == n for peer, n in zip(host.peers, beats, strict=True)):
        host.run(1)
    host.run(DEFAULT.links.announce_ticks)
    beats = [len(host.sent_to(peer, m.Heartbeat)) for peer in host.peers]
    host.handle(ev.PublishRequested(ChannelName("last"), Tree.HYBRID))
    host.run(1)
    assert [len(host.sent_to(peer, m.Heartbeat)) for peer in host.peers] == [n + 1 for n in beats]
