"""Clustered tree: recursive k-means over coordinates, one cluster for each copy that a cluster head may send.

Distant regions are thus served through one host each. The head of a cluster is the member that minimises
delay(above, member) + CENTRE_WEIGHT * distance(member, centre), where `above` is its parent, the head of the enclosing
cluster. Coordinates select SHORT_LIST candidates, and only the delays to these are measured.
"""

import numpy as np

from cubecast.overlay.trees.measured import Measured, Survey
from cubecast.overlay.trees.tree import NO_NODE, PUBLISHER
from cubecast.types import Floats, Ints

CENTRE_WEIGHT = 0.3
"""Weight of a candidate's distance to the cluster's centre against its delay from the parent. Chosen, not measured: the tree is refined
afterwards, which matters more (docs/decisions/0009)."""
SHORT_LIST = 8
"""Candidates for the head of a cluster whose delay is measured: as many as the near nodes that each node measures
(Effort.near), within the same budget of probes."""
ROUNDS = 8
"""Iterations of k-means; it need not converge, because the tree is refined afterwards."""

Cluster = tuple[int, Ints]
"""A head, and the nodes of its cluster that still need a parent."""


def clustered_tree(measured: Measured, positions: Floats, slots: Ints, rng: np.random.Generator) -> Survey[Ints]:
    """The parents, shape (n,); -1 for nodes left over because the fan-outs in their cluster did not suffice.

    If no node may send two copies there are no clusters, and all nodes are left over.

    Args:
        positions: shape (n, d), coordinates, ms.
        slots: shape (n,), maximum fan-out of each node.
    """
    parent = np.full(len(slots), NO_NODE, np.int64)
    level: list[Cluster] = [(PUBLISHER, np.arange(1, len(slots)))] if slots.max() > 1 else []
    while level:
        candidates: list[Cluster] = []
        middles: list[Floats] = []
        for head, members in level:
            if len(members) <= slots[head]:
                candidates += [(head, members[place : place + 1]) for place in range(len(members))]
                middles += list(positions[members])
                continue
            for cluster in _clusters(positions[members], int(slots[head]), rng):
                candidates.append((head, members[cluster]))
                middles.append(positions[members[cluster]].mean(axis=0))
        lists = [
            _short_list(positions, slots, *candidate, middle)
            for candidate, middle in zip(candidates, middles, strict=True)
        ]
        if lists:
            heads = np.concatenate([np.full(len(s), c[0]) for c, s in zip(candidates, lists, strict=True)])
            yield from measured.measure(heads, np.concatenate(lists))
        level = []
        for (above, members), short, middle in zip(candidates, lists, middles, strict=True):
            if len(short):
                delay = measured.known_ms(np.full(len(short), above), short)
                estimate = np.linalg.norm(positions[short] - positions[above], axis=1)
                delay = np.where(np.isfinite(delay), delay, estimate)
                off_centre = np.linalg.norm(positions[short] - middle, axis=1)
                head = int(short[np.argmin(delay + CENTRE_WEIGHT * off_centre)])
                parent[head] = above
                if len(members) > 1:
                    level.append((head, members[members != head]))
    return parent


def _short_list(positions: Floats, slots: Ints, above: int, members: Ints, middle: Floats) -> Ints:
    """The candidates for the head of a cluster, best first by coordinates; empty if no member may send a copy."""
    able = members if len(members) == 1 else members[slots[members] > 0]
    near = np.linalg.norm(positions[able] - positions[above], axis=1)
    score = near + CENTRE_WEIGHT * np.linalg.norm(positions[able] - middle, axis=1)
    return able[np.argsort(score, kind="stable")[:SHORT_LIST]]


def _clusters(points: Floats, count: int, rng: np.random.Generator) -> list[Ints]:
    """At most `count` clusters of points, shape (p, d), as arrays of indices: k-means from the starts of k-means++."""
    if count <= 1:
        return [np.arange(len(points))] if count else []
    centres = points[_spread_out(points, count, rng)]
    nearest = np.zeros(len(points), np.int64)
    for _ in range(ROUNDS):
        apart = (centres**2).sum(axis=1)[None, :] - 2 * points @ centres.T
        nearest = apart.argmin(axis=1)
        held = np.bincount(nearest, minlength=len(centres))
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, points)
        centres = np.where(held[:, None] > 0, sums / np.maximum(held, 1)[:, None], centres)
    return [members for members in (np.flatnonzero(nearest == c) for c in range(len(centres))) if len(members)]


def _spread_out(points: Floats, count: int, rng: np.random.Generator) -> Ints:
    """The starts of k-means++: a point is drawn with a probability proportional to its squared distance to the others."""
    chosen = [int(rng.integers(len(points)))]
    apart = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < count and apart.sum() > 0:
        chosen.append(int(np.searchsorted(np.cumsum(apart), rng.random() * apart.sum())))
        apart = np.minimum(apart, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return np.array(chosen)
