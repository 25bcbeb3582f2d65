"""Searches of one host, step by step: what it asks, what ends them, and what it answers to others."""

from itertools import count

import pytest
from msgspec import structs

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT
from cubecast.engine.protocol import messages as m
from cubecast.engine.protocol.feasibility import FeasibilityDistance
from cubecast.engine.protocol.path import RELAY_MS, Contract, PathMetrics
from cubecast.engine.protocol.ranges import NUMBER_MAX
from cubecast.engine.protocol.records import ChannelRecord, HostRecord, Tree, Verdict
from cubecast.types import ChannelName, HostId, Label
from tests.engine.host.scripted import CHANNEL, ME, PUBLISHER, RTT_S, ScriptedHost

A, B = HostId("a"), HostId("b")
NO_BOUND = Contract(10_000.0)
ASK = 7


def attach(host: HostId, feasibility: FeasibilityDistance = FeasibilityDistance()) -> m.Attach:  # noqa: B008
    return m.Attach(ASK, CHANNEL, NO_BOUND, (host,), feasibility)


def path_request(host: HostId) -> m.PathRequest:
    return m.PathRequest(ASK, CHANNEL, 0, Label(0), NO_BOUND, 5, (host,))


def refuse(host: ScriptedHost, reason: str) -> None:
    """Every request over the cube that a peer was sent last, and has not answered, is refused."""
    for peer in host.peers:
        for request in host.sent_to(peer, m.PathRequest)[-1:]:
            host.receive(peer, m.PathRefusal(request.ask, CHANNEL, reason, request.tries))


def test_a_request_that_repeats_a_number_is_refused_and_the_first_goes_on() -> None:
    host = ScriptedHost()
    host.subscribe()
    host.receive(host.other(), attach(host.other(), FeasibilityDistance(host.ticks + 2, 0)))  # waits for this number
    assert host.receive(host.other(), attach(host.other())) == [
        fx.Send(host.other(), m.PathRefusal(ASK, CHANNEL, "too many requests at once", 0))
    ]
    host.run(4)
    assert [confirm.ask for confirm in host.sent_to(host.other(), m.Confirm)] == [ASK]


def test_a_waiting_host_is_accepted_with_the_very_update_that_brings_its_number() -> None:
    host = ScriptedHost()
    host.subscribe()
    parent, child, number = host.parent, host.other(), 2**40
    assert parent is not None
    host.receive(child, attach(child, FeasibilityDistance(number, 0)))
    own, never = ChannelName("own"), FeasibilityDistance(number - 1, 0, int(1000 * host.now))
    host.handle(ev.PublishRequested(own, Tree.HYBRID))
    host.receive(child, m.Attach(ASK + 1, own, NO_BOUND, (child,), never))  # another channel's number is not its own
    assert not host.sent_to(child, m.Confirm)
    metrics = structs.replace(host.metrics_at(parent, 100.0), seqno=number + 1)
    host.receive(parent, m.PathUpdate(CHANNEL, metrics, 0, Label(0), flowing=False, fed=True))
    assert [confirm.ask for confirm in host.sent_to(child, m.Confirm)] == [ASK]


def test_one_failed_dial_of_a_proposed_parent_does_not_end_the_wait_for_it() -> None:
    host, proposed = ScriptedHost(), HostRecord(HostId("x"), "x:1", "", "", Label(0))
    host.handle(ev.SubscribeRequested(CHANNEL, NO_BOUND))
    host.handle(ev.ChannelResolved(ChannelRecord(CHANNEL, PUBLISHER, Label(0), 0, Tree.HYBRID), (proposed,)))
    host.handle(ev.LinkDown(proposed.host, "it was just closing"))
    host.run(DEFAULT.links.redial_ticks[0])
    assert len(host.done(fx.Dial)) == 2
    assert not any(host.asked(peer) for peer in host.peers), "those that are known already"
    host.handle(ev.LinkUp(proposed.host))
    carried = m.Carried(CHANNEL, PathMetrics(5.0, 0.0, (PUBLISHER, proposed.host)), spare=8)
    host.receive(proposed.host, m.Heartbeat((carried,)))
    for _ in range(DEFAULT.search.probe_samples):
        host.handle(ev.LinkSampled(proposed.host, 10.0, 0, 0))
    host.run(1)
    assert host.asked(proposed.host)


