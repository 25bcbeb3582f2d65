"""Deliveries from one publisher to many subscribers by every method, and their metrics.

Each method gets the same network, publisher and subscribers. It returns the delay of every subscriber and the copies that
hosts send; all metrics follow from these.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cubecast.lab.compilation import compiled
from cubecast.lab.experiment import Row
from cubecast.lab.metric_rows import penalty_row, stress_row
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
    """The delivery of one publisher's stream to its subscribers.

    Attributes:
        late_ms: shape (g,), end-to-end delay of each subscriber.
        senders, receivers: shape (copies,), the hosts that send and receive each copy.
        links: mean number of links that a host keeps for the method.
        probes: mean number of round trips measured by a host.
        two_parents: number of labels that receive the stream from two parents.
    """

    late_ms: Floats
    senders: Ints
    receivers: Ints
    links: float
    probes: float
    two_parents: int = 0


@dataclass(frozen=True, slots=True)
class DeliverySetting:
    """The network and group of a delivery.

    Attributes:
        group: shape (g + 1,), hosts; the publisher first.
        over: the cube of all hosts; None if no method over the cube is used.
        seat: shape (hosts,), each host's own label in `over`; None likewise.
        tables: Pastry's tables of all hosts; None if Scribe is not used.
    """

    network: PhysicalNetwork
    group: Ints
    over: Overlay | None = None
    seat: Ints | None = None
    tables: Pastry | None = None

    @property
    def delays(self) -> Delays:
        """The delays among the hosts of the group, numbered as in `group`: the publisher is 0."""
        return members(self.network.delays, self.group)

    @property
    def unicast_ms(self) -> Floats:
        """Shape (g,), each subscriber's direct delay from the publisher."""
        return delays_from(self.delays, 0)[1:]


def full_pns(delays: Delays, rng: np.random.Generator) -> Pastry:
    """Pastry tables of base 16 with full proximity neighbour selection."""
    return pastry(delays, 16, FULL_PNS, rng)


def deliver(method: str, setting: DeliverySetting, fan_out: int, rng: np.random.Generator) -> Delivery:
    """Delivers by one of METHODS; `fan_out` applies to those of SURVEYS, the others have no limit."""
    if method in SURVEYS:
        survey = compiled(SURVEYS[method])(equal_requirements(len(setting.group), fan_out), rng)
        return surveyed(survey, setting)
    if method in UNIONS:
        return _over_cube(method, setting, rng)
    if method == "scribe-pns":
        return _scribe(setting)
    return _star(setting) if method == "star" else _limit(setting)


def surveyed(survey: Survey[Ints], setting: DeliverySetting) -> Delivery:
    """A delivery over the tree that a survey finds; the survey numbers hosts as the group does."""
    delays = setting.delays
    parent, probed = run_survey(survey, lambda pairs: measure_pairs(delays, pairs))
    late = compiled(tree_delays)(parent, delays)[1:]
    nodes = len(parent)
    return Delivery(late, setting.group[parent[1:]], setting.group[1:], 2 * (nodes - 1) / nodes, probed / nodes)


def _over_cube(method: str, setting: DeliverySetting, rng: np.random.Generator) -> Delivery:
    assert setting.over is not None
    assert setting.seat is not None
    labels = setting.seat[setting.group]
    union = compiled(UNIONS[method])(setting.over, labels[1:], int(labels[0]), rng)
    senders, receivers = copies_sent(setting.over, union)
    host, near = setting.over.host, setting.over.neighbour
    links = np.unique(np.repeat(host.astype(np.int64), near.shape[1]) * len(host) + host[near].ravel())
    between_hosts = links // len(host) != links % len(host)
    per_host = between_hosts.sum() / setting.network.hosts
    return Delivery(
        union.delay_ms[labels[1:]], senders, receivers, per_host, per_host / 2, int((union.feeds.sum(axis=1) > 1).sum())
    )


def _scribe(setting: DeliverySetting) -> Delivery:
    assert setting.tables is not None
    parent, late = compiled(scribe_tree)(
        setting.tables, setting.network.delays, setting.group[1:], int(setting.group[0])
    )
    receivers = np.flatnonzero(parent >= 0)
    entries = float((setting.tables.table >= 0).sum() / setting.network.hosts)
    probes = (setting.network.hosts - 1) / 2  # finding the nearest of all needs every pair measured
    return Delivery(late[setting.group[1:]], parent[receivers].astype(np.int64), receivers, entries, probes)


def _star(setting: DeliverySetting) -> Delivery:
    nodes = len(setting.group)
    senders = np.full(nodes - 1, setting.group[0])
    return Delivery(setting.unicast_ms, senders, setting.group[1:], 2 * (nodes - 1) / nodes, 0.0)


def _limit(setting: DeliverySetting) -> Delivery:
    """Shortest paths over all pairs of the group without a limit on fan-out: no tree of these hosts has lower delays."""
    parent, late = compiled(shortest_paths)(setting.delays)
    nodes = len(parent)
    return Delivery(late[1:], setting.group[parent[1:]], setting.group[1:], 2 * (nodes - 1) / nodes, (nodes - 1) / 2)


@kernel
def shortest_paths(delays: Delays) -> tuple[Ints, Floats]:
    """Dijkstra from node 0 over all pairs, in n^2 steps, without a matrix of pairs.

    Returns:
        parent: shape (n,), -1 for node 0.
        late_ms: shape (n,), delay from node 0.
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


def delivery_row(delivery: Delivery, setting: DeliverySetting) -> Row:
    """Every metric of a delivery."""
    copies = np.bincount(delivery.senders, minlength=setting.network.hosts)
    return {
        "fan_out_max": int(copies.max(initial=0)),
        **penalty_row(delivery.late_ms, setting.unicast_ms),
        **stress_row(copies_stress(setting.network, delivery.senders, delivery.receivers)),
        "links_per_host": round(delivery.links, 2),
        "probes_per_host": round(delivery.probes, 2),
    }
