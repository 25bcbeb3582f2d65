"""QoS join: a newcomer finds a parent that keeps its bound, within a budget of probes.

The directory ranks hosts on the tree that may send one more copy by their delay and the newcomer's distance in
coordinates; the newcomer probes them in that order and takes the best that it measured. It is refused with the best
bound that it saw when none keeps its own.
"""

from typing import NamedTuple

import numpy as np

from cubecast.overlay.trees.measured import Survey
from cubecast.types import Bools, Floats, Ints

REFUSED = -1


class Joined(NamedTuple):
    """What came of a join.

    Attributes:
        parent: the host to hang on; -1 when refused.
        best_ms: the promised delay, or the least bound the probes found; infinite when nobody could be asked.
        probes: how many hosts were probed.
    """

    parent: int
    best_ms: float
    probes: int


def join_candidates(late_ms: Floats, open_hosts: Bools, positions: Floats, newcomer: int, count: int) -> Ints:
    """The hosts expected to serve a newcomer soonest, best first, at most `count`.

    Args:
        late_ms: shape (n,), each host's delay from the publisher; infinite off the tree.
        open_hosts: shape (n,), whether a host may send one more copy.
        positions: shape (n, d), coordinates, ms.
    """
    able = np.flatnonzero(open_hosts & np.isfinite(late_ms))
    expected = late_ms[able] + np.linalg.norm(positions[able] - positions[newcomer], axis=1)
    return able[np.argsort(expected, kind="stable")[:count]]


def join(
    late_ms: Floats, open_hosts: Bools, positions: Floats, newcomer: int, bound_ms: float, probes: int
) -> Survey[Joined]:
    """Probes the best candidates, all at once, and decides."""
    candidates = join_candidates(late_ms, open_hosts, positions, newcomer, probes)
    if not len(candidates):
        return Joined(REFUSED, np.inf, 0)
    told = yield np.column_stack([candidates, np.full(len(candidates), newcomer)])
    delay = late_ms[candidates] + told
    best = int(np.argmin(delay))
    parent = int(candidates[best]) if delay[best] <= bound_ms else REFUSED
    return Joined(parent, float(delay[best]), len(candidates))
