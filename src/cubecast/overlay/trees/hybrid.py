"""Hybrid tree: hubs for the far, measured detours for the rest, a local refine on top.

1. Landmarks place every node in coordinates; each node measures a few near and a few random others.
2. Two trees are started from: the clustered one, whose hubs serve far regions, and the compact one, which sees detours
   that coordinates cannot. Both are refined over the measured pairs; the better one stays.
3. In rounds, nodes measure the relatives that promise most, and the tree is refined again, until the budget of
   probes is spent or a round gains next to nothing.
4. What is left of the budget goes to more near and random pairs; a compact tree over all that is known has a last
   chance against the tree so far.

The objective is the weighted delay of all nodes plus the length of links used (the load on the physical network).
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from cubecast.errors import UsageError
from cubecast.overlay.coordinates import DIMENSIONS, LANDMARKS, landmark_coordinates
from cubecast.overlay.trees.clustered import clustered_tree
from cubecast.overlay.trees.compact import compact_tree
from cubecast.overlay.trees.measured import Measured, Survey
from cubecast.overlay.trees.refine import open_book, refined_tree
from cubecast.overlay.trees.relatives import promising_relatives
from cubecast.overlay.trees.tree import PUBLISHER, breadth_first
from cubecast.types import Floats, Ints


class Effort(NamedTuple):
    """How much a tree may cost to find.

    Attributes:
        probes: pairs measured for each node on average, at most.
        near: nearest nodes by coordinates that each node measures.
        random: random nodes that each node measures.
        relatives: relatives that each node measures in a round.
        rounds: rounds of measuring relatives, at most.
        gain_min: a round that gains a smaller share of the objective is the last.
        link_weight: what a millisecond of a link's length counts, against one of a node's delay, in a large group.
        sweeps: of a refine, at most.
    """

    probes: float = 64.0
    near: int = 8
    random: int = 8
    relatives: int = 12
    rounds: int = 6
    gain_min: float = 0.002
    link_weight: float = 0.5
    sweeps: int = 40


EFFORT = Effort()
LOADED_NODES = 4096
"""From this size on the load on the network counts in full."""
SWEEP_WORK_MAX = 4_000_000_000
"""Steps all sweeps of a refine may take: trees as deep as a chain are refined less."""


class Wanted(NamedTuple):
    """What a tree has to do for n nodes; node 0 is the publisher.

    Attributes:
        slots: shape (n,), copies each node may send.
        weight: shape (n,), what a millisecond of a node's delay counts.
        bound_ms: shape (n,), each node's own bound; infinite for none.
    """

    slots: Ints
    weight: Floats
    bound_ms: Floats


def wanted(nodes: int, fan_out: int) -> Wanted:
    """Everyone alike, without bounds.

    Raises:
        UsageError: a fan-out below 1.
    """
    if fan_out < 1:
        raise UsageError(f"fan-out {fan_out}: give 1 or more, somebody has to send copies")
    return Wanted(np.full(nodes, min(fan_out, max(1, nodes - 1)), np.int64), np.ones(nodes), np.full(nodes, np.inf))


def hybrid_tree(want: Wanted, rng: np.random.Generator, effort: Effort = EFFORT) -> Survey[Ints]:
    """The tree's parents, shape (n,).

    Raises:
        UsageError: the fan-outs cannot serve everyone.
    """
    nodes = len(want.slots)
    measured = Measured(nodes, budget(effort, nodes))
    positions = yield from locate(measured, rng)
    yield from measured.ask(np.full(nodes, PUBLISHER), np.arange(nodes))
    yield from measure_around(measured, positions, effort.near, effort.random, rng)
    clustered = yield from clustered_tree(measured, positions, want.slots, rng)
    yield from complete(measured, clustered, positions, want.slots)
    compact = compact_tree(measured.graph(), want.slots)
    yield from complete(measured, compact, positions, want.slots)
    starts = [improved(measured, start, want, effort, rng) for start in (clustered, compact)]
    costs = [objective(measured, start, want, effort) for start in starts]
    parent = starts[int(np.argmin(costs))]
    parent = yield from refined_among_relatives(measured, parent, positions, want, rng, effort)
    left = int(effort.probes - measured.pairs / nodes)
    if left > 1:  # few copies make few relatives
        yield from measure_around(measured, positions, effort.near + left // 2, left - left // 2, rng)
    compact = compact_tree(measured.graph(), want.slots)
    yield from complete(measured, compact, positions, want.slots)
    ends = [improved(measured, end, want, effort, rng) for end in (parent, compact)]
    return ends[int(np.argmin([objective(measured, end, want, effort) for end in ends]))]


def budget(effort: Effort, nodes: int) -> int:
    """Pairs that may be asked for; one a node is kept back for links that must be measured because the tree has them."""
    return int((effort.probes - 1) * nodes)


def refined_among_relatives(
    measured: Measured, parent: Ints, positions: Floats, want: Wanted, rng: np.random.Generator, effort: Effort
) -> Survey[Ints]:
    """The tree after rounds in which nodes measure promising relatives and the tree is refined."""
    cost = objective(measured, parent, want, effort)
    for _ in range(effort.rounds):
        asked = measured.pairs
        yield from measure_relatives(measured, parent, positions, want, effort.relatives)
        if measured.pairs == asked:
            break
        parent = improved(measured, parent, want, effort, rng)
        before, cost = cost, objective(measured, parent, want, effort)
        if before - cost < effort.gain_min * before:
            break
    return parent


def clustered_alone(want: Wanted, rng: np.random.Generator, effort: Effort = EFFORT) -> Survey[Ints]:
    """The clustered tree as it comes from the coordinates, for comparison."""
    _, _, parent = yield from _clustered_start(want, rng, effort)
    return parent


def clustered_refined(want: Wanted, rng: np.random.Generator, effort: Effort = EFFORT) -> Survey[Ints]:
    """The clustered tree, refined among its relatives until the budget is spent, for comparison."""
    measured, positions, parent = yield from _clustered_start(want, rng, effort)
    return (yield from refined_among_relatives(measured, parent, positions, want, rng, effort))


def _clustered_start(want: Wanted, rng: np.random.Generator, effort: Effort) -> Survey[tuple[Measured, Floats, Ints]]:
    measured = Measured(len(want.slots), budget(effort, len(want.slots)))
    positions = yield from locate(measured, rng)
    parent = yield from clustered_tree(measured, positions, want.slots, rng)
    yield from complete(measured, parent, positions, want.slots)
    return measured, positions, parent


def compact_alone(want: Wanted, rng: np.random.Generator, effort: Effort = EFFORT) -> Survey[Ints]:
    """The compact tree over as many measured pairs as the budget allows, half near and half random, for comparison."""
    nodes = len(want.slots)
    measured = Measured(nodes, budget(effort, nodes))
    positions = yield from locate(measured, rng)
    yield from measured.ask(np.full(nodes, PUBLISHER), np.arange(nodes))
    each = int(effort.probes - measured.pairs / nodes) // 2
    yield from measure_around(measured, positions, each, each, rng)
    parent = compact_tree(measured.graph(), want.slots)
    yield from complete(measured, parent, positions, want.slots)
    return parent


def locate(measured: Measured, rng: np.random.Generator) -> Survey[Floats]:
    """Coordinates of all nodes from their delays to random landmarks, shape (n, d), ms."""
    nodes = measured.nodes
    landmarks = rng.permutation(nodes)[: min(LANDMARKS, nodes)]
    everyone = np.arange(nodes)
    for landmark in landmarks:
        yield from measured.ask(np.full(nodes, landmark), everyone, always=True)
    to_ms = np.column_stack([measured.known_ms(np.full(nodes, landmark), everyone) for landmark in landmarks])
    return landmark_coordinates(to_ms[landmarks], to_ms, DIMENSIONS)


def measure_around(
    measured: Measured, positions: Floats, near: int, random: int, rng: np.random.Generator
) -> Survey[None]:
    """Measures each node's nearest others by coordinates, and random ones."""
    nodes = measured.nodes
    if near:
        _, nearest = cKDTree(positions).query(positions, min(near + 1, nodes))
        nearest = nearest.reshape(nodes, -1)
        yield from measured.ask(np.repeat(np.arange(nodes), nearest.shape[1]), nearest.ravel())
    if random:
        yield from measured.ask(np.repeat(np.arange(nodes), random), rng.integers(nodes, size=nodes * random))


