"""A child of a full host is displaced for a subscriber whose bound only a full host keeps."""

from collections.abc import Mapping

import numpy as np
import pytest

from cubecast.engine.directory import events as d
from cubecast.engine.directory.config import DirectoryConfig, DisplacementConfig
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.protocol.http_bodies import RoutesAnswer
from cubecast.engine.protocol.records import Advice, SubscriptionRecord, Tree
from cubecast.overlay.cube import cube
from cubecast.types import ChannelName, HostId

CHANNEL = ChannelName("clip")
P, R, S, T = (HostId(name) for name in "prst")
DEFAULT = DisplacementConfig()
LINKS: Mapping[HostId, Mapping[HostId, float]] = {R: {P: 10.0, T: 20.0}, T: {P: 30.0}}
"""One-way delays that have been reported, ms: r is nearer to p than t is."""


def full_publisher(
    config: DisplacementConfig = DEFAULT, links_ms: Mapping[HostId, Mapping[HostId, float]] = LINKS
) -> DirectoryEngine:
    """p publishes and feeds r and t, which leave no copy; s searches, and only p could keep its bound."""
    engine = DirectoryEngine(cube(2, 3), np.random.default_rng(0), DirectoryConfig(displacement=config))
    for host, copies in {P: 2, R: 2, S: 2, T: 2}.items():
        engine.handle(d.HostJoined(host, f"{host}:1", "f" * 64, host, copies, "", reachable=True), 0.0)
    engine.handle(d.ChannelAnnounced(P, CHANNEL, Tree.HYBRID), 0.0)
    for host, links in links_ms.items():
        engine.handle(d.LinksReported(host, links), 0.0)
    receives(engine, R, 500.0, (P, R), 10.5)
    receives(engine, T, 500.0, (P, T), 30.5)
    searches(engine, 20.0)
    return engine


def receives(engine: DirectoryEngine, host: HostId, bound_ms: float, path: tuple[HostId, ...], delay_ms: float) -> None:
    report = SubscriptionRecord(CHANNEL, host, bound_ms, "receiving", delay_ms, delay_ms + 2 * (len(path) - 1), path)
    engine.handle(d.SubscriptionReported(report), 0.0)


def searches(engine: DirectoryEngine, bound_ms: float) -> None:
    engine.handle(d.SubscriptionReported(SubscriptionRecord(CHANNEL, S, bound_ms, "searching")), 0.0)


def ask(
    engine: DirectoryEngine, now: float, links_ms: Mapping[HostId, float]
) -> tuple[RoutesAnswer, list[d.DirectoryEffect]]:
    effects = engine.handle(d.RoutesWanted(S, CHANNEL, links_ms), now)
    (answer,) = [effect.answer for effect in effects if isinstance(effect, d.AnswerRoutes)]
    return answer, [effect for effect in effects if not isinstance(effect, d.AnswerRoutes)]


def advised(effects: list[d.DirectoryEffect]) -> list[tuple[HostId, HostId, HostId]]:
    """Who is advised to change to whom, and for whom."""
    return [(e.host, e.advice.parent.host, e.advice.slot_for) for e in effects if isinstance(e, d.Advise)]


NEAR: Mapping[HostId, float] = {P: 5.0, R: 50.0, T: 50.0}
"""The links that s has measured, ms: by r or t it would be too late."""


def test_the_subscriber_measures_its_link_to_a_full_host_first() -> None:
    engine = full_publisher()
    answer, effects = ask(engine, 1.0, {R: 50.0, T: 50.0})
    assert P in {record.host for record in answer.probes}
    assert not advised(effects)


def test_the_child_that_is_delayed_least_is_advised_to_move_for_the_subscriber() -> None:
    """t behind r gets the channel after 10.5 + 20 + 0.5 ms, r behind t after 30.5 + 20 + 0.5 ms."""
    answer, effects = ask(full_publisher(), 1.0, NEAR)
    assert advised(effects) == [(T, R, S)]
    assert answer.pending, "the subscriber asks again"


def test_no_other_child_is_moved_while_one_may_still_follow_and_then_the_next() -> None:
    engine = full_publisher()
    assert advised(ask(engine, 1.0, NEAR)[1]) == [(T, R, S)]
    answer, effects = ask(engine, 1.0 + 0.9 * DEFAULT.follow_s, NEAR)
    assert (advised(effects), answer.pending) == ([], True)
    assert advised(ask(engine, 1.0 + DEFAULT.follow_s, NEAR)[1]) == [(R, T, S)], "t did not follow"


