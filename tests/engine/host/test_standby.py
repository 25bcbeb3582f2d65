"""Properties of standbys: they do not depend on the parent, reserve no copy, and take over when the parent dies."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT
from cubecast.engine.protocol import messages as m
from cubecast.engine.protocol.path import Contract
from cubecast.simulation.shells.host import SimulatedHost
from cubecast.types import ChannelName, HostId
from tests.engine.host.scripted import PUBLISHER, ScriptedHost
from tests.engine.host.test_subscribe import NO_BOUND_MS, ready
from tests.engine.in_memory import CHANNEL, Overlay

TAKEN_OVER_S = 1.2
"""Detection, asking over a round trip of 200 ms at most, and the bridge."""
ANNOUNCED_S = 3.0
"""A slow heartbeat, in which a host announces its path, and the next look at the standby."""


def settled(hosts: int, seed: int, fan_out: int) -> Overlay:
    overlay = ready(hosts, seed, fan_out=fan_out)
    for index in range(1, hosts):
        overlay.subscribe(index, NO_BOUND_MS)
    overlay.run(40.0)
    return overlay


def standbys(overlay: Overlay) -> dict[HostId, tuple[HostId, HostId]]:
    """Hosts with an open standby: their parent, and the standby."""
    return {
        host: (branch.upstream, branch.standby.host)
        for host, engine in overlay.engines.items()
        for branch in engine.branches()
        if branch.upstream is not None and branch.standby.host is not None and branch.standby.ready
    }


def through_the_parent(overlay: Overlay) -> set[tuple[HostId, HostId, HostId]]:
    """Hosts whose standby gets the channel through their parent: the host, the parent and the standby."""
    paths = {host: engine.metrics(CHANNEL) for host, engine in overlay.engines.items()}
    return {
        (host, parent, standby)
        for host, (parent, standby) in standbys(overlay).items()
        if (metrics := paths[standby]) is not None and parent in metrics.path
    }


@settings(max_examples=7, deadline=None)
@given(st.integers(8, 16), st.integers(0, 10_000), st.integers(2, 4))
@example(15, 17, 2)  # a standby that has just moved below the parent, and has not announced it yet
def test_a_standby_gets_the_channel_by_another_way(hosts: int, seed: int, fan_out: int) -> None:
    overlay = settled(hosts, seed, fan_out)
    below = through_the_parent(overlay)
    overlay.run(ANNOUNCED_S)
    assert not below & through_the_parent(overlay), "it is replaced once it has announced its new path"
    found = standbys(overlay)
    deep = [h for h, e in overlay.engines.items() for r in [e.metrics(CHANNEL)] if r is not None and r.depth > 1]
    assert len(found) >= len(deep) / 2, "most of those that can have one do"
    for host, (_, standby) in found.items():
        metrics = overlay.engines[standby].metrics(CHANNEL)
        assert metrics is not None
        assert host not in metrics.path
        assert host in next(b.standby.children for b in overlay.engines[standby].branches())
        assert (CHANNEL, standby) in overlay.hosts[host].prepared


@settings(max_examples=7, deadline=None)
@given(st.integers(8, 16), st.integers(0, 10_000), st.data())
def test_the_orphans_of_a_dead_relay_move_to_their_standbys_at_once(hosts: int, seed: int, data: st.DataObject) -> None:
    overlay = settled(hosts, seed, 3)
    found = standbys(overlay)
    relays = sorted({parent for parent, _ in found.values()})
    assert relays, "the publisher feeds three of them only, so the others have relays above them"
    dead = data.draw(st.sampled_from(relays))
    orphans = {host: standby for host, (parent, standby) in found.items() if parent == dead}
    moved: dict[HostId, HostId] = {}

    def watch(here: SimulatedHost, _: ev.Event, effects: list[fx.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, fx.ParentChanged) and effect.before == dead:
                moved.setdefault(here.host, effect.after)

    overlay.trace = watch
    overlay.crash(dead)
    overlay.run(TAKEN_OVER_S)
    assert any(moved.get(host) == standby for host, standby in orphans.items()), "none moved to its standby"
    overlay.run(5.0)
    assert not overlay.ended()
    assert all(overlay.flows(host, CHANNEL) for host in overlay.names if host != dead)


@settings(max_examples=3, deadline=None)
@given(st.integers(6, 10), st.integers(0, 10_000), st.integers(2, 4))
def test_a_host_is_standby_for_no_more_hosts_than_it_has_copies_left_over_all_channels(
    hosts: int, seed: int, fan_out: int
) -> None:
    overlay = settled(hosts, seed, fan_out)
    others = [ChannelName(f"other{number}") for number in range(3)]
    for number, channel in enumerate(others):
        overlay.publish(number, channel)
        overlay.run(1.0)
        for index in range(hosts):
            if index != number:
                overlay.subscribe(index, NO_BOUND_MS, channel)
    overlay.run(20.0)
    for engine in overlay.engines.values():
        copies = sum(len(branch.below.children) for branch in engine.branches())
        needed = sum(
            len(branch.standby.children)
            - len(
                {standby_child.parent for standby_child in branch.standby.children.values()}
                & branch.below.children.keys()
            )
            for branch in engine.branches()
        )
        assert copies + needed <= fan_out


def test_a_standby_is_released_when_no_branch_needs_it() -> None:
    overlay = settled(12, 7, 3)
    host, (_, standby) = next(iter(standbys(overlay).items()))
    overlay.crash(host)
    overlay.run(60 * DEFAULT.tick_s)
    assert host not in next(b.standby.children for b in overlay.engines[standby].branches())


def ask_to_stand_by(host: ScriptedHost, requester: HostId, parent: str = "another") -> bool:
    """Whether a host agrees to be the standby of a peer that has some parent."""
    host.receive(requester, m.StandbyRequest(CHANNEL, (requester,), HostId(parent)))
    return host.sent_to(requester, m.StandbyStatus)[-1].ready


def test_a_host_stands_by_for_as_many_hosts_as_it_has_spare_copies() -> None:
    host = ScriptedHost(fan_out=1)
    host.subscribe()
    host.peers[host.other()].spare = 0  # so that nobody changes parents
    assert ask_to_stand_by(host, host.other())
    assert ask_to_stand_by(host, host.other()), "it asks again and again"
    stranger = HostId("x")
    host.handle(ev.LinkUp(stranger))
    assert not ask_to_stand_by(host, stranger)


def test_a_host_that_does_not_carry_the_channel_stands_by_for_nobody() -> None:
    host = ScriptedHost()
    assert not ask_to_stand_by(host, HostId("a"))


def test_a_host_that_declines_to_stand_by_is_not_asked_again_for_a_while() -> None:
    host = ScriptedHost()
    host.subscribe()
    assert host.parent is not None
    other = host.other()
    host.run(DEFAULT.standby.look_ticks)
    asked = len(host.sent_to(other, m.StandbyRequest))
    assert asked > 0
    host.receive(other, m.StandbyStatus(CHANNEL, ready=False))
    host.run(DEFAULT.standby.shun_ticks - DEFAULT.standby.look_ticks)
    assert len(host.sent_to(other, m.StandbyRequest)) == asked
    host.run(2 * DEFAULT.standby.look_ticks)
    assert len(host.sent_to(other, m.StandbyRequest)) > asked


def test_a_host_whose_parent_is_the_publisher_needs_no_standby() -> None:
    host, publisher, relay = ScriptedHost(), HostId("a"), HostId("b")
    host.peers[publisher].above, host.peers[publisher].delay_ms = (), 0.0
    host.peers[relay].above = (publisher,)
    host.subscribe(publisher)
    assert host.parent == publisher
    host.run(3 * DEFAULT.links.heartbeat_ticks)
    assert not [peer for peer in host.peers if host.sent_to(peer, m.StandbyRequest)]


def test_a_standby_that_gets_the_channel_through_the_parent_is_replaced() -> None:
    host = ScriptedHost()
    host.subscribe()
    parent, other = host.parent, host.other()
    assert parent is not None
    host.run(DEFAULT.standby.look_ticks)
    host.receive(other, m.StandbyStatus(CHANNEL, ready=True))
    host.handle(ev.Prepared(CHANNEL, other))
    host.peers[other].above = (PUBLISHER, parent)
    host.run(2 * DEFAULT.standby.look_ticks)
    assert host.sent_to(other, m.Release)
    assert fx.StopPull(CHANNEL, other) in host.done(fx.StopPull)


def test_a_host_that_no_longer_asks_for_a_standby_loses_it() -> None:
    host = ScriptedHost()
    host.subscribe()
    requester = host.other()
    assert ask_to_stand_by(host, requester)
    host.run(DEFAULT.tree.child_ticks - 1)
    assert host.engine.may_pull(CHANNEL, requester)
    host.run(1)
    assert not host.engine.may_pull(CHANNEL, requester)
    assert host.done(fx.Evict) == [fx.Evict(CHANNEL, requester)]
    assert host.sent_to(requester, m.StandbyStatus)[-1] == m.StandbyStatus(CHANNEL, ready=False)


@pytest.mark.parametrize("after_look", range(DEFAULT.standby.look_ticks))
def test_a_host_that_declines_to_stand_by_is_left_alone_for_the_whole_time_whenever_it_declines(
    after_look: int,
) -> None:
    host = ScriptedHost()
    host.subscribe()
    other = host.other()
    while not host.sent_to(other, m.StandbyRequest):
        host.run(1)
    host.run(after_look)
    host.receive(other, m.StandbyStatus(CHANNEL, ready=False))
    asked, declined_at = len(host.sent_to(other, m.StandbyRequest)), host.ticks
    while len(host.sent_to(other, m.StandbyRequest)) == asked:
        host.run(1)
    waited = host.ticks - declined_at
    assert DEFAULT.standby.shun_ticks <= waited <= DEFAULT.standby.shun_ticks + DEFAULT.standby.look_ticks


def test_a_full_host_stands_by_for_one_child_of_its_child_and_for_nobody_else() -> None:
    host, grandchild, another, stranger = ScriptedHost(fan_out=1), HostId("x"), HostId("y"), HostId("z")
    host.subscribe()
    child = host.other()
    host.receive(child, m.Attach(1, CHANNEL, Contract(NO_BOUND_MS), (child,)))
    for requester in (grandchild, another, stranger):
        host.handle(ev.LinkUp(requester))
    assert not ask_to_stand_by(host, stranger, "elsewhere")
    assert ask_to_stand_by(host, grandchild, child)
    assert not ask_to_stand_by(host, another, child), "its slot is promised already"
    may_pull = [requester for requester in (grandchild, another, stranger) if host.engine.may_pull(CHANNEL, requester)]
    assert may_pull == [grandchild], "who was refused may not open a session either"


def test_a_standby_is_asked_once_to_look_for_itself_when_the_parent_falls_silent() -> None:
    host = ScriptedHost()
    host.subscribe()
    parent, standby = host.parent, host.other()
    assert parent is not None
    host.run(DEFAULT.standby.look_ticks)
    host.receive(standby, m.StandbyStatus(CHANNEL, ready=True))
    host.handle(ev.Prepared(CHANNEL, standby))
    host.run(3 * DEFAULT.links.heartbeat_ticks)
    assert not any(request.silent for request in host.sent_to(standby, m.StandbyRequest))
    host.peers[parent].alive = False
    while host.parent == parent:
        host.run(1)
    assert [request.silent for request in host.sent_to(standby, m.StandbyRequest)].count(True) == 1
