"""Generates transit-stub networks: of 5050 routers as in the slides, or of any other size.

The slides state only the numbers of routers and hosts. The division into domains and the latencies of links are our
choice, following the practice of GT-ITM (Zegura, Calvert, Bhattacharjee, INFOCOM 1996).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cubecast.errors import UsageError
from cubecast.physical.network import PhysicalNetwork, Topology, attach
from cubecast.types import Floats, Ints

ROUTERS_MAX = 20_000
"""Maximum number of routers of a generated network."""
ACCESS_MS = (0.5, 2.0)
"""Range of the one-way access latencies of hosts, ms."""
HIGH_ACCESS_MS = (5.0, 20.0)
"""The same for hosts on slow access lines (DSL, cable), through which relaying is expensive in delay, ms."""

Edges = list[tuple[int, int, float]]
"""Links: two routers and the latency in ms."""


@dataclass(frozen=True, slots=True)
class TransitStub:
    """Parameters of the generator; the defaults make 10 * 5 + 10 * 5 * 10 * 10 = 5050 routers.

    Attributes:
        transit_domains: number of transit domains.
        transit_routers: routers per transit domain.
        stubs_per_transit_router: stub domains connected to each transit router.
        stub_routers: routers per stub domain.
        extra_transit_stub: additional links between random transit and stub routers.
        extra_stub_stub: additional links between random stub routers.
        access_ms: range of the one-way access latencies of hosts, ms.
    """

    transit_domains: int = 10
    transit_routers: int = 5
    stubs_per_transit_router: int = 10
    stub_routers: int = 10
    extra_transit_stub: int = 50
    extra_stub_stub: int = 50
    access_ms: tuple[float, float] = ACCESS_MS

    @property
    def routers(self) -> int:
        """The total number of routers."""
        transit = self.transit_domains * self.transit_routers
        return transit + transit * self.stubs_per_transit_router * self.stub_routers


def transit_stub(hosts: int, seed: int, parameters: TransitStub | None = None) -> PhysicalNetwork:
    """A generated network with hosts on random stub routers; the same arguments give the same network.

    Raises:
        UsageError: the number of hosts or the size of the network is out of range.
    """
    p = parameters or TransitStub()
    sizes = (p.transit_domains, p.transit_routers, p.stubs_per_transit_router, p.stub_routers)
    if min(sizes) < 1 or p.routers > ROUTERS_MAX:
        raise UsageError(f"a transit-stub network of {p.routers} routers is impossible; give 2 to {ROUTERS_MAX}")
    rng = np.random.default_rng([seed, 5050])
    return attach(topology(p, rng), hosts, p.access_ms, rng)


def topology(parameters: TransitStub, rng: np.random.Generator) -> Topology:
    """The routers and links.

    Transit domains are at random points of a square with sides of 80 ms; stub domains are connected to transit routers.
    """
    p = parameters
    transit = np.arange(p.transit_domains * p.transit_routers).reshape(p.transit_domains, p.transit_routers)
    stubs = np.arange(transit.size * p.stubs_per_transit_router * p.stub_routers).reshape(
        transit.size, p.stubs_per_transit_router, p.stub_routers
    )
    stubs += transit.size
    edges = _between_domains(transit, rng)
    for domain in transit:
        edges += _random_graph(domain, 0.6, lambda: float(rng.uniform(5, 15)), rng)
    for gateway, domains in enumerate(stubs):
        for domain in domains:
            edges += _random_graph(domain, 0.2, lambda: float(rng.uniform(1, 4)), rng)
            edges.append((gateway, int(rng.choice(domain)), float(rng.uniform(2, 8))))
    all_stubs = stubs.reshape(-1)
    edges += _extra(transit.reshape(-1), all_stubs, p.extra_transit_stub, rng)
    edges += _extra(all_stubs, all_stubs, p.extra_stub_stub, rng)
    return Topology(
        name="transit-stub",
        routers=transit.size + stubs.size,
        edges=np.array([(a, b) for a, b, _ in edges], dtype=np.int64).reshape(-1, 2),
        latency_ms=np.array([latency for _, _, latency in edges], dtype=np.float64),
        access_routers=all_stubs,
    )


def _between_domains(transit: Ints, rng: np.random.Generator) -> Edges:
    where: Floats = rng.uniform(0, 80, size=(len(transit), 2))

    def latency(a: int, b: int) -> float:
        return max(5.0, float(np.hypot(*(where[a] - where[b]))))

    pairs = _spanning_tree(np.arange(len(transit)), rng)
    pairs += [(a, b) for a in range(len(transit)) for b in range(a) if rng.random() < 0.5 and (a, b) not in pairs]
    return [(int(rng.choice(transit[a])), int(rng.choice(transit[b])), latency(a, b)) for a, b in pairs]


def _random_graph(nodes: Ints, probability: float, latency: Callable[[], float], rng: np.random.Generator) -> Edges:
    """A connected random graph: a random spanning tree, and every other pair of nodes with the given probability."""
    tree = set(_spanning_tree(nodes, rng))
    more = {
        (int(a), int(b))
        for i, a in enumerate(nodes)
        for b in nodes[:i]
        if rng.random() < probability and (int(a), int(b)) not in tree
    }
    return [(a, b, latency()) for a, b in sorted(tree | more)]


def _spanning_tree(nodes: Ints, rng: np.random.Generator) -> list[tuple[int, int]]:
    """A random recursive tree over shuffled nodes; the greater node comes first in each pair."""
    order = rng.permutation(nodes)
    pairs = [(int(order[i]), int(order[rng.integers(i)])) for i in range(1, len(order))]
    return [(max(a, b), min(a, b)) for a, b in pairs]


def _extra(left: Ints, right: Ints, count: int, rng: np.random.Generator) -> Edges:
    ends = [(int(rng.choice(left)), int(rng.choice(right)), float(rng.uniform(20, 60))) for _ in range(count)]
    return [(a, b, latency) for a, b, latency in ends if a != b]
