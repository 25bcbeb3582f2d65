"""Figures of merit of deliveries and routes, as rows of a result."""

import numpy as np

from cubecast.lab.experiment import Row
from cubecast.overlay.metrics import Stress, delay_penalty, relative_average_delay
from cubecast.types import Floats

HOPS_TOLERANCE = 0.005
PAIRS_ENOUGH = 20_000
"""With fewer routes the mean of their hops is too uncertain to be judged."""


def hops_agree(off: float, pairs: int) -> bool | None:
    """Whether mean hops that are `off` by a share of A(k, n) agree with it; None for too few pairs to tell."""
    return off <= HOPS_TOLERANCE if pairs >= PAIRS_ENOUGH else None


def penalty_row(overlay_ms: Floats, unicast_ms: Floats) -> Row:
    """RAD, and the median and 90th percentile of RDP: its mean is heavy-tailed."""
    apart = unicast_ms > 0
    penalty = delay_penalty(overlay_ms[apart], unicast_ms[apart])
    median, ninetieth = np.percentile(penalty, [50, 90]) if len(penalty) else (1.0, 1.0)
    return {
        "rad": round(relative_average_delay(overlay_ms, unicast_ms), 4),
        "rdp_p50": round(float(median), 4),
        "rdp_p90": round(float(ninetieth), 4),
    }


def stress_row(stress: Stress) -> Row:
    """Mean and maximum stress, and the traversals that the mean alone would hide."""
    return {
        "stress_mean": round(stress.mean, 4),
        "stress_max": stress.max,
        "traversals": stress.traversals,
    }
