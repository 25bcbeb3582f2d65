"""Routes that the directory finds for a subscriber over hosts that do not carry the channel yet."""

from collections.abc import Mapping

import numpy as np
import pytest

from cubecast.engine.directory import events as d
from cubecast.engine.directory.config import DirectoryConfig, RoutesConfig
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.protocol.http_bodies import RoutesAnswer
from cubecast.engine.protocol.path import RELAY_MS
from cubecast.engine.protocol.records import SubscriptionRecord, Tree
from cubecast.errors import DirectoryError
from cubecast.overlay.cube import cube
from cubecast.types import ChannelName, HostId

CHANNEL = ChannelName("clip")
P, R, S, T = (HostId(name) for name in "prst")


def directory(fan_out: Mapping[HostId, int], config: RoutesConfig = RoutesConfig(), **hidden: bool) -> DirectoryEngine:  # noqa: B008
    """A directory with these hosts, the first of which publishes the channel."""
    engine = DirectoryEngine(cube(2, 3), np.random.default_rng(0), DirectoryConfig(routes=config))
    for host, copies in fan_out.items():
        reachable = not hidden.get(host, False)
        engine.handle(d.HostJoined(host, f"{host}:1", "f" * 64, host, copies, "", reachable), 0.0)
    engine.handle(d.ChannelAnnounced(next(iter(fan_out)), CHANNEL, Tree.HYBRID), 0.0)
    return engine


def ask(
    engine: DirectoryEngine, links_ms: Mapping[HostId, float], host: HostId = S
) -> tuple[RoutesAnswer, dict[HostId, set[HostId]]]:
    """The answer to a request for routes, and the hosts that each host is asked to measure."""
    effects = engine.handle(d.RoutesWanted(host, CHANNEL, links_ms), 1.0)
    (answer,) = [effect.answer for effect in effects if isinstance(effect, d.AnswerRoutes)]
    asked = {e.host: {other.host for other in e.others} for e in effects if isinstance(e, d.AskProbes)}
    return answer, asked


def ways(answer: RoutesAnswer) -> list[tuple[HostId, ...]]:
    return [(route.first.host, *route.onward) for route in answer.routes]


def test_a_route_leads_over_an_idle_host_whose_links_are_measured() -> None:
    engine = directory({P: 2, R: 2, S: 2})
    engine.handle(d.LinksReported(R, {P: 10.0}), 0.0)
    answer, _ = ask(engine, {P: 150.0, R: 12.0})
    assert ways(answer) == [(R, P), (P,)]
    assert [route.expected_ms for route in answer.routes] == [10.0 + RELAY_MS, 0.0]
    assert not answer.pending


def test_links_that_nobody_has_measured_are_measured_and_asked_about_again() -> None:
    engine = directory({P: 2, R: 2, S: 2})
    answer, asked = ask(engine, {P: 150.0})
    assert ways(answer) == [(P,)]
    assert {record.host for record in answer.probes} == {R}
    assert asked == {R: {P}}
    assert answer.pending
    engine.handle(d.LinksReported(R, {P: 10.0}), 2.0)
    answer, asked = ask(engine, {P: 150.0, R: 12.0})
    assert ways(answer)[0] == (R, P)
    assert not answer.pending
    assert not answer.probes
    assert asked == {R: {P}}, "the link was measured, but may have been closed since"


def test_no_route_begins_at_or_leads_over_a_full_host() -> None:
    engine = directory({P: 1, R: 2, S: 2, T: 2})
    for host, links_ms in ((R, {P: 10.0}), (T, {P: 20.0, R: 10.0})):
        engine.handle(d.LinksReported(host, links_ms), 0.0)
    report = SubscriptionRecord(CHANNEL, T, 100.0, "receiving", 20.5, None, (P, T))
    engine.handle(d.SubscriptionReported(report), 0.0)
    answer, _ = ask(engine, {P: 5.0, R: 5.0, T: 5.0})
    assert ways(answer) == [(T,), (R, T)], "p feeds t, and sends no more"


def test_a_relay_that_subscribes_to_nothing_is_known_by_the_paths_that_lead_over_it() -> None:
    engine = directory({P: 1, R: 2, S: 2, T: 0})
    engine.handle(d.LinksReported(R, {P: 10.0, T: 5.0}), 0.0)
    report = SubscriptionRecord(CHANNEL, T, 100.0, "receiving", 16.0, None, (P, R, T))
    engine.handle(d.SubscriptionReported(report), 0.0)
    answer, _ = ask(engine, {R: 7.0})
    assert ways(answer) == [(R,)]
    assert answer.routes[0].expected_ms == pytest.approx(16.0 - 5.0 - RELAY_MS)
    assert answer.carriers == 3


def test_two_hidden_hosts_are_never_asked_to_measure_each_other_and_a_hidden_one_dials() -> None:
    engine = directory({P: 2, R: 2, S: 2}, p=True, r=True)
    answer, asked = ask(engine, {})
    assert not asked
    assert not answer.probes, "the subscriber cannot dial a hidden host"
    engine = directory({P: 2, R: 2, S: 2}, p=True)
    assert ask(engine, {})[1] == {P: {R}}


def test_others_who_are_being_admitted_are_reported() -> None:
    engine = directory({P: 2, R: 2, S: 2})
    assert not ask(engine, {})[0].others_search
    engine.handle(d.SubscriptionReported(SubscriptionRecord(CHANNEL, S, 100.0, "searching")), 0.0)
    assert not ask(engine, {})[0].others_search, "it is the one that asks"
    engine.handle(d.SubscriptionReported(SubscriptionRecord(CHANNEL, R, 100.0, "searching")), 0.0)
    assert ask(engine, {})[0].others_search


def test_an_answer_is_limited_in_every_part() -> None:
    others = [HostId(f"h{number}") for number in range(6)]
    limits = RoutesConfig(routes_max=2, probes_max=3, links_max=1, links_per_idle_host=1)
    engine = directory({P: 9, S: 9} | dict.fromkeys(others, 9), limits)
    answer, asked = ask(engine, {P: 9.0})
    assert len(answer.probes) == 3
    assert sum(map(len, asked.values())) == 1
    for host in others:
        engine.handle(d.LinksReported(host, {P: 5.0}), 2.0)
    assert len(ask(engine, {P: 9.0} | dict.fromkeys(others, 5.0))[0].routes) == 2
    engine = directory({P: 9, S: 9} | dict.fromkeys(others, 9), RoutesConfig(sites_max=2))
    assert len(ask(engine, {})[0].probes) <= 2


def test_who_has_not_joined_gets_no_routes_and_a_channel_over_the_cube_has_none() -> None:
    engine = directory({P: 2, R: 2, S: 2})
    with pytest.raises(DirectoryError, match="has not joined"):
        ask(engine, {}, HostId("stranger"))
    engine.handle(d.ChannelAnnounced(P, CHANNEL, Tree.CUBE), 0.0)
    assert ask(engine, {R: 1.0})[0] == RoutesAnswer((), (), pending=False)