@pytest.mark.parametrize("answers", [True, False])
def test_a_host_far_away_is_given_the_time_of_the_round_trip_to_answer(answers: bool) -> None:
    host, far, rtt_ticks = ScriptedHost(), HostRecord(HostId("x"), "x:1", "", "", Label(0)), 10
    there = PathMetrics(5.0, 0.0, (PUBLISHER, far.host))

    def run(ticks: int) -> None:
        for _ in range(ticks):
            host.handle(ev.LinkSampled(far.host, 1000 * rtt_ticks * DEFAULT.tick_s, 0, 0))
            host.receive(far.host, m.Heartbeat((m.Carried(CHANNEL, there, spare=8),)))
            host.run(1)

    for peer in host.peers.values():
        peer.delay_ms = 5000.0
    host.handle(ev.LinkUp(far.host))
    host.receive(far.host, m.Hello(far))
    run(DEFAULT.links.samples_ready)
    host.search()
    run(1)
    (request,) = host.sent_to(far.host, m.Attach)
    run(rtt_ticks)
    assert not any(host.asked(peer) for peer in host.peers), "its answer may be on the way"
    if answers:
        host.receive(far.host, m.Confirm(request.ask, CHANNEL, there))
        assert host.parent == far.host
    else:
        run(DEFAULT.search.answer_ticks)
        assert host.parent in host.peers


def test_no_host_on_the_path_from_the_publisher_becomes_a_child() -> None:
    host = ScriptedHost()
    host.subscribe()
    parent, above = host.parent, host.other()
    assert parent is not None
    host.peers[parent].above = (PUBLISHER, above)
    host.run(2)
    for ancestor in (parent, above):
        host.receive(ancestor, attach(ancestor))
        assert not host.sent_to(ancestor, m.Confirm)
        assert host.sent_to(ancestor, m.PathRefusal)[-1].reason == f"{ME} is a descendant of {ancestor}"


def test_a_better_label_is_not_asked_for_where_it_is_not_the_bound_that_is_broken() -> None:
    host = ScriptedHost()
    for peer in host.peers.values():
        peer.offers = True
    host.search(tree=Tree.CUBE)
    (admitted,) = host.done(fx.Admitted)
    host.handle(ev.UnsubscribeRequested(CHANNEL))
    host.search(admitted.metrics.least_bound_ms, Tree.CUBE, rate_bps=2 * NUMBER_MAX)
    assert host.done(fx.Refused)
    assert not host.done(fx.Relocate)


def test_a_search_asks_for_better_labels_a_few_times_and_is_then_refused() -> None:
    host = ScriptedHost()
    for peer in host.peers.values():
        peer.offers = True
    host.search(bound_ms=50.0, tree=Tree.CUBE)
    for _ in range(2 * DEFAULT.search.relocations_max):
        if host.done(fx.Refused):
            break
        host.handle(ev.Relocated(CHANNEL, Verdict.MOVED))
        host.run(DEFAULT.search.settle_ticks)
        host.resolve(Tree.CUBE)
    assert len(host.done(fx.Relocate)) == DEFAULT.search.relocations_max
    (refused,) = host.done(fx.Refused)
    assert refused.best is not None
    assert refused.best.least_bound_ms > 50.0


