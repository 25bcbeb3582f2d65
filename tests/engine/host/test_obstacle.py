"""A refusal names what stood in the way: a host without a copy, or the slow part of the best path."""

import re

import numpy as np
import pytest

from cubecast.engine.host import effects as fx
from cubecast.engine.host.search.obstacle import LastHop, Refusing, obstacle
from cubecast.engine.host.search.state import Purpose, Search
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.overlay.cube import cube
from cubecast.types import Floats, HostId
from tests.engine.exact import drawn
from tests.engine.host.scripted import ScriptedHost
from tests.engine.in_memory import CHANNEL, Overlay

P, A, B, ME = HostId("p"), HostId("a"), HostId("b"), HostId("me")
OVER_B = PathMetrics(40.0, 10.0, (P, A, B, ME))
LAST = LastHop(38.0, 40.0, 0.015)


def search(contract: Contract, nearest: PathMetrics | None = None) -> Search:
    found = Search(Purpose.JOIN, ME, 1, CHANNEL, contract, 24)
    found.nearest = nearest
    return found


def through(host: HostId, least_ms: float, reason: str) -> Refusing:
    return Refusing(host, PathMetrics(least_ms, 0.0, (P, host, ME)), f"{host} {reason}")


# ---------------------------------------------------------------------- the line


def test_the_best_path_is_named_with_the_share_of_its_last_link() -> None:
    assert obstacle(search(Contract(10.0), OVER_B), (), LAST) == (
        "the fastest path, over a and b, takes 50 ms, 38 ms of it the link from b"
    )


def test_a_parent_that_gets_the_channel_too_late_itself_is_named() -> None:
    assert obstacle(search(Contract(10.0), OVER_B), (), LastHop(3.0, 4.5, 0.0)) == (
        "the fastest path, over a and b, takes 50 ms, 3.0 ms of it the link from b, which itself gets it only after 46 ms"
    )


def test_a_path_straight_from_the_publisher_names_its_link_once() -> None:
    best = PathMetrics(40.0, 9.5, (P, ME))
    assert obstacle(search(Contract(10.0), best), (), LAST) == (
        "the fastest path, straight from p, takes 50 ms, 38 ms of it the link"
    )


def test_a_long_path_is_cut_and_its_last_link_still_named() -> None:
    path = (P, *(HostId(f"r{i}") for i in range(6)), ME)
    assert obstacle(search(Contract(10.0), PathMetrics(50.0, 0.0, path)), (), LastHop(2.0, 45.0, 0.0)) == (
        "the fastest path, over r0, r1, r2 and 3 others, takes 50 ms, 2.0 ms of it the link from r5"
    )


def test_full_hosts_that_would_keep_the_contract_come_before_the_best_path() -> None:
    full = [through(HostId("c"), 45.0, "is full"), through(A, 40.0, "is full"), through(B, 41.0, "is full")]
    late = through(HostId("d"), 70.0, "is full")
    asked = search(Contract(45.0), OVER_B)
    assert obstacle(asked, full[1:2], LAST) == "a would keep 40 ms but has no spare fan-out"
    assert obstacle(asked, full[1:], LAST) == "a would keep 40 ms but has no spare fan-out, nor has 1 other"
    assert obstacle(asked, [*full, late], LAST) == "a would keep 40 ms but has no spare fan-out, nor have 2 others"


def test_a_full_host_that_would_be_too_late_is_named_only_where_there_is_no_path() -> None:
    late = [through(A, 70.0, "is full")]
    assert obstacle(search(Contract(10.0), OVER_B), late, LAST).startswith("the fastest path, over a and b,")
    assert obstacle(search(Contract(10.0)), late, None) == "a has no spare fan-out, and could keep 70 ms at best"


def test_a_host_that_declined_for_another_reason_is_named_with_it() -> None:
    asked = search(Contract(45.0), OVER_B)
    assert obstacle(asked, [through(A, 40.0, "is silent")], LAST) == "a would keep 40 ms but is silent"
    two = [through(A, 40.0, "did not answer in time"), through(B, 41.0, "is silent")]
    assert obstacle(asked, two, LAST) == "a would keep 40 ms but did not answer in time; 1 other declined too"
    busy = Refusing(A, PathMetrics(40.0, 0.0, (P, A, ME)), "too many requests at once")
    assert obstacle(asked, [busy], LAST) == "a would keep 40 ms but refused (too many requests at once)"


def test_rate_and_loss_are_named_with_what_the_path_gives() -> None:
    best = PathMetrics(40.0, 10.0, (P, A, ME), loss=0.02, rate_bps=300_000.0)
    assert obstacle(search(Contract(100.0, 900_000.0), best), (), LAST) == (
        "the best path, over a, carries only 300 kbit/s"
    )
    assert obstacle(search(Contract(45.0, loss=0.01), best), (), LAST) == (
        "the best path, over a, takes 50 ms, 38 ms of it the link from a, and loses 2.00%, 1.50% on the link from a"
    )