def measure_relatives(measured: Measured, parent: Ints, positions: Floats, want: Wanted, count: int) -> Survey[None]:
    """Measures the relatives that promise most to each node, the most promising first."""
    graph = measured.graph()
    book = open_book(graph, parent, want.slots, want.weight)
    relatives, sooner_ms = promising_relatives(graph, book, positions, count)
    node, place = np.nonzero(relatives >= 0)
    order = np.argsort(-sooner_ms[node, place], kind="stable")
    yield from measured.ask(node[order], relatives[node, place][order])


def link_weight(effort: Effort, nodes: int) -> float:
    """What a millisecond of a link's length counts in a group: few copies load no network."""
    return effort.link_weight * min(1.0, nodes / LOADED_NODES)


def improved(measured: Measured, parent: Ints, want: Wanted, effort: Effort, rng: np.random.Generator) -> Ints:
    """The tree after a refine over what is measured."""
    graph = measured.graph()
    work = max(1, len(graph.other) * _depth(parent))
    sweeps = max(0, min(effort.sweeps, SWEEP_WORK_MAX // work))
    return refined_tree(graph, parent, *want, link_weight(effort, len(parent)), sweeps, rng)


def objective(measured: Measured, parent: Ints, want: Wanted, effort: Effort) -> float:
    """What a refine makes smaller, ms."""
    book = open_book(measured.graph(), parent, want.slots, want.weight)
    links = measured.known_ms(parent[1:], np.arange(1, len(parent)))
    return float((book.late_ms * want.weight).sum() + link_weight(effort, len(parent)) * links.sum())


def complete(measured: Measured, parent: Ints, positions: Floats, slots: Ints) -> Survey[None]:
    """Attaches who is left over near to it, and measures every link of the tree.

    The hosts with most copies go first. Where nobody may send one more copy, such a host takes the place of a leaf that
    may send none, which moves below it: so everyone is served whenever the fan-outs add up.

    Raises:
        UsageError: the fan-outs cannot serve everyone.
    """
    if slots[PUBLISHER] < 1 or int(slots.sum()) < len(parent) - 1:
        raise UsageError(
            f"fan-outs that add up to {slots.sum()}, {slots[PUBLISHER]} of them the publisher's, cannot serve "
            f"{len(parent) - 1} subscribers; let hosts send more copies"
        )
    left = [node for node in range(1, len(parent)) if parent[node] < 0]
    served = np.ones(len(parent), bool)
    served[left] = False
    copies = np.bincount(parent[parent >= 0], minlength=len(parent))
    for node in sorted(left, key=lambda each: (-slots[each], each)):
        able = np.flatnonzero(served & (copies < slots))
        if len(able):
            above = _nearest(positions, able, node)
        else:
            leaf = _nearest(positions, np.flatnonzero(served & (slots == 0)), node)
            above = int(parent[leaf])
            parent[leaf], copies[node] = node, 1
            copies[above] -= 1
        parent[node] = above
        copies[above] += 1
        served[node] = True
    yield from measured.ask(parent[1:], np.arange(1, len(parent)), always=True)


def _nearest(positions: Floats, able: Ints, node: int) -> int:
    return int(able[np.argmin(np.linalg.norm(positions[able] - positions[node], axis=1))])


def _depth(parent: Ints) -> int:
    depth = np.zeros(len(parent), np.int64)
    for node in breadth_first(parent)[1:]:
        depth[node] = depth[parent[node]] + 1
    return int(depth.max())