@pytest.mark.parametrize("reason", ["the cube changes its shape", "b may be a descendant of a"])
@pytest.mark.parametrize("before_deadline", [3, 10, 40])
def test_a_refusal_that_may_not_hold_long_is_followed_by_another_search_also_near_the_deadline(
    before_deadline: int, reason: str
) -> None:
    host = ScriptedHost()
    host.search(tree=Tree.CUBE)
    host.run(DEFAULT.search.search_ticks - before_deadline)
    for _ in host.peers:
        refuse(host, reason)
    host.run(2 * DEFAULT.search.resolve_ticks)
    assert not host.done(fx.Refused)
    assert len(host.done(fx.Resolve)) == 2
    for peer in host.peers.values():
        peer.offers = True
    host.resolve(Tree.CUBE)
    host.run(1)
    assert host.done(fx.Admitted)


def test_a_search_that_begins_while_the_cube_changes_its_shape_is_repeated() -> None:
    host = ScriptedHost()
    for peer in host.peers.values():
        peer.offers = True
    host.handle(ev.SubscribeRequested(CHANNEL, NO_BOUND))
    later = ChannelRecord(CHANNEL, PUBLISHER, Label(0), 1, Tree.CUBE)  # this host has the placement of epoch 0 still
    host.handle(ev.ChannelResolved(later))
    host.run(2 * DEFAULT.search.resolve_ticks)
    assert not host.done(fx.Refused)
    host.resolve(Tree.CUBE)
    host.run(1)
    assert host.done(fx.Admitted)


def test_a_host_that_refuses_again_and_again_for_a_moment_ends_the_search_at_last() -> None:
    host = ScriptedHost()
    host.search(tree=Tree.CUBE)
    for attempt in count():
        for _ in host.peers:
            refuse(host, "the cube changes its shape")
        host.run(DEFAULT.search.resolve_ticks)
        if host.done(fx.Refused):
            break
        host.resolve(Tree.CUBE)
        assert attempt <= DEFAULT.search.resolves_max
    assert len(host.done(fx.Resolve)) == 1 + DEFAULT.search.resolves_max


def test_a_link_that_breaks_before_the_offer_is_confirmed_is_no_end_while_another_host_can_serve() -> None:
    host = ScriptedHost()
    host.search(tree=Tree.CUBE)
    (asked,) = (peer for peer in host.peers if host.sent_to(peer, m.PathRequest))
    (request,) = host.sent_to(asked, m.PathRequest)
    host.receive(asked, m.PathOffer(request.ask, CHANNEL, host.metrics_at(asked, 100.0), request.tries))
    assert host.sent_to(asked, m.Commit) == [m.Commit(request.ask)]
    host.handle(ev.LinkDown(asked, "closed"))
    assert not host.done(fx.Refused)
    for peer in host.peers.values():
        peer.offers = True
    host.run(DEFAULT.search.resolve_ticks)
    assert len(host.done(fx.Resolve)) == 2
    host.resolve(Tree.CUBE)
    assert host.done(fx.Admitted)


def test_a_search_whose_offer_has_expired_asks_again_at_once() -> None:
    host = ScriptedHost()
    host.search(tree=Tree.CUBE)
    (asked,) = (peer for peer in host.peers if host.sent_to(peer, m.PathRequest))
    (request,) = host.sent_to(asked, m.PathRequest)
    host.receive(asked, m.PathOffer(request.ask, CHANNEL, host.metrics_at(asked, 100.0), request.tries))
    for peer in host.peers.values():
        peer.offers = True
    host.receive(asked, m.PathRefusal(request.ask, CHANNEL, "the offer has expired", 0))
    assert host.done(fx.Admitted)


def test_a_relay_that_subscribes_itself_asks_on_for_itself_from_then_on() -> None:
    host = ScriptedHost()
    host.peers[A].offers = True
    host.receive(B, path_request(B))
    host.receive(B, m.Commit(ASK))
    assert host.parent == A
    assert [request.trail for request in host.sent_to(A, m.PathRequest)] == [(B, ME)]
    host.search()
    assert host.done(fx.Admitted)
    host.handle(ev.PullFailed(CHANNEL, A, "closed"))
    host.run(2 * DEFAULT.search.shun_ticks)
    asked = [message for _, _, message in host.sent if isinstance(message, m.PathRequest)][-1]
    assert asked.trail == (ME,)


