"""The physical network: one-way delays between hosts and the physical links on the way."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from cubecast.errors import NetworkFileError, UsageError
from cubecast.overlay.delays import Delays, delay_matrix
from cubecast.types import Floats, Indices, Ints

HOSTS_MAX = 1 << 20
MATRIX_HOSTS_MAX = 8192
"""Beyond this a full matrix of delays would not fit ordinary machines."""
UNCOUNTED = -1
"""The link of a core that is not known: it carries traffic, but stress cannot be told."""


class Routes(NamedTuple):
    """Shortest paths from each attachment point, walked from the target back.

    Attributes:
        previous: shape (r, routers), the router before each on the path from a point; of a point's own router, itself.
        link: shape (r, routers), id of the link between the two, or `UNCOUNTED`.
        router: shape (r,), the router each attachment point is on.
        links: how many router links there are. Where there are none, only the access links can be told, and the access
            link of host h has id h; elsewhere they are left out, as in the literature: a host's fan-out tells them.
    """

    previous: Indices
    link: Indices
    router: Indices
    links: int


@dataclass(frozen=True, slots=True)
class Topology:
    """Routers joined by links, before any host is attached.

    Attributes:
        edges: shape (e, 2), router indices of each link.
        latency_ms: shape (e,), one way, > 0.
        access_routers: shape (a,), the routers a host may attach to.
    """

    name: str
    routers: int
    edges: Ints
    latency_ms: Floats
    access_routers: Ints

    def links(self) -> tuple[Ints, Ints, Floats]:
        """Each joined pair of routers once: its lower router, its higher one, the latency of its fastest link."""
        low, high = self.edges.min(axis=1), self.edges.max(axis=1)
        order = np.argsort(self.latency_ms, kind="stable")
        keys, first = np.unique(low[order] * self.routers + high[order], return_index=True)
        return keys // self.routers, keys % self.routers, self.latency_ms[order[first]]

    def matrix(self) -> csr_matrix:
        """The symmetric sparse latency matrix, shape (routers, routers), ms."""
        low, high, latency = self.links()
        return csr_matrix(
            (np.concatenate([latency, latency]), (np.concatenate([low, high]), np.concatenate([high, low]))),
            shape=(self.routers, self.routers),
        )


@dataclass(frozen=True, slots=True)
class PhysicalNetwork:
    """What the emulator and the lab ask of a network of m hosts."""

    name: str
    delays: Delays
    routes: Routes

    @property
    def hosts(self) -> int:
        """How many hosts it has."""
        return len(self.delays.at)

    def matrix_ms(self) -> Floats:
        """All one-way delays, shape (m, m), ms; zero on the diagonal.

        Raises:
            UsageError: too many hosts for a full matrix.
        """
        if self.hosts > MATRIX_HOSTS_MAX:
            raise UsageError(f"{self.hosts} hosts have too many pairs for this; give at most {MATRIX_HOSTS_MAX}")
        return delay_matrix(self.delays)

    def path_links(self, source: int, target: int) -> list[int]:
        """Ids of the physical links a packet crosses from one host to another, as far as they are known."""
        if source == target:
            return []
        r = self.routes
        point, at = self.delays.at[source], int(r.router[self.delays.at[target]])
        crossed = [] if r.links else [source]
        while at != r.router[point]:
            if r.link[point, at] != UNCOUNTED:
                crossed.append(int(r.link[point, at]))
            at = int(r.previous[point, at])
        return crossed if r.links else [*crossed, target]


def routed(topology: Topology, host_router: Ints, access_ms: Floats) -> PhysicalNetwork:
    """Hosts attached to the routers of a topology; packets follow shortest paths.

    Args:
        host_router: shape (m,), each host's router.
        access_ms: shape (m,), each host's one-way access latency, ms.

    Raises:
        NetworkFileError: some host cannot reach another.
    """
    used, at = np.unique(host_router, return_inverse=True)
    between, previous = dijkstra(topology.matrix(), indices=used, return_predecessors=True)
    if not np.isfinite(between[:, used]).all():
        raise NetworkFileError(f"network {topology.name}: not every host can reach every other; join its parts")
    previous = previous.astype(np.int32)
    previous[np.arange(len(used)), used] = used
    low, high, _ = topology.links()
    keys = low * topology.routers + high
    here = np.arange(topology.routers)[None, :]
    wanted = np.minimum(previous, here).astype(np.int64) * topology.routers + np.maximum(previous, here)
    link = np.searchsorted(keys, wanted).astype(np.int32)
    link[np.arange(len(used)), used] = UNCOUNTED
    one_way = between[:, used]
    symmetric = np.ascontiguousarray((one_way + one_way.T) / 2, dtype=np.float32)
    return PhysicalNetwork(
        topology.name,
        Delays(symmetric, at.astype(np.int32), access_ms.astype(np.float32)),
        Routes(previous, link, used.astype(np.int32), len(keys)),
    )


def unrouted(name: str, one_way_ms: Floats) -> PhysicalNetwork:
    """Hosts of whom only the delays are known, shape (m, m), ms.

    Each is given one access link and the core between them is taken as free: stress then counts what every host sends
    and receives.
    """
    hosts = len(one_way_ms)
    everyone = np.arange(hosts, dtype=np.int32)
    delays = Delays(np.ascontiguousarray(one_way_ms, dtype=np.float32), everyone, np.zeros(hosts, np.float32))
    previous = np.repeat(everyone[:, None], hosts, axis=1)
    return PhysicalNetwork(name, delays, Routes(previous, np.full_like(previous, UNCOUNTED), everyone, 0))


def attach(topology: Topology, hosts: int, access_ms: tuple[float, float], rng: np.random.Generator) -> PhysicalNetwork:
    """Puts hosts on random access routers with a uniform access latency.

    Raises:
        UsageError: no host, or too many.
    """
    check_hosts(hosts)
    routers = rng.choice(topology.access_routers, size=hosts, replace=hosts > len(topology.access_routers))
    return routed(topology, routers, rng.uniform(*access_ms, size=hosts))


def check_hosts(hosts: int) -> None:
    """Refuses an impossible number of hosts.

    Raises:
        UsageError: no host, or more than 2^20.
    """
    if not 1 <= hosts <= HOSTS_MAX:
        raise UsageError(f"{hosts} hosts: the number of hosts is 1 to {HOSTS_MAX}")
