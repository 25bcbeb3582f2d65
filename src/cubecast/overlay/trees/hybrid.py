"""Hybrid tree: the better of a clustered and a compact tree, improved by local search over measured delays.

1. Landmarks give every node coordinates; each node measures its delay to a few close and a few random others.
2. Two trees are built: the clustered one, which serves each distant region through one host, and the compact one, which
   finds paths shorter than the direct one. Both are refined over the measured pairs; the better one is kept.
3. In each round, nodes measure their most promising relatives and the tree is refined again, until the limit on
   measured pairs is reached or a round improves the objective too little.
4. The remaining measurements go to more close and random pairs. A compact tree over all measured pairs is built; the
   better of it and the tree so far is the result.

The objective is the weighted delay of all nodes plus the weighted length of all links, a proxy for the load on the
physical network.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from cubecast.errors import UsageError
from cubecast.overlay.coordinates import DIMENSIONS, LANDMARKS, landmark_coordinates
from cubecast.overlay.trees.clustered import clustered_tree
from cubecast.overlay.trees.compact import compact_tree
from cubecast.overlay.trees.measured import Measured, Survey
from cubecast.overlay.trees.refine import refined_tree, tree_state
from cubecast.overlay.trees.relatives import promising_relatives
from cubecast.overlay.trees.tree import PUBLISHER, breadth_first
from cubecast.types import Floats, Ints


class Effort(NamedTuple):
    """Limits on the search for a tree, and the weight of links in its objective.

    The defaults are from docs/decisions/0009: 64 probes for each host lose 2 to 3 % against all pairs; 4 to 16 near hosts,
    random hosts and relatives change the delay by 1 to 3 %; the weight of links trades load on the network for 1 to 4 % of
    delay. The rounds and the sweeps are bounds on the time: `gain_min`, or too little gain in a sweep, usually ends first.

    Attributes:
        probes: maximum number of measured pairs, per node on average.
        near: number of nearest nodes by coordinates that each node measures first.
        random: number of random nodes that each node measures first.
        relatives: number of relatives that each node measures per round.
        rounds: maximum number of rounds of measuring relatives.
        gain_min: the rounds end after one that reduces the objective by a smaller share than this.
        link_weight: weight of 1 ms of link length, against 1 ms of a node's delay, for LOADED_NODES nodes or more.
        sweeps: maximum number of sweeps of each refinement.
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
"""The default limits."""
LOADED_NODES = 4096
"""Group size from which link length has its full weight in the objective; below, the weight is proportional to size."""
SWEEP_WORK_MAX = 4_000_000_000
"""Maximum of (sweeps * measured pairs * depth of the tree) in one refinement: deep trees get fewer sweeps."""


class Requirements(NamedTuple):
    """What a tree over n nodes must satisfy and minimise; node 0 is the publisher.

    Attributes:
        slots: shape (n,), maximum fan-out of each node.
        weight: shape (n,), weight of 1 ms of each node's delay in the objective.
        bound_ms: shape (n,), bound of each node; infinite for none.
    """

    slots: Ints
    weight: Floats
    bound_ms: Floats


def equal_requirements(nodes: int, fan_out: int) -> Requirements:
    """Requirements of nodes with the same fan-out, the same weight and no bounds.

    Raises:
        UsageError: a fan-out below 1.
    """
    if fan_out < 1:
        raise UsageError(f"fan-out {fan_out}: give 1 or more, because with 0 no host may send a copy")
    return Requirements(
        np.full(nodes, min(fan_out, max(1, nodes - 1)), np.int64), np.ones(nodes), np.full(nodes, np.inf)
    )