def test_who_subscribes_again_while_the_old_stream_drains_is_admitted_to_the_new_one() -> None:
    host = ScriptedHost()
    host.subscribe()
    parent = host.parent
    assert parent is not None
    host.receive(parent, m.Ended(CHANNEL, True, PUBLISHER, "finished"))
    host.run(2)
    admitted, resolved = len(host.done(fx.Admitted)), len(host.done(fx.Resolve))
    host.search()
    host.run(DEFAULT.tree.drain_ticks // 2)
    assert len(host.done(fx.Admitted)) == admitted, "that stream is over"
    host.run(DEFAULT.tree.drain_ticks // 2)
    assert len(host.done(fx.Resolve)) == resolved + 2, "asked again once the old stream is gone"
    host.resolve()
    host.run(5)
    assert len(host.done(fx.Admitted)) == admitted + 1
    assert host.parent is not None


def test_a_relay_that_carries_the_channel_by_a_late_path_asks_a_better_parent_and_keeps_its_child() -> None:
    host = ScriptedHost()
    host.peers[A].offers, host.peers[A].delay_ms, host.peers[B].delay_ms = True, 100.0, 150.0
    host.receive(B, path_request(B))
    host.receive(B, m.Commit(ASK))
    assert host.parent == A
    host.handle(ev.LinkUp(HostId("x")))
    carried = m.Carried(CHANNEL, PathMetrics(5.0, 0.0, (PUBLISHER, HostId("x")), seqno=2**40), spare=8)
    x = HostRecord(HostId("x"), "x:1", "", "", Label(0))
    host.receive(x.host, m.Hello(x))
    host.receive(x.host, m.Heartbeat((carried,)))
    host.search(bound_ms=60.0)
    for _ in range(DEFAULT.search.probe_ticks):
        host.handle(ev.LinkSampled(x.host, 10.0, 0, 0))
        host.run(1)
        for attach_sent in host.sent_to(x.host, m.Attach)[-1:]:
            host.receive(x.host, m.Confirm(attach_sent.ask, CHANNEL, carried.metrics))
    assert [admitted.metrics.path for admitted in host.done(fx.Admitted)] == [(PUBLISHER, x.host, ME)]
    assert host.parent == x.host
    assert host.engine.may_pull(CHANNEL, B)
    assert not host.done(fx.Evict)


@pytest.mark.parametrize("answers", [True, False])
def test_a_host_that_a_search_waits_for_in_silence_is_pinged_and_passed_over_only_if_it_does_not_answer(
    answers: bool,
) -> None:
    host = ScriptedHost()
    host.run(DEFAULT.links.hello_heartbeats * DEFAULT.links.new_heartbeat_ticks)  # new links are pinged anyway
    host.search(tree=Tree.CUBE)
    (asked,) = (peer for peer in host.peers if host.sent_to(peer, m.PathRequest))
    (other,) = (peer for peer in host.peers if peer != asked)
    host.peers[asked].alive = False
    pings = len(host.sent_to(asked, m.Ping))
    host.run(DEFAULT.search.doubt_ticks - 2)  # its last message came a tick before
    assert len(host.sent_to(asked, m.Ping)) == pings
    for _ in range(DEFAULT.search.silent_ticks + 2):
        host.run(1)
        for ping in host.sent_to(asked, m.Ping)[pings:] if answers else ():
            host.receive(asked, m.Pong(ping.sent_s, ping.sent_s))
    assert len(host.sent_to(asked, m.Ping)) > pings
    assert bool(host.sent_to(other, m.PathRequest)) == (not answers)


@pytest.mark.parametrize(
    ("introduced", "publisher", "reason"),
    [
        (False, PUBLISHER, "x has not sent its record yet"),
        (True, HostId("q"), "x carries another publisher's stream of that name"),
    ],
)
def test_a_refusal_says_why_the_only_host_that_confirmed_could_not_be_the_parent(
    introduced: bool, publisher: HostId, reason: str
) -> None:
    host, x = ScriptedHost(), HostRecord(HostId("x"), "x:1", "", "", Label(0))
    for peer in host.peers.values():
        peer.above = (HostId("q"),)  # another stream of that name
    host.handle(ev.LinkUp(x.host))
    if introduced:
        host.receive(x.host, m.Hello(x))
    host.receive(x.host, m.Heartbeat((m.Carried(CHANNEL, PathMetrics(5.0, 0.0, (PUBLISHER, x.host)), spare=8),)))
    for _ in range(DEFAULT.links.samples_ready):
        host.handle(ev.LinkSampled(x.host, 10.0, 0, 0))
    host.run(1)
    host.search()
    host.run(1)
    for attach_sent in host.sent_to(x.host, m.Attach):
        host.receive(x.host, m.Confirm(attach_sent.ask, CHANNEL, PathMetrics(5.0, 0.0, (publisher, x.host))))
    assert host.parent is None
    assert host.sent_to(x.host, m.Release), "it is given its copy back"
    host.handle(ev.LinkDown(x.host, "closed"))
    host.handle(ev.RoutesFound(CHANNEL, None))
    assert [refused.reason for refused in host.done(fx.Refused)] == [reason]


def test_an_offer_of_a_stream_that_has_ended_since_is_answered_with_that_and_no_tries() -> None:
    host = ScriptedHost()
    host.subscribe()
    requester = host.other()
    host.receive(requester, path_request(requester))
    assert host.sent_to(requester, m.PathOffer)
    host.handle(ev.UnsubscribeRequested(CHANNEL))
    assert host.engine.metrics(CHANNEL) is None
    ended = [fx.Send(requester, m.PathRefusal(ASK, CHANNEL, "the stream ended meanwhile", 0))]
    assert host.receive(requester, m.Commit(ASK)) == ended


def test_an_offer_that_comes_once_the_last_copy_is_taken_is_not_passed_on() -> None:
    host, own, child = ScriptedHost(fan_out=1), ChannelName("own"), HostId("x")
    host.handle(ev.PublishRequested(own, Tree.HYBRID))
    host.handle(ev.LinkUp(child))
    host.receive(B, path_request(B))
    (request,) = host.sent_to(A, m.PathRequest)
    host.receive(child, m.Attach(1, own, NO_BOUND, (child,)))
    assert host.sent_to(child, m.Confirm)
    host.receive(A, m.PathOffer(request.ask, CHANNEL, host.metrics_at(A, 100.0), request.tries))
    assert not host.sent_to(B, m.PathOffer)
    assert [refusal.reason for refusal in host.sent_to(B, m.PathRefusal)] == [f"{ME} is full"]
    assert host.sent_to(A, m.Cancel) == [m.Cancel(request.ask)], "it need not reserve a slot"


def test_a_better_label_is_not_asked_for_where_the_bound_is_kept_with_a_margin_and_only_the_rate_is_not() -> None:
    host = ScriptedHost()
    for peer in host.peers.values():
        peer.offers = True
    host.search(tree=Tree.CUBE, rate_bps=2 * NUMBER_MAX)
    host.run(DEFAULT.search.search_ticks)
    assert host.done(fx.Refused)
    assert not host.done(fx.Relocate)


def test_a_host_is_asked_for_what_the_link_to_it_leaves_of_the_bound() -> None:
    host, bound_ms = ScriptedHost(), 500.0
    host.search(bound_ms=bound_ms)
    host.run(DEFAULT.links.heartbeat_ticks)
    assert host.parent is not None
    link_ms = 1000 * RTT_S / 2 + RELAY_MS + DEFAULT.estimate.spread_ms_min
    asked, fed = host.sent_to(host.parent, m.Attach), host.sent_to(host.parent, m.SubtreeContract)
    assert asked
    assert fed
    contracts = [*(each.contract for each in asked), *(each.contract for each in fed)]
    left_ms = [contract.bound_ms for contract in contracts]
    assert left_ms == pytest.approx([bound_ms - link_ms] * len(left_ms), abs=0.1)
