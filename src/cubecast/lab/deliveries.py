"""Deliveries: one publisher to many subscribers by every method, with what each costs.

Each method is given the same network, publisher and subscribers, and answers with the delay of every subscriber and
the copies that hosts send, from which all figures follow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cubecast.lab.experiment import Row
from cubecast.lab.kernels import compiled
from cubecast.lab.merit import penalty_row, stress_row
from cubecast.lab.populations import measure_pairs, members
from cubecast.lab.rivals.pastry import FULL_PNS, Pastry, pastry, scribe_tree
from cubecast.lab.stress import copies_stress
from cubecast.overlay.delays import Delays, delay_ms, delays_from
from cubecast.overlay.kernel import kernel
from cubecast.overlay.many_routes import Overlay
from cubecast.overlay.trees.hybrid import (
    clustered_alone,
    clustered_refined,
    compact_alone,
    equal_requirements,
    hybrid_tree,
)
from cubecast.overlay.trees.measured import Survey, run_survey
from cubecast.overlay.trees.tree import tree_delays
from cubecast.overlay.trees.union import PathUnion, copies_sent, graft_union, greedy_union, split_union
from cubecast.physical.network import PhysicalNetwork
from cubecast.types import Floats, Ints

SURVEYS: dict[str, Callable[..., Survey[Ints]]] = {
    "clustered": clustered_alone,
    "clustered-refined": clustered_refined,
    "compact": compact_alone,
    "hybrid": hybrid_tree,
}
UNIONS: dict[str, Callable[[Overlay, Ints, int, np.random.Generator], PathUnion]] = {
    "cube-greedy": greedy_union,
    "split": split_union,
    "graft": graft_union,
}
METHODS = ("star", *UNIONS, "scribe-pns", *SURVEYS, "limit")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One publisher's stream on its way to its subscribers.

    Attributes:
        late_ms: shape (g,), delay of each subscriber.
        senders, receivers: shape (copies,), hosts.
        links: links a host keeps for it, on average; whatever the group.
        probes: round trips measured for each host of the group, on average.
        two_parents: hosts or labels that are fed twice.
    """

    late_ms: Floats
    senders: Ints
    receivers: Ints
    links: float
    probes: float
    two_parents: int = 0


@dataclass(frozen=True, slots=True)
class DeliverySetting:
    """What a delivery stands on.

    Attributes:
        group: shape (g + 1,), hosts; the publisher first.
        over: the cube of all hosts, and the label of each host, for the methods that use it.
        tables: Pastry's, likewise.
    """

    network: PhysicalNetwork
    group: Ints
    over: Overlay | None = None
    seat: Ints | None = None
    tables: Pastry | None = None

    @property
    def delays(self) -> Delays:
        """The delays among the group, the publisher being 0."""
        return members(self.network.delays, self.group)

    @property
    def unicast_ms(self) -> Floats:
        """Each subscriber's direct delay."""
        return delays_from(self.delays, 0)[1:]


def full_pns(delays: Delays, rng: np.random.Generator) -> Pastry:
    """Pastry base 16 with full proximity neighbour selection."""
    return pastry(delays, 16, FULL_PNS, rng)


def deliver(method: str, stage: DeliverySetting, fan_out: int, rng: np.random.Generator) -> Delivery:
    """Delivers by a method of `METHODS`."""
    if method in SURVEYS:
        survey = compiled(SURVEYS[method])(equal_requirements(len(stage.group), fan_out), rng)
        return surveyed(survey, stage)
    if method in UNIONS:
        return _over_cube(method, stage, rng)
    if method == "scribe-pns":
        return _scribe(stage)
    return _star(stage) if method == "star" else _limit(stage)


def surveyed(survey: Survey[Ints], stage: DeliverySetting) -> Delivery:
    """A delivery over the tree that a survey finds; surveys are in the words of the group."""
    delays = stage.delays
    parent, asked = run_survey(survey, lambda pairs: measure_pairs(delays, pairs))
    late = compiled(tree_delays)(parent, delays)[1:]
    nodes = len(parent)
    return Delivery(late, stage.group[parent[1:]], stage.group[1:], 2 * (nodes - 1) / nodes, asked / nodes)


def _over_cube(method: str, stage: DeliverySetting, rng: np.random.Generator) -> Delivery:
    assert stage.over is not None
    assert stage.seat is not None
    labels = stage.seat[stage.group]
    union = compiled(UNIONS[method])(stage.over, labels[1:], int(labels[0]), rng)
    senders, receivers = copies_sent(stage.over, union)
    host, near = stage.over.host, stage.over.neighbour
    links = np.unique(np.repeat(host.astype(np.int64), near.shape[1]) * len(host) + host[near].ravel())
    apart = links // len(host) != links % len(host)
    per_host = apart.sum() / stage.network.hosts
    return Delivery(
        union.delay_ms[labels[1:]], senders, receivers, per_host, per_host / 2, int((union.feeds.sum(axis=1) > 1).sum())
    )


def _scribe(stage: DeliverySetting) -> Delivery:
    assert stage.tables is not None
    parent, late = compiled(scribe_tree)(stage.tables, stage.network.delays, stage.group[1:], int(stage.group[0]))
    receivers = np.flatnonzero(parent >= 0)
    entries = float((stage.tables.table >= 0).sum() / stage.network.hosts)
    everyone = (stage.network.hosts - 1) / 2  # the nearest of all is known by measuring all
    return Delivery(late[stage.group[1:]], parent[receivers].astype(np.int64), receivers, entries, everyone)


def _star(stage: DeliverySetting) -> Delivery:
    nodes = len(stage.group)
    senders = np.full(nodes - 1, stage.group[0])
    return Delivery(stage.unicast_ms, senders, stage.group[1:], 2 * (nodes - 1) / nodes, 0.0)


def _limit(stage: DeliverySetting) -> Delivery:
    """Shortest paths over all pairs of the group, any number of copies: nothing over these hosts is sooner."""
    parent, late = compiled(shortest_paths)(stage.delays)
    nodes = len(parent)
    return Delivery(late[1:], stage.group[parent[1:]], stage.group[1:], 2 * (nodes - 1) / nodes, (nodes - 1) / 2)


@kernel
def shortest_paths(delays: Delays) -> tuple[Ints, Floats]:
    """Dijkstra from node 0 over all pairs, in n^2 steps and no memory for pairs.

    Returns:
        parent: shape (n,), -1 for node 0.
        late_ms: shape (n,).
    """
    nodes = len(delays.at)
    parent, late = np.full(nodes, -1, np.int64), np.full(nodes, np.inf)
    done = np.zeros(nodes, np.bool_)
    late[0] = 0.0
    for _ in range(nodes):
        nearest, least = -1, np.inf
        for node in range(nodes):
            if not done[node] and late[node] < least:
                nearest, least = node, late[node]
        done[nearest] = True
        for node in range(nodes):
            reached = least + delay_ms(delays, nearest, node)
            if not done[node] and reached < late[node]:
                parent[node], late[node] = nearest, reached
    return parent, late


def delivery_row(delivery: Delivery, stage: DeliverySetting) -> Row:
    """Every figure of a delivery."""
    copies = np.bincount(delivery.senders, minlength=stage.network.hosts)
    return {
        "fan_out_max": int(copies.max(initial=0)),
        **penalty_row(delivery.late_ms, stage.unicast_ms),
        **stress_row(copies_stress(stage.network, delivery.senders, delivery.receivers)),
        "links_per_host": round(delivery.links, 2),
        "probes_per_host": round(delivery.probes, 2),
    }