def hybrid_tree(required: Requirements, rng: np.random.Generator, effort: Effort = EFFORT) -> Survey[Ints]:
    """The parents of the hybrid tree, shape (n,).

    Raises:
        UsageError: the fan-outs do not suffice for all nodes.
    """
    nodes = len(required.slots)
    measured = Measured(nodes, pairs_max(effort, nodes))
    positions = yield from landmark_positions(measured, rng)
    yield from measured.measure(np.full(nodes, PUBLISHER), np.arange(nodes))
    yield from measure_around(measured, positions, effort.near, effort.random, rng)
    clustered = yield from clustered_tree(measured, positions, required.slots, rng)
    yield from complete_tree(measured, clustered, positions, required.slots)
    compact = compact_tree(measured.graph(), required.slots)
    yield from complete_tree(measured, compact, positions, required.slots)
    starts = [refined(measured, start, required, effort, rng) for start in (clustered, compact)]
    costs = [objective(measured, start, required, effort) for start in starts]
    parent = starts[int(np.argmin(costs))]
    parent = yield from refined_among_relatives(measured, parent, positions, required, rng, effort)
    left = int(effort.probes - measured.pairs / nodes)
    if left > 1:  # with small fan-outs there are few relatives to measure
        yield from measure_around(measured, positions, effort.near + left // 2, left - left // 2, rng)
    compact = compact_tree(measured.graph(), required.slots)
    yield from complete_tree(measured, compact, positions, required.slots)
    ends = [refined(measured, end, required, effort, rng) for end in (parent, compact)]
    return ends[int(np.argmin([objective(measured, end, required, effort) for end in ends]))]


def pairs_max(effort: Effort, nodes: int) -> int:
    """The maximum number of measured pairs, less one per node, reserved for links of the tree that must be measured."""
    return int((effort.probes - 1) * nodes)


def refined_among_relatives(
    measured: Measured,
    parent: Ints,
    positions: Floats,
    required: Requirements,
    rng: np.random.Generator,
    effort: Effort,
) -> Survey[Ints]:
    """The parents after rounds in which nodes measure their most promising relatives and the tree is refined."""
    cost = objective(measured, parent, required, effort)
    for _ in range(effort.rounds):
        pairs_before = measured.pairs
        yield from measure_relatives(measured, parent, positions, required, effort.relatives)
        if measured.pairs == pairs_before:
            break
        parent = refined(measured, parent, required, effort, rng)
        before, cost = cost, objective(measured, parent, required, effort)
        if before - cost < effort.gain_min * before:
            break
    return parent


def clustered_alone(required: Requirements, rng: np.random.Generator, effort: Effort = EFFORT) -> Survey[Ints]:
    """The parents of the clustered tree without refinement, for comparison."""
    _, _, parent = yield from _clustered_start(required, rng, effort)
    return parent


def clustered_refined(required: Requirements, rng: np.random.Generator, effort: Effort = EFFORT) -> Survey[Ints]:
    """The parents of the clustered tree, refined by measuring relatives, for comparison."""
    measured, positions, parent = yield from _clustered_start(required, rng, effort)
    return (yield from refined_among_relatives(measured, parent, positions, required, rng, effort))


def _clustered_start(
    required: Requirements, rng: np.random.Generator, effort: Effort
) -> Survey[tuple[Measured, Floats, Ints]]:
    measured = Measured(len(required.slots), pairs_max(effort, len(required.slots)))
    positions = yield from landmark_positions(measured, rng)
    parent = yield from clustered_tree(measured, positions, required.slots, rng)
    yield from complete_tree(measured, parent, positions, required.slots)
    return measured, positions, parent


def compact_alone(required: Requirements, rng: np.random.Generator, effort: Effort = EFFORT) -> Survey[Ints]:
    """The parents of the compact tree over the maximum number of pairs, half close, half random, for comparison."""
    nodes = len(required.slots)
    measured = Measured(nodes, pairs_max(effort, nodes))
    positions = yield from landmark_positions(measured, rng)
    yield from measured.measure(np.full(nodes, PUBLISHER), np.arange(nodes))
    each = int(effort.probes - measured.pairs / nodes) // 2
    yield from measure_around(measured, positions, each, each, rng)
    parent = compact_tree(measured.graph(), required.slots)
    yield from complete_tree(measured, parent, positions, required.slots)
    return parent


def landmark_positions(measured: Measured, rng: np.random.Generator) -> Survey[Floats]:
    """Coordinates of all nodes, shape (n, d), ms, from measured delays to random landmarks."""
    nodes = measured.nodes
    landmarks = rng.permutation(nodes)[: min(LANDMARKS, nodes)]
    all_nodes = np.arange(nodes)
    for landmark in landmarks:
        yield from measured.measure(np.full(nodes, landmark), all_nodes, always=True)
    to_ms = np.column_stack([measured.known_ms(np.full(nodes, landmark), all_nodes) for landmark in landmarks])
    return landmark_coordinates(to_ms[landmarks], to_ms, DIMENSIONS)


def measure_around(
    measured: Measured, positions: Floats, near: int, random: int, rng: np.random.Generator
) -> Survey[None]:
    """Measures each node's delay to the nodes nearest by coordinates and to random ones."""
    nodes = measured.nodes
    if near:
        _, nearest = cKDTree(positions).query(positions, min(near + 1, nodes))
        nearest = nearest.reshape(nodes, -1)
        yield from measured.measure(np.repeat(np.arange(nodes), nearest.shape[1]), nearest.ravel())
    if random:
        yield from measured.measure(np.repeat(np.arange(nodes), random), rng.integers(nodes, size=nodes * random))


def measure_relatives(
    measured: Measured, parent: Ints, positions: Floats, required: Requirements, count: int
) -> Survey[None]:
    """Measures the delay of each node to its most promising relatives, those with the greatest gain first."""
    graph = measured.graph()
    state = tree_state(graph, parent, required.slots, required.weight)
    relatives, gain_ms = promising_relatives(graph, state, positions, count)
    node, place = np.nonzero(relatives >= 0)
    order = np.argsort(-gain_ms[node, place], kind="stable")
    yield from measured.measure(node[order], relatives[node, place][order])


def link_weight(effort: Effort, nodes: int) -> float:
    """The weight of 1 ms of link length in a group of n nodes: small groups load the network little."""
    return effort.link_weight * min(1.0, nodes / LOADED_NODES)


def refined(measured: Measured, parent: Ints, required: Requirements, effort: Effort, rng: np.random.Generator) -> Ints:
    """The parents after a refinement over the measured pairs."""
    graph = measured.graph()
    work = max(1, len(graph.other) * _depth(parent))
    sweeps = max(0, min(effort.sweeps, SWEEP_WORK_MAX // work))
    return refined_tree(graph, parent, *required, link_weight(effort, len(parent)), sweeps, rng)


def objective(measured: Measured, parent: Ints, required: Requirements, effort: Effort) -> float:
    """The quantity that a refinement reduces, ms: weighted delays plus weighted link lengths."""
    state = tree_state(measured.graph(), parent, required.slots, required.weight)
    links = measured.known_ms(parent[1:], np.arange(1, len(parent)))
    return float((state.delay_ms * required.weight).sum() + link_weight(effort, len(parent)) * links.sum())


def complete_tree(measured: Measured, parent: Ints, positions: Floats, slots: Ints) -> Survey[None]:
    """Attaches the nodes without a parent, in place, to the nearest node by coordinates, and measures all links.

    Nodes with the greatest fan-out are attached first. If no node on the tree may send one more copy, the node replaces
    a leaf of fan-out 0, which becomes its child; so all nodes are attached whenever the fan-outs suffice in total.

    Raises:
        UsageError: the fan-outs do not suffice for all nodes.
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
    yield from measured.measure(parent[1:], np.arange(1, len(parent)), always=True)


def _nearest(positions: Floats, able: Ints, node: int) -> int:
    return int(able[np.argmin(np.linalg.norm(positions[able] - positions[node], axis=1))])


def _depth(parent: Ints) -> int:
    depth = np.zeros(len(parent), np.int64)
    for node in breadth_first(parent)[1:]:
        depth[node] = depth[parent[node]] + 1
    return int(depth.max())