def test_a_publisher_that_cannot_keep_its_own_contract_names_itself() -> None:
    own = PathMetrics(0.0, 0.0, (ME,), rate_bps=300_000.0)
    assert obstacle(search(Contract(10.0, 900_000.0), own), (), None) == (
        "the best path, straight from me, carries only 300 kbit/s"
    )


def test_without_any_path_the_reason_of_the_search_stands() -> None:
    assert obstacle(search(Contract(10.0)), (), None) == "no next hop answers"


# ---------------------------------------------------------------------- in overlays


def overlay_of(delay_ms: Floats, fan_out: int) -> Overlay:
    overlay = Overlay(delay_ms, cube(2, 3), fan_out=fan_out)
    overlay.run(5)
    overlay.publish(0)
    overlay.run(1)
    return overlay


def refused_at(overlay: Overlay, index: int, bound_ms: float) -> fx.Refused:
    outcome = overlay.subscribe(index, bound_ms)
    assert isinstance(outcome, fx.Refused)
    return outcome


def test_a_full_relay_that_would_keep_the_bound_is_named() -> None:
    delay_ms = np.full((4, 4), 200.0)
    for a, b, ms in ((0, 1, 10.0), (1, 2, 10.0), (1, 3, 10.0)):
        delay_ms[a, b] = delay_ms[b, a] = ms
    np.fill_diagonal(delay_ms, 0)
    overlay = overlay_of(delay_ms, fan_out=1)
    for index in (1, 2):
        assert isinstance(overlay.subscribe(index, 60.0), fx.Admitted)
    overlay.run(5)
    assert re.fullmatch(
        r"h001 would keep 2\d ms but has no spare fan-out(, nor .*)?", refused_at(overlay, 3, 60.0).reason
    )


def test_a_slow_link_is_named_with_its_milliseconds() -> None:
    delay_ms = np.full((3, 3), 80.0)
    delay_ms[0, 1] = delay_ms[1, 0] = 10.0
    delay_ms[1, 2] = delay_ms[2, 1] = 40.0
    np.fill_diagonal(delay_ms, 0)
    overlay = overlay_of(delay_ms, fan_out=4)
    assert isinstance(overlay.subscribe(1, 60.0), fx.Admitted)
    assert re.fullmatch(
        r"the fastest path, over h001, takes 5\d ms, 40 ms of it the link from h001",
        refused_at(overlay, 2, 30.0).reason,
    )
    assert ", which itself gets it only after 1" in refused_at(overlay, 2, 5.0).reason


@pytest.mark.parametrize("seed", range(6))
def test_a_refusal_names_a_full_host_or_the_best_path(seed: int) -> None:
    overlay, rng = drawn(3000 + seed, hosts_max=14)
    for index in rng.permutation(range(1, len(overlay.names))).tolist():
        outcome = overlay.subscribe(index, float(rng.uniform(20, 150)))
        if isinstance(outcome, fx.Refused):
            assert_exact(overlay, outcome)
        overlay.run(3)


def assert_exact(overlay: Overlay, refused: fx.Refused) -> None:
    full = re.match(r"(\w+) (would keep (\S+) ms but )?has no spare fan-out", refused.reason)
    if full is not None:
        here = overlay.hosts[HostId(full[1])]
        assert sum(len(branch.below.children) for branch in here.engine.branches()) >= here.fan_out
        assert full[3] is None or float(full[3]) <= refused.contract.bound_ms + 1
        return
    if refused.best is None:
        assert refused.reason
        return
    path = refused.best.path
    found = re.fullmatch(
        r"the fastest path, (over (.*)|straight from (\w+)), takes (\S+) ms, (\S+) ms of it the link( from (\w+))?"
        r"(, which itself gets it only after (\S+) ms)?",
        refused.reason,
    )
    assert found is not None, refused.reason
    assert path[-2] in (found[3], found[7])
    assert refused.best.least_bound_ms <= float(found[4]) < refused.best.least_bound_ms + 1
    a, b = (overlay.hosts[host].index for host in path[-2:])
    assert float(found[5]) == pytest.approx(float(overlay.delay_ms[a, b]), rel=0.1, abs=1)
    assert found[9] is None or refused.contract.bound_ms < float(found[9]) < refused.best.least_bound_ms


def test_a_parent_that_is_silent_when_asked_is_named() -> None:
    host = ScriptedHost()
    host.peers[HostId("a")].delay_ms = 20.0
    host.run(15)
    host.peers[HostId("a")].alive = False
    host.search(bound_ms=60.0)
    for _ in range(200):
        host.run(1)
        if host.done(fx.Refused):
            break
    (refused,) = host.done(fx.Refused)
    assert re.match(r"a would keep \d+ ms but (did not answer in time|is silent)", refused.reason), refused.reason
