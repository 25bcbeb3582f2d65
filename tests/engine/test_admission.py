"""A subscriber is admitted if and only if some way keeps its bound: engines against an exact search over all links."""

import numpy as np
import pytest

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.protocol.path import Contract
from cubecast.types import HostId
from tests.engine.exact import drawn, drawn_bound_ms, exact_ms
from tests.engine.in_memory import CHANNEL, Overlay

WITHIN_S = 20.0
"""Longest time to a decision, s: the last round of a crowd begins within 15 s."""


def decide(overlay: Overlay, rng: np.random.Generator, host: HostId) -> tuple[bool, float | None]:
    """Whether a host is decided about as the exact search says, with a bound around it, and its counter-offer's share."""
    exact = exact_ms(overlay, host)
    bound_ms = drawn_bound_ms(rng, exact)
    outcome = overlay.subscribe(overlay.names.index(host), bound_ms)
    if isinstance(outcome, fx.Admitted):
        return outcome.metrics.least_bound_ms <= bound_ms, None
    assert isinstance(outcome, fx.Refused)
    offer = None if exact is None or outcome.best is None else outcome.best.least_bound_ms / exact
    return exact is None or exact > bound_ms, offer


@pytest.mark.parametrize("seed", range(6))
def test_each_in_turn_is_admitted_if_and_only_if_a_way_keeps_its_bound(seed: int) -> None:
    overlay, rng = drawn(seed)
    order = rng.permutation(overlay.names[1:])[: max(2, 2 * len(overlay.names) // 3)]
    decisions = [decide(overlay, rng, HostId(host)) for host in order]
    assert all(right for right, _ in decisions)
    offers = [offer for _, offer in decisions if offer is not None]
    assert np.mean([offer <= 1.05 for offer in offers] or [True]) >= 0.6, "counter-offers are near the exact best"


@pytest.mark.parametrize("seed", range(4))
def test_a_host_that_relays_already_is_decided_about_as_a_fresh_one(seed: int) -> None:
    overlay, rng = drawn(1000 + seed)
    for host in overlay.names[1 : 1 + len(overlay.names) // 2]:
        overlay.subscribe(overlay.names.index(host), 2000.0)
    relays = [host for host in overlay.living() if _relays(overlay, host)]
    for host in relays:
        overlay.handle(host, ev.UnsubscribeRequested(CHANNEL))
    overlay.run(3)
    asked = [host for host in relays if _relays(overlay, host)]
    assert all(decide(overlay, rng, host)[0] for host in asked)


def _relays(overlay: Overlay, host: HostId) -> bool:
    return any(branch.below.children and not branch.publishes for branch in overlay.engines[host].branches())


@pytest.mark.parametrize("seed", range(4))
def test_a_crowd_that_comes_at_once_is_admitted_like_one_that_comes_in_turn(seed: int) -> None:
    """Fan-outs and delays of one overlay; everybody asks for a bound that is kept in turn with a margin."""
    in_turn, _ = drawn(2000 + seed)
    crowd = in_turn.names[1:]
    for host in crowd:
        outcome = in_turn.subscribe(in_turn.names.index(host), 5000.0)
        assert isinstance(outcome, fx.Admitted), f"{host}: {outcome}"
    at_once, _ = drawn(2000 + seed)
    for host in crowd:
        at_once.handle(host, ev.SubscribeRequested(CHANNEL, Contract(5000.0)))
    at_once.run(WITHIN_S)
    outcomes = {host: at_once.hosts[host].outcomes for host in crowd}
    refused = [host for host, seen in outcomes.items() if not seen or not isinstance(seen[0], fx.Admitted)]
    assert not refused
