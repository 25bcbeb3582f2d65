"""Failures during searches and repairs: every host gets an answer, and no reservation is held for ever."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT
from cubecast.engine.host.link_estimate import CLOCK_UNKNOWN_MS
from cubecast.engine.protocol import messages as m
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.overlay.cube import Cube
from cubecast.overlay.region import live_region
from cubecast.types import ChannelName, HostId, Label
from tests.engine.host.scripted import ScriptedHost
from tests.engine.host.test_subscribe import NO_BOUND_MS, WARM_S, assert_trees_hold, ready
from tests.engine.in_memory import CHANNEL, Overlay, random_delays

QUIET_S = (DEFAULT.search.offer_ticks + DEFAULT.search.search_ticks) * DEFAULT.tick_s + 2


def assert_nothing_is_held(overlay: Overlay) -> None:
    """No search and no reservation is older than it may be at any living host."""
    for host, engine in overlay.engines.items():
        if host not in overlay.dead:
            searches = engine._searches.steps.searches.values()
            assert all(search.age_ticks < DEFAULT.search.offer_ticks for search in searches), host
            assert all(search in searches for search in engine._searches.steps.asked.values()), host


@settings(max_examples=20)
@given(st.integers(6, 18), st.integers(0, 10_000), st.sampled_from([0.02, 0.1, 0.4]))
def test_lost_messages_delay_a_decision_but_never_prevent_it(hosts: int, seed: int, loss: float) -> None:
    overlay = ready(hosts, seed)
    overlay.loss = loss
    for index in range(1, hosts):
        overlay.handle(overlay.names[index], ev.SubscribeRequested(CHANNEL, Contract(NO_BOUND_MS)))
        overlay.run(0.05)
    overlay.run(QUIET_S)
    overlay.loss = 0.0
    overlay.run(QUIET_S)
    decided = (fx.Admitted, fx.Refused)
    for host in overlay.names[1:]:
        assert any(isinstance(outcome, decided) for outcome in overlay.hosts[host].outcomes), f"{host} was forgotten"
    assert_nothing_is_held(overlay)


@settings(max_examples=20)
@given(st.integers(8, 18), st.integers(0, 10_000), st.data())
def test_crashes_while_everyone_subscribes_leave_whole_trees(hosts: int, seed: int, data: st.DataObject) -> None:
    overlay = ready(hosts, seed)
    victims = data.draw(st.sets(st.integers(1, hosts - 1), min_size=1, max_size=3))
    rng = np.random.default_rng(seed)
    for index in range(1, hosts):
        overlay.handle(
            overlay.names[index], ev.SubscribeRequested(CHANNEL, Contract(float(rng.choice([40, 120, NO_BOUND_MS]))))
        )
        overlay.run(float(rng.uniform(0, 0.1)))
        if index in victims:
            overlay.crash(overlay.names[int(rng.choice(sorted(victims)))])
    overlay.run(QUIET_S)
    for index, host in enumerate(overlay.names[1:], start=1):
        assert overlay.hosts[host].outcomes or host in overlay.dead, f"host {index} was forgotten"
    assert_nothing_is_held(overlay)
    assert_trees_hold(overlay, 8)


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_hosts_that_join_and_leave_leave_no_state_behind(seed: int) -> None:
    overlay = ready(12, seed)
    rng = np.random.default_rng(seed)
    for _ in range(60):
        host = overlay.names[int(rng.integers(1, 12))]
        wants = rng.random() < 0.5
        overlay.handle(
            host, ev.SubscribeRequested(CHANNEL, Contract(500.0)) if wants else ev.UnsubscribeRequested(CHANNEL)
        )
        overlay.run(float(rng.uniform(0, 0.4)))
    for host in overlay.names[1:]:
        overlay.handle(host, ev.UnsubscribeRequested(CHANNEL))
    overlay.run(QUIET_S)
    assert_nothing_is_held(overlay)
    assert [h for h, e in overlay.engines.items() if e.view().branches] == [overlay.names[0]]
    assert not any(overlay.sessions(host) for host in overlay.names)


def test_without_the_super_node_a_new_subscriber_gets_an_answer_and_old_ones_go_on() -> None:
    overlay = ready(8, 1)
    assert isinstance(overlay.subscribe(1, NO_BOUND_MS), fx.Admitted)
    overlay.supernode.stop()
    refused = overlay.subscribe(2, NO_BOUND_MS)
    assert isinstance(refused, fx.Refused)
    assert "super-node did not answer" in refused.reason
    host = overlay.names[3]
    overlay.handle(host, ev.SubscribeRequested(CHANNEL, Contract(NO_BOUND_MS)))
    overlay.handle(host, ev.ResolveFailed(CHANNEL, "away"))
    assert overlay.hosts[host].outcomes == [fx.Refused(CHANNEL, Contract(NO_BOUND_MS), None, "away")]
    assert not any(isinstance(o, fx.StreamEnded) for o in overlay.hosts[overlay.names[1]].outcomes)


def test_a_finished_channel_takes_no_new_subscriber_and_is_forgotten_in_the_end() -> None:
    overlay = ready(8, 3)
    overlay.subscribe(1, NO_BOUND_MS)
    record = overlay.directory.channels[CHANNEL]
    overlay.handle(overlay.names[0], ev.PublishFinished(CHANNEL))
    late = overlay.names[2]
    overlay.handle(late, ev.SubscribeRequested(CHANNEL, Contract(NO_BOUND_MS)))
    overlay.handle(late, ev.ChannelResolved(record))
    overlay.run(QUIET_S)
    assert isinstance(overlay.hosts[late].outcomes[-1], fx.Refused | fx.NotFound)
    overlay.run(DEFAULT.tree.drain_ticks * DEFAULT.tick_s)
    assert not overlay.hosts[overlay.names[0]].engine.view().branches


def test_answers_that_were_not_requested_are_cancelled_or_ignored() -> None:
    overlay = ready(4, 1, cube=Cube(2, 2))
    host = overlay.names[0]
    engine = overlay.hosts[host].engine
    peer = engine.view().neighbours[0]
    offer = m.PathOffer(77, CHANNEL, PathMetrics(1.0, 1.0, (HostId("z"),)), 3)
    confirm = m.Confirm(77, CHANNEL, PathMetrics(1.0, 1.0, (HostId("z"),)))

    def answers(message: m.Message) -> list[fx.Effect]:
        return engine.handle(ev.Received(peer, message), overlay.now)

    assert answers(offer) == [fx.Send(peer, m.Cancel(77))]
    assert answers(confirm) == [fx.Send(peer, m.Release(CHANNEL))]
    assert answers(m.PathRefusal(77, CHANNEL, "no", 0)) == []
    assert answers(m.Cancel(77)) == []
    assert answers(m.Release(CHANNEL)) == []
    assert answers(m.Ended(CHANNEL, True, peer, "")) == []
    (refusal,) = answers(m.Commit(77))
    assert isinstance(refusal, fx.Send)
    assert isinstance(refusal.message, m.PathRefusal)


def test_a_request_that_came_round_or_came_twice_is_refused() -> None:
    overlay = ready(8, 1)
    host = overlay.names[3]
    engine = overlay.hosts[host].engine
    peer = engine.view().neighbours[0]
    target = overlay.directory.members[overlay.names[0]].record.seat

    def ask(number: int, trail: tuple[HostId, ...]) -> list[fx.Effect]:
        request = m.PathRequest(number, CHANNEL, 0, target, Contract(100.0), 5, trail)
        return engine.handle(ev.Received(peer, request), overlay.now)

    (circle,) = ask(1, (peer, host))
    assert isinstance(circle, fx.Send)
    assert isinstance(circle.message, m.PathRefusal)
    assert "came back" in circle.message.reason
    ask(2, (peer,))
    (twice,) = ask(2, (peer,))
    assert isinstance(twice, fx.Send)
    assert isinstance(twice.message, m.PathRefusal)


def test_requests_beyond_the_limit_are_refused_until_one_is_over() -> None:
    host = ScriptedHost()
    host.subscribe()
    requester, other = HostId("a"), HostId("b")
    missing = ChannelName("missing")

    def ask(number: int) -> list[fx.Effect]:
        """A request that is forwarded to the other neighbour, which does not answer."""
        request = m.PathRequest(number, missing, 0, Label(0), Contract(1000.0), 5, (requester,))
        return host.handle(ev.Received(requester, request))

    def refused(effects: list[fx.Effect]) -> bool:
        (effect,) = effects
        assert isinstance(effect, fx.Send)
        message = effect.message
        return effect.host == requester and isinstance(message, m.PathRefusal) and "too many" in message.reason

    for number in range(DEFAULT.search.searches_max):
        (onward,) = ask(number)
        assert isinstance(onward, fx.Send)
        assert onward.host == other, f"request {number} is passed on"
    assert refused(ask(DEFAULT.search.searches_max))
    attach = m.Attach(DEFAULT.search.searches_max + 1, CHANNEL, Contract(1000.0), (requester,))
    assert refused(host.handle(ev.Received(requester, attach)))
    host.handle(ev.Received(requester, m.Cancel(0)))
    assert not refused(ask(DEFAULT.search.searches_max + 2))
    assert refused(ask(DEFAULT.search.searches_max + 3))


def test_an_asker_that_disappears_frees_its_place() -> None:
    overlay = ready(8, 1, fan_out=1)
    publisher = overlay.hosts[overlay.names[0]].engine
    peer = publisher.view().neighbours[0]
    seat = overlay.directory.members[overlay.names[0]].record.seat
    request = m.PathRequest(5, CHANNEL, 0, seat, Contract(100.0), 5, (peer,))
    (offer,) = publisher.handle(ev.Received(peer, request), overlay.now)
    assert isinstance(offer, fx.Send)
    assert isinstance(offer.message, m.PathOffer)
    other = publisher.view().neighbours[1]
    again = m.PathRequest(6, CHANNEL, 0, seat, Contract(100.0), 5, (other,))
    (full,) = publisher.handle(ev.Received(other, again), overlay.now)
    assert isinstance(full, fx.Send)
    assert isinstance(full.message, m.PathRefusal)
    assert "full" in full.message.reason
    publisher.handle(ev.LinkDown(peer, "gone"), overlay.now)
    (place,) = publisher.handle(ev.Received(other, again), overlay.now)
    assert isinstance(place, fx.Send)
    assert isinstance(place.message, m.PathOffer)


def test_clocks_of_hosts_are_known_along_the_path() -> None:
    overlay = Overlay(random_delays(8, 2), live_region(8))
    overlay.run(WARM_S + 20 * DEFAULT.tick_s)
    overlay.publish(0)
    admitted = overlay.subscribe(5, NO_BOUND_MS)
    assert isinstance(admitted, fx.Admitted)
    assert admitted.metrics.clock_uncertainty_ms < CLOCK_UNKNOWN_MS
    assert abs(admitted.metrics.clock_offset_ms) <= admitted.metrics.clock_uncertainty_ms, (
        "all hosts here share one clock"
    )


def test_publishing_twice_or_before_joining_does_nothing() -> None:
    overlay = ready(4, 1, cube=Cube(2, 2))
    host = overlay.names[0]
    assert overlay.hosts[host].engine.handle(ev.PublishRequested(CHANNEL), overlay.now) == []
    assert overlay.hosts[host].engine.handle(ev.PublishFinished(ChannelName("other")), overlay.now) == [
        fx.Withdraw(ChannelName("other"))
    ]


def test_a_host_that_leaves_notifies_parents_and_neighbours() -> None:
    overlay = ready(8, 3)
    host = overlay.names[3]
    overlay.subscribe(3, NO_BOUND_MS)
    engine = overlay.hosts[host].engine
    branch = engine.view().branches[0]
    effects = engine.handle(ev.LeaveRequested(), overlay.now)
    goodbyes = {e.host for e in effects if isinstance(e, fx.Send) and e.message == m.Goodbye()}
    assert goodbyes >= set(engine.view().neighbours)
    assert branch.upstream is not None
    assert fx.Send(branch.upstream, m.Release(CHANNEL)) in effects
    assert effects[-1] == fx.Leave()


@settings(max_examples=15, deadline=None)
@given(st.integers(6, 16), st.integers(0, 10_000), st.data())
def test_a_host_that_feeds_others_leaves_when_they_have_other_parents(
    hosts: int, seed: int, data: st.DataObject
) -> None:
    overlay = ready(hosts, seed)
    for index in range(1, hosts):
        overlay.subscribe(index, NO_BOUND_MS)
    overlay.run(3)
    leaver = overlay.names[data.draw(st.integers(1, hosts - 1))]
    overlay.leave(leaver)
    for _ in range(round((DEFAULT.tree.leave_ticks + 2) * DEFAULT.tick_s / 0.05)):
        overlay.run(0.05)
        assert all(overlay.flows(host, CHANNEL) for host in overlay.living()), "not even for a moment"
    assert leaver in overlay.dead
    assert not overlay.ended()