def test_moves_are_advised_in_vain_a_few_times_only_and_again_after_a_while() -> None:
    engine = full_publisher(DisplacementConfig(moves_max=1))
    assert advised(ask(engine, 1.0, NEAR)[1])
    answer, effects = ask(engine, 1.0 + DEFAULT.follow_s, NEAR)
    assert (advised(effects), answer.pending) == ([], False)
    assert advised(ask(engine, 1.0 + DEFAULT.follow_s + DEFAULT.expiry_s, NEAR)[1])


def test_once_the_child_has_moved_the_full_host_is_a_route() -> None:
    engine = full_publisher()
    ask(engine, 1.0, NEAR)
    receives(engine, T, 500.0, (P, R, T), 31.0)
    answer, effects = ask(engine, 1.5, NEAR)
    assert (answer.routes[0].first.host, answer.routes[0].onward) == (P, ())
    assert not advised(effects)
    assert answer.pending, "the slot is reserved a moment later than the move is reported"


@pytest.mark.parametrize(("bound_ms", "moves"), [(500.0, True), (36.0, True), (34.0, False)])
def test_a_child_stays_where_a_bound_below_it_would_break(bound_ms: float, moves: bool) -> None:
    """t gets the channel in 31 ms behind r, which a late frame makes 35."""
    engine = full_publisher()
    receives(engine, R, 30.0, (P, R), 10.5)
    receives(engine, T, bound_ms, (P, T), 30.5)
    assert bool(advised(ask(engine, 1.0, NEAR)[1])) is moves


def test_a_link_that_nobody_has_measured_is_measured_before_a_child_moves_over_it() -> None:
    engine = full_publisher(links_ms={R: {P: 10.0}, T: {P: 30.0}})
    answer, effects = ask(engine, 1.0, NEAR)
    assert not advised(effects)
    assert answer.pending
    pairs = {frozenset((e.host, other.host)) for e in effects if isinstance(e, d.AskProbes) for other in e.others}
    assert frozenset((R, T)) in pairs
    engine.handle(d.LinksReported(T, {R: 20.0}), 1.2)
    assert advised(ask(engine, 1.5, NEAR)[1]) == [(T, R, S)]


def test_nobody_moves_for_a_bound_that_even_the_full_host_does_not_keep() -> None:
    engine = full_publisher()
    searches(engine, 7.0)  # 5 ms of link, 0.5 of relaying and 2 of a late frame
    answer, effects = ask(engine, 1.0, NEAR)
    assert (advised(effects), answer.pending) == ([], False)


def test_nobody_moves_for_a_subscriber_that_some_route_serves() -> None:
    engine = full_publisher()
    searches(engine, 100.0)
    assert not advised(ask(engine, 1.0, NEAR)[1])


def test_two_subscribers_are_not_promised_the_same_slot() -> None:
    engine = full_publisher(DisplacementConfig(route_rounds=0))
    u = HostId("u")
    engine.handle(d.HostJoined(u, "u:1", "f" * 64, u, 2, "", reachable=True), 0.0)
    engine.handle(d.SubscriptionReported(SubscriptionRecord(CHANNEL, u, 20.0, "searching")), 0.0)
    assert advised(ask(engine, 1.0, NEAR)[1]) == [(T, R, S)]
    effects = engine.handle(d.RoutesWanted(u, CHANNEL, NEAR), 1.0)
    children = {child for child, _, _ in advised(effects)}
    assert T not in children


def test_a_directory_stores_what_was_tried_for_so_many_subscribers_only() -> None:
    engine = full_publisher(DisplacementConfig(subscribers_max=0))
    answer, effects = ask(engine, 1.0, NEAR)
    assert (advised(effects), answer.pending) == ([], False)


def test_advice_without_a_newcomer_names_nobody() -> None:
    record = full_publisher().members[P].record
    assert not Advice(CHANNEL, record).slot_for


def test_a_hidden_host_measures_the_link_to_a_child_that_could_move_to_it() -> None:
    engine = full_publisher(links_ms={R: {P: 10.0}, T: {P: 30.0}})
    engine.handle(d.HostTested(R, reachable=False), 0.5)
    _, effects = ask(engine, 1.0, NEAR)
    asked = {(e.host, other.host) for e in effects if isinstance(e, d.AskProbes) for other in e.others}
    assert (R, T) in asked
    assert (T, R) not in asked, "it cannot be dialled"
