"""Metrics of routes and deliveries as columns of a result: RAD, RDP and stress; and the check of mean hops."""

import numpy as np

from cubecast.lab.experiment import Row
from cubecast.overlay.metrics import Stress, delay_penalty, relative_average_delay
from cubecast.types import Floats

HOPS_TOLERANCE = 0.005
"""Maximum relative deviation of mean hops from A(k, n)."""
PAIRS_ENOUGH = 20_000
"""Minimum number of routes for judging their mean hops; with fewer, the mean is too uncertain."""


def hops_agree(deviation: float, pairs: int) -> bool | None:
    """Whether mean hops agree with A(k, n), given their relative deviation; None with fewer pairs than PAIRS_ENOUGH."""
    return deviation <= HOPS_TOLERANCE if pairs >= PAIRS_ENOUGH else None


def penalty_row(overlay_ms: Floats, unicast_ms: Floats) -> Row:
    """RAD, and the median and 90th percentile of RDP, whose mean outliers would dominate; pairs at delay 0 have no RDP."""
    distinct = unicast_ms > 0
    penalty = delay_penalty(overlay_ms[distinct], unicast_ms[distinct])
    median, ninetieth = np.percentile(penalty, [50, 90]) if len(penalty) else (1.0, 1.0)
    return {
        "rad": round(relative_average_delay(overlay_ms, unicast_ms), 4),
        "rdp_p50": round(float(median), 4),
        "rdp_p90": round(float(ninetieth), 4),
    }


def stress_row(stress: Stress) -> Row:
    """Mean and maximum stress, and total link traversals: the mean alone also rises when fewer links are used."""
    return {
        "stress_mean": round(stress.mean, 4),
        "stress_max": stress.max,
        "traversals": stress.traversals,
    }
