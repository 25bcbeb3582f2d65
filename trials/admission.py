"""Admission against an exact search: random overlays on the engines, whose subscribers ask for bounds around what is possible.

For every decision the exact search (tests/engine/exact.py) knows all links and fan-outs, the engines only those that hosts
have measured. Printed are the share of right decisions, how far counter-offers are from the exact best, and the times from
asking to the decision, in the overlay's time. Misses are listed with their seeds.

    python trials/admission.py --instances 500 --seed 0
"""

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.engine.exact import drawn, drawn_bound_ms, exact_ms

from cubecast.engine.host import effects as fx
from cubecast.simulation.overlay import SimulatedOverlay

RIGHT_BAR, OFFER_BAR, OFFER_SHARE = 0.99, 0.95, 1.05
"""At least this share of decisions is right, and this share of counter-offers within OFFER_SHARE of the exact best."""


@dataclass(slots=True)
class Tally:
    """What came of all instances."""

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    offers: list[float] = field(default_factory=list)
    """Counter-offers as a share of the exact best."""
    admitted_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)


def main() -> int:
    """Runs the instances and prints the report; 1 when a bar does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--instances", type=int, default=500, metavar="N", help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the first instance (%(default)s)")
    options = parser.parse_args()
    tally = Tally()
    for seed in range(options.seed, options.seed + options.instances):
        _run(seed, tally)
    print("\n".join(tally.wrong))
    decisions = tally.right + len(tally.wrong)
    near = float(np.mean(np.array(tally.offers) <= OFFER_SHARE)) if tally.offers else 1.0
    print(f"{options.instances} overlays, {decisions} decisions: {tally.right / decisions:.4f} right; bar {RIGHT_BAR}")
    print(f"{len(tally.offers)} counter-offers: {near:.3f} within {OFFER_SHARE} of the exact best; bar {OFFER_BAR}")
    for name, times_s in (("admitted", tally.admitted_s), ("refused", tally.refused_s)):
        p50, p95 = np.percentile(times_s or [0.0], [50, 95])
        print(f"{len(times_s)} {name}: p50 {p50:.2f} s, p95 {p95:.2f} s from asking")
    return int(tally.right < RIGHT_BAR * decisions or near < OFFER_BAR)


def _run(seed: int, tally: Tally) -> None:
    """One overlay: two thirds of its hosts ask, one after the other."""
    overlay, rng = drawn(seed)
    order = rng.permutation(np.arange(1, len(overlay.names)))[: max(2, 2 * len(overlay.names) // 3)]
    for index in order.tolist():
        host = overlay.names[index]
        exact = exact_ms(overlay, host)
        bound_ms = drawn_bound_ms(rng, exact)
        asked_at = _now(overlay)
        outcome = overlay.subscribe(index, bound_ms)
        possible = exact is not None and exact <= bound_ms
        if isinstance(outcome, fx.Admitted):
            right = outcome.metrics.least_bound_ms <= bound_ms
            tally.admitted_s.append(_now(overlay) - asked_at)
        else:
            right = not possible
            tally.refused_s.append(_now(overlay) - asked_at)
            if isinstance(outcome, fx.Refused) and outcome.best is not None and exact is not None and not possible:
                tally.offers.append(outcome.best.least_bound_ms / exact)
        tally.right += right
        if not right:
            reason = getattr(outcome, "reason", "")
            tally.wrong.append(f"seed {seed}, {host}: bound {bound_ms:.1f} ms, exact {exact} ms, {outcome}: {reason}")


def _now(overlay: SimulatedOverlay) -> float:
    return overlay.queue.now


if __name__ == "__main__":
    sys.exit(main())
