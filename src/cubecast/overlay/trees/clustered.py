"""Clustered tree: hubs for the far. Recursive k-means over coordinates, one cluster for each copy a head may send.

The head of a cluster is the member that is soon reached from the head above and lies near the cluster's middle:
it minimises delay(above, member) + CENTRE_WEIGHT * distance(member, middle). Coordinates choose a short list; only the
short list is measured.
"""

import numpy as np

from cubecast.overlay.trees.measured import Measured, Survey
from cubecast.overlay.trees.tree import NOBODY, PUBLISHER
from cubecast.types import Floats, Ints

CENTRE_WEIGHT = 0.3
SHORT_LIST = 8
ROUNDS = 8
"""Of k-means; the clusters need not be perfect."""

Cluster = tuple[int, Ints]
"""A head, and the nodes it has to serve."""


def clustered_tree(measured: Measured, positions: Floats, slots: Ints, rng: np.random.Generator) -> Survey[Ints]:
    """The tree's parents, shape (n,); -1 where the fan-outs of a cluster's members did not suffice.

    Where nobody sends two copies there is nothing to cluster, and nobody is attached.

    Args:
        positions: shape (n, d), coordinates, ms.
        slots: shape (n,), copies each node may send.
    """
    parent = np.full(len(slots), NOBODY, np.int64)
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
            yield from measured.ask(heads, np.concatenate(lists))
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
    """The members best placed to head a cluster, as far as coordinates tell; none when none may send a copy."""
    able = members if len(members) == 1 else members[slots[members] > 0]
    near = np.linalg.norm(positions[able] - positions[above], axis=1)
    score = near + CENTRE_WEIGHT * np.linalg.norm(positions[able] - middle, axis=1)
    return able[np.argsort(score, kind="stable")[:SHORT_LIST]]


def _clusters(points: Floats, count: int, rng: np.random.Generator) -> list[Ints]:
    """At most `count` clusters of points, shape (p, d), as lists of indices; k-means from far-apart starts."""
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
    """Starts for k-means: each next one with probability proportional to its squared distance (k-means++)."""
    chosen = [int(rng.integers(len(points)))]
    apart = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < count and apart.sum() > 0:
        chosen.append(int(np.searchsorted(np.cumsum(apart), rng.random() * apart.sum())))
        apart = np.minimum(apart, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return np.array(chosen)
