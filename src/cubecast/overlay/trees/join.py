"""QoS join: a new subscriber finds a parent that keeps its bound, with a limited number of probes.

The directory takes the hosts on the tree that may send one more copy and ranks them by their own delay plus their
estimated delay to the new host. The new host measures its delay to the first ones and chooses the best. If none keeps
its bound it is refused; the counter-offer is the least bound that the measured hosts can keep.
"""

from typing import NamedTuple

import numpy as np

from cubecast.overlay.trees.measured import Survey
from cubecast.types import Bools, Floats, Ints

REFUSED = -1
"""The parent of a join that was refused."""


class Joined(NamedTuple):
    """The result of a join.

    Attributes:
        parent: the chosen parent, or REFUSED.
        best_ms: the promised delay, or the counter-offered bound if refused; infinite when no host could be probed.
        probes: number of hosts probed.
    """

    parent: int
    best_ms: float
    probes: int


def join_candidates(delay_ms: Floats, open_hosts: Bools, positions: Floats, newcomer: int, count: int) -> Ints:
    """At most `count` hosts that are estimated to give a new host the least delay, best first.

    Args:
        delay_ms: shape (n,), delay of each host from the publisher; infinite for hosts that are not on the tree.
        open_hosts: shape (n,), whether each host may send one more copy.
        positions: shape (n, d), coordinates, ms.
    """
    able = np.flatnonzero(open_hosts & np.isfinite(delay_ms))
    expected = delay_ms[able] + np.linalg.norm(positions[able] - positions[newcomer], axis=1)
    return able[np.argsort(expected, kind="stable")[:count]]


def join(
    delay_ms: Floats, open_hosts: Bools, positions: Floats, newcomer: int, bound_ms: float, probes: int
) -> Survey[Joined]:
    """Measures the delay to the best candidates, all in one step, and chooses the parent or refuses."""
    candidates = join_candidates(delay_ms, open_hosts, positions, newcomer, probes)
    if not len(candidates):
        return Joined(REFUSED, np.inf, 0)
    measured_ms = yield np.column_stack([candidates, np.full(len(candidates), newcomer)])
    offered_ms = delay_ms[candidates] + measured_ms
    best = int(np.argmin(offered_ms))
    parent = int(candidates[best]) if offered_ms[best] <= bound_ms else REFUSED
    return Joined(parent, float(offered_ms[best]), len(candidates))
