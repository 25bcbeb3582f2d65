"""Where only full hosts keep a newcomer's bound, a child that another host can serve is displaced, and no bound is broken."""

from dataclasses import dataclass, field

import numpy as np

from cubecast.engine.host import effects as fx
from cubecast.overlay.cube import cube
from cubecast.types import HostId
from tests.engine.exact import UNCLEAR, displacement_ms, drawn, exact_ms
from tests.engine.in_memory import CHANNEL, Overlay

SETTLED_S = 5.0


@dataclass
class Tally:
    """What came of newcomers that can be admitted only if a child moves."""

    admitted: list[HostId] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Subscribers whose bound was not kept any more after the admission."""


def newcomers(seed: int, tally: Tally) -> None:
    """Half of the hosts of a random overlay subscribe, with bounds wider than needed; then some that need a full host."""
    overlay, rng = drawn(seed)
    order = [overlay.names[index] for index in rng.permutation(np.arange(1, len(overlay.names)))]
    half = len(order) // 2
    bounds_ms: dict[HostId, float] = {}
    for host in order[:half]:
        bound_ms = 400.0 * float(rng.uniform(0.5, 2))
        if isinstance(overlay.subscribe(overlay.names.index(host), bound_ms), fx.Admitted):
            bounds_ms[host] = bound_ms
    overlay.run(SETTLED_S)
    for host in order[half : half + max(2, half // 2)]:
        exact, displaced_ms = exact_ms(overlay, host), displacement_ms(overlay, host, bounds_ms)
        if displaced_ms is None or (exact is not None and displaced_ms * (1 + 2 * UNCLEAR) >= exact):
            continue
        bound_ms = displaced_ms * (1 + UNCLEAR) + 1
        outcome = overlay.subscribe(overlay.names.index(host), bound_ms)
        if isinstance(outcome, fx.Admitted):
            tally.admitted.append(host)
            bounds_ms[host] = bound_ms
        else:
            tally.refused.append(f"seed {seed}, {host}, {bound_ms:.1f} ms: {outcome}")
        overlay.run(SETTLED_S)
        for other, kept_ms in bounds_ms.items():
            metrics = overlay.engines[other].metrics(CHANNEL)
            if metrics is None or metrics.least_bound_ms > kept_ms:
                tally.broken.append(f"seed {seed}, {other}: {metrics}")


def test_newcomers_are_admitted_where_a_child_can_be_displaced_and_no_bound_is_broken() -> None:
    tally = Tally()
    for seed in range(8):
        newcomers(seed, tally)
    assert not tally.broken
    assert len(tally.admitted) + len(tally.refused) >= 10, "the overlays drawn have such newcomers"
    assert len(tally.admitted) >= 0.85 * (len(tally.admitted) + len(tally.refused)), tally.refused


def near_and_far(between_ms: float) -> Overlay:
    """h000 publishes and is full with h001 and h002, which are far from it; h003 is near it."""
    delay_ms = np.array([[0, 40, 60, 5], [40, 0, between_ms, 45], [60, between_ms, 0, 65], [5, 45, 65, 0]], dtype=float)
    overlay = Overlay(delay_ms, cube(2, 2), fan_out=2)
    overlay.run(SETTLED_S)
    overlay.publish(0)
    overlay.run(1)
    return overlay


def parent(overlay: Overlay, index: int) -> HostId:
    metrics = overlay.engines[overlay.names[index]].metrics(CHANNEL)
    assert metrics is not None
    return metrics.path[-2]


def test_a_child_with_a_loose_bound_leaves_its_copy_to_one_with_a_tight_bound() -> None:
    overlay = near_and_far(between_ms=30)
    for index in (1, 2):
        assert isinstance(overlay.subscribe(index, 500.0), fx.Admitted)
    assert {parent(overlay, index) for index in (1, 2)} == {"h000"}
    assert isinstance(overlay.subscribe(3, 20.0), fx.Admitted)
    overlay.run(SETTLED_S)
    assert [parent(overlay, index) for index in (1, 2, 3)] == ["h000", "h001", "h000"], "it delays h002 less than h001"


def test_no_child_moves_where_its_bound_would_break_and_the_refusal_names_the_full_host() -> None:
    overlay = near_and_far(between_ms=300)
    for index, bound_ms in ((1, 60.0), (2, 80.0)):
        assert isinstance(overlay.subscribe(index, bound_ms), fx.Admitted)
    outcome = overlay.subscribe(3, 20.0)
    assert isinstance(outcome, fx.Refused)
    assert outcome.reason.startswith("h000 would keep 7.5 ms but has no spare fan-out")
    assert {parent(overlay, index) for index in (1, 2)} == {"h000"}
