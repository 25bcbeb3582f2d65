"""Properties of subscribing: admission, grafting, fan-out, refusal, and the end of streams."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT
from cubecast.engine.protocol.path import RELAY_MS, Contract
from cubecast.engine.protocol.records import Tree
from cubecast.overlay.cube import Cube, distance
from cubecast.overlay.region import live_region
from cubecast.overlay.routing import Policy
from cubecast.types import HostId
from tests.engine.in_memory import CHANNEL, Overlay, random_delays

WARM_S = 4.0
NO_BOUND_MS = 100_000.0


def ready(
    hosts: int,
    seed: int,
    policy: Policy = Policy.GREEDY,
    fan_out: int = 8,
    cube: Cube | None = None,
    tree: Tree = Tree.HYBRID,
) -> Overlay:
    overlay = Overlay(random_delays(hosts, seed), cube or live_region(hosts), policy, seed, fan_out)
    overlay.run(WARM_S)
    assert all(engine.ready() for engine in overlay.engines.values())
    overlay.publish(0, tree=tree)
    return overlay


def assert_trees_hold(overlay: Overlay, fan_out: int) -> None:
    """One parent each, no loop, parents know their children, fan-out kept, delays add up along the path."""
    branches = {h: b for h, e in overlay.engines.items() if h not in overlay.dead for b in e.view().branches}
    for host, branch in branches.items():
        assert len(branch.children) <= fan_out
        seen, at = {host}, host
        while branches[at].upstream is not None:
            upstream = branches[at].upstream
            assert upstream is not None
            assert at in branches[upstream].children, f"{upstream} does not feed {at}"
            assert upstream not in seen, "a loop"
            seen.add(upstream)
            at = upstream
        assert at == overlay.names[0]
        former = next(b.parent.former for b in overlay.engines[host].branches())
        assert {branch.upstream} <= overlay.sessions(host) | {None}
        assert overlay.sessions(host) <= {branch.upstream, former}


def path_ms(overlay: Overlay, path: tuple[HostId, ...]) -> float:
    return sum(1000 * overlay.delay_s(a, b) for a, b in pairwise(path))


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 24), st.integers(0, 10_000), st.sampled_from(list(Policy)), st.sampled_from(list(Tree)))
def test_every_subscriber_is_admitted_with_a_promise_that_is_its_paths_delay(
    hosts: int, seed: int, policy: Policy, tree: Tree
) -> None:
    overlay = ready(hosts, seed, policy, tree=tree)
    for index in range(1, hosts):
        outcome = overlay.subscribe(index, NO_BOUND_MS)
        assert isinstance(outcome, fx.Admitted)
        hops = len(outcome.metrics.path) - 1
        assert hops >= 1
        assert outcome.metrics.delay_ms == pytest.approx(
            path_ms(overlay, outcome.metrics.path) + hops * RELAY_MS, rel=0.02, abs=0.5
        )
        assert outcome.metrics.spread_ms >= hops * DEFAULT.estimate.spread_ms_min
    assert_trees_hold(overlay, 8)


@settings(max_examples=25, deadline=None)
@given(st.integers(6, 20), st.integers(0, 10_000), st.floats(5, 150))
def test_a_bound_is_kept_or_refused_with_one_that_would_have_been(hosts: int, seed: int, bound_ms: float) -> None:
    overlay = ready(hosts, seed)
    for index in range(1, hosts, 2):
        outcome = overlay.subscribe(index, bound_ms)
        if isinstance(outcome, fx.Admitted):
            assert outcome.metrics.delay_ms + outcome.metrics.spread_ms <= bound_ms
            continue
        assert isinstance(outcome, fx.Refused)
        assert outcome.best is not None
        assert outcome.best.least_bound_ms > bound_ms
        again = overlay.subscribe(index, outcome.best.least_bound_ms + 1)
        assert isinstance(again, fx.Admitted), "the counter-offer was refused"
        overlay.handle(overlay.names[index], ev.UnsubscribeRequested(CHANNEL))
        overlay.run(1)
    assert_trees_hold(overlay, 8)


def test_the_bound_chooses_the_path() -> None:
    """Two ways of equal length round a square: the first choice is cheap to begin with and slow afterwards."""
    delay = np.full((4, 4), 200.0)
    cube = Cube(2, 2)
    overlay = Overlay(delay, cube, seed=3)
    seats = [m.record.seat for m in overlay.directory.members.values()]
    subscriber = next(i for i in range(4) if distance(cube, seats[i], seats[0]) == 2)
    first, second = (i for i in range(1, 4) if i != subscriber)
    for a, b, ms in ((subscriber, first, 5.0), (first, 0, 90.0), (subscriber, second, 20.0), (second, 0, 20.0)):
        overlay.delay_ms[a, b] = overlay.delay_ms[b, a] = ms
    overlay.run(WARM_S)
    overlay.publish(0, tree=Tree.CUBE)
    names = overlay.names
    loose = overlay.subscribe(subscriber, 150.0)
    assert isinstance(loose, fx.Admitted)
    assert loose.metrics.path == (names[0], names[first], names[subscriber])
    overlay.handle(overlay.names[subscriber], ev.UnsubscribeRequested(CHANNEL))
    overlay.run(2)
    tight = overlay.subscribe(subscriber, 60.0)
    assert isinstance(tight, fx.Admitted)
    assert tight.metrics.path == (names[0], names[second], names[subscriber])


def test_greedy_paths_are_shorter_than_odr_paths_in_the_mean() -> None:
    def mean_promise(policy: Policy) -> float:
        promises = []
        for seed in range(6):
            overlay = ready(16, seed, policy, tree=Tree.CUBE)
            outcomes = [overlay.subscribe(i, NO_BOUND_MS) for i in range(1, 9)]
            promises += [o.metrics.delay_ms for o in outcomes if isinstance(o, fx.Admitted)]
        assert len(promises) == 48
        return float(np.mean(promises))

    assert mean_promise(Policy.GREEDY) < mean_promise(Policy.ODR)


@pytest.mark.parametrize("fan_out", [1, 2])
def test_fan_out_is_never_exceeded_and_what_does_not_fit_is_refused_with_a_reason(fan_out: int) -> None:
    overlay = ready(16, 5, fan_out=fan_out, tree=Tree.CUBE)
    outcomes = [overlay.subscribe(i, NO_BOUND_MS) for i in range(1, 16)]
    assert_trees_hold(overlay, fan_out)
    refused = [o for o in outcomes if isinstance(o, fx.Refused)]
    assert any(isinstance(o, fx.Admitted) for o in outcomes)
    assert all(o.best is None and o.reason for o in refused)
    if fan_out == 1:
        assert refused


@settings(max_examples=40, deadline=None)
@given(st.integers(6, 18), st.integers(0, 10_000), st.integers(1, 3))
def test_fan_out_holds_when_everyone_asks_at_once(hosts: int, seed: int, fan_out: int) -> None:
    overlay = ready(hosts, seed, fan_out=fan_out)
    for host in overlay.names[1:]:
        overlay.handle(host, ev.SubscribeRequested(CHANNEL, Contract(NO_BOUND_MS)))
    overlay.run(15)
    assert all(overlay.hosts[host].outcomes for host in overlay.names[1:])
    assert_trees_hold(overlay, fan_out)


def test_unsubscribing_releases_the_whole_branch() -> None:
    overlay = ready(16, 2)
    admitted = [i for i in range(1, 16) if isinstance(overlay.subscribe(i, NO_BOUND_MS), fx.Admitted)]
    for index in admitted:
        overlay.handle(overlay.names[index], ev.UnsubscribeRequested(CHANNEL))
        overlay.run(1)
    overlay.run(2)
    carrying = [h for h, e in overlay.engines.items() if e.view().branches]
    assert carrying == [overlay.names[0]]
    assert not any(overlay.sessions(host) for host in overlay.names)
    assert overlay.hosts[overlay.names[0]].engine.view().branches[0].children == ()


def test_offers_that_are_not_accepted_reserve_no_copies() -> None:
    overlay = ready(16, 9, fan_out=2)
    for index in range(1, 16):
        outcome = overlay.subscribe(index, 0.5)  # below any link's delay: refused, every offer cancelled
        assert isinstance(outcome, fx.Refused)
    overlay.run(2)
    assert all(not b.children for e in overlay.engines.values() for b in e.view().branches)
    assert isinstance(overlay.subscribe(1, NO_BOUND_MS), fx.Admitted)


def test_an_unknown_channel_is_reported_at_once() -> None:
    overlay = Overlay(random_delays(4, 1), Cube(2, 2))
    overlay.run(WARM_S)
    outcome = overlay.subscribe(1, NO_BOUND_MS)
    assert outcome == fx.NotFound(CHANNEL, ())


def test_the_end_of_a_channel_reaches_every_subscriber_and_frees_every_host() -> None:
    overlay = ready(12, 4)
    for index in range(1, 12):
        overlay.subscribe(index, NO_BOUND_MS)
    overlay.handle(overlay.names[0], ev.PublishFinished(CHANNEL))
    overlay.run(2)
    for host in overlay.names[1:]:
        end = overlay.hosts[host].outcomes[-1]
        assert isinstance(end, fx.StreamEnded)
        assert end.finished
    overlay.run(15)
    assert all(not engine.view().branches for engine in overlay.engines.values())


def test_a_host_that_was_stalled_itself_does_not_blame_its_peers() -> None:
    overlay = ready(8, 3)
    for index in range(1, 8):
        overlay.subscribe(index, NO_BOUND_MS)
    sleeper = HostId("h003")
    overlay.stall(sleeper)
    overlay.run(0.9)  # shorter than the suspicion of its neighbours
    overlay.resume(sleeper)
    overlay.run(3)
    assert not overlay.ended()


def test_the_same_seed_gives_the_same_run() -> None:
    def digest() -> list[object]:
        overlay = ready(16, 11, Policy.RANDOM)
        return [overlay.subscribe(i, 200.0) for i in range(1, 16)] + [overlay.messages]

    assert digest() == digest()
