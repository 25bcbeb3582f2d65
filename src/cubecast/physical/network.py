"""The physical network: one-way delays between hosts, and the physical links on each path."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from cubecast.errors import NetworkFileError, UsageError
from cubecast.overlay.delays import Delays, delay_matrix
from cubecast.types import Floats, Indices, Ints

HOSTS_MAX = 1 << 20
"""Maximum number of hosts of a network."""
MATRIX_HOSTS_MAX = 8192
"""Maximum number of hosts for a full delay matrix, which then takes 512 MiB."""
UNKNOWN_LINK = -1
"""Id of a link in an unknown core network: it carries traffic, but its stress cannot be computed."""


class Routes(NamedTuple):
    """Shortest paths from each attachment point to all routers, as trees of predecessors.

    Attributes:
        previous: shape (r, routers), the router before each router on the path from an attachment point; the router of
            the attachment point is its own predecessor.
        link: shape (r, routers), id of the link from that predecessor, or UNKNOWN_LINK.
        router: shape (r,), the router of each attachment point.
        links: number of links between routers. If it is 0, paths consist of the access links of the two hosts, and the
            access link of host h has id h. Otherwise paths omit access links, as is usual in the literature, because
            the stress of a host's access link follows from its fan-out.
    """

    previous: Indices
    link: Indices
    router: Indices
    links: int


@dataclass(frozen=True, slots=True)
class Topology:
    """Routers and the links between them, without hosts.

    Attributes:
        routers: number of routers.
        edges: shape (e, 2), the two routers of each link.
        latency_ms: shape (e,), one-way latency of each link, ms, > 0.
        access_routers: shape (a,), the routers that hosts may attach to.
    """

    name: str
    routers: int
    edges: Ints
    latency_ms: Floats
    access_routers: Ints

    def links(self) -> tuple[Ints, Ints, Floats]:
        """The distinct links: lower router, higher router, and the latency of the fastest link of each pair, ms."""
        low, high = self.edges.min(axis=1), self.edges.max(axis=1)
        order = np.argsort(self.latency_ms, kind="stable")
        keys, first = np.unique(low[order] * self.routers + high[order], return_index=True)
        return keys // self.routers, keys % self.routers, self.latency_ms[order[first]]

    def matrix(self) -> csr_matrix:
        """The symmetric sparse matrix of link latencies, shape (routers, routers), ms."""
        low, high, latency = self.links()
        return csr_matrix(
            (np.concatenate([latency, latency]), (np.concatenate([low, high]), np.concatenate([high, low]))),
            shape=(self.routers, self.routers),
        )


@dataclass(frozen=True, slots=True)
class PhysicalNetwork:
    """A network of m hosts, as used by the emulator and the lab."""

    name: str
    delays: Delays
    routes: Routes

    @property
    def hosts(self) -> int:
        """The number of hosts."""
        return len(self.delays.at)

    def matrix_ms(self) -> Floats:
        """All one-way delays, shape (m, m), ms; zero on the diagonal.

        Raises:
            UsageError: more than MATRIX_HOSTS_MAX hosts.
        """
        if self.hosts > MATRIX_HOSTS_MAX:
            raise UsageError(
                f"{self.hosts} hosts are too many for a full delay matrix; give at most {MATRIX_HOSTS_MAX}"
            )
        return delay_matrix(self.delays)

    def path_links(self, source: int, target: int) -> list[int]:
        """Ids of the known physical links that a packet from one host to another crosses, in arbitrary order."""
        if source == target:
            return []
        r = self.routes
        point, at = self.delays.at[source], int(r.router[self.delays.at[target]])
        crossed = [] if r.links else [source]
        while at != r.router[point]:
            if r.link[point, at] != UNKNOWN_LINK:
                crossed.append(int(r.link[point, at]))
            at = int(r.previous[point, at])
        return crossed if r.links else [*crossed, target]


def routed(topology: Topology, host_router: Ints, access_ms: Floats) -> PhysicalNetwork:
    """A network of hosts attached to the routers of a topology; packets take the path of least latency.

    Args:
        topology: routers and links.
        host_router: shape (m,), the router of each host.
        access_ms: shape (m,), the one-way access latency of each host, ms.

    Raises:
        NetworkFileError: two hosts are not connected.
    """
    used, at = np.unique(host_router, return_inverse=True)
    between, previous = dijkstra(topology.matrix(), indices=used, return_predecessors=True)
    if not np.isfinite(between[:, used]).all():
        raise NetworkFileError(f"network {topology.name}: not every host can reach every other; connect its parts")
    previous = previous.astype(np.int32)
    previous[np.arange(len(used)), used] = used
    low, high, _ = topology.links()
    keys = low * topology.routers + high
    here = np.arange(topology.routers)[None, :]
    pairs = np.minimum(previous, here).astype(np.int64) * topology.routers + np.maximum(previous, here)
    link = np.searchsorted(keys, pairs).astype(np.int32)
    link[np.arange(len(used)), used] = UNKNOWN_LINK
    one_way = between[:, used]
    symmetric = np.ascontiguousarray((one_way + one_way.T) / 2, dtype=np.float32)
    return PhysicalNetwork(
        topology.name,
        Delays(symmetric, at.astype(np.int32), access_ms.astype(np.float32)),
        Routes(previous, link, used.astype(np.int32), len(keys)),
    )


def unrouted(name: str, one_way_ms: Floats) -> PhysicalNetwork:
    """A network of which only the delays are known, shape (m, m), ms.

    Each host has one access link, and the core between them counts no stress: the stress of a link is then the number
    of copies that its host sends and receives.
    """
    hosts = len(one_way_ms)
    everyone = np.arange(hosts, dtype=np.int32)
    delays = Delays(np.ascontiguousarray(one_way_ms, dtype=np.float32), everyone, np.zeros(hosts, np.float32))
    previous = np.repeat(everyone[:, None], hosts, axis=1)
    return PhysicalNetwork(name, delays, Routes(previous, np.full_like(previous, UNKNOWN_LINK), everyone, 0))


def attach(topology: Topology, hosts: int, access_ms: tuple[float, float], rng: np.random.Generator) -> PhysicalNetwork:
    """A network of hosts on random access routers.

    Args:
        topology: routers and links.
        hosts: number of hosts.
        access_ms: range of the access latencies, which are uniformly distributed, ms.
        rng: source of the random choices.

    Raises:
        UsageError: the number of hosts is out of range.
    """
    check_hosts(hosts)
    routers = rng.choice(topology.access_routers, size=hosts, replace=hosts > len(topology.access_routers))
    return routed(topology, routers, rng.uniform(*access_ms, size=hosts))


def check_hosts(hosts: int) -> None:
    """Checks the number of hosts.

    Raises:
        UsageError: less than 1, or more than HOSTS_MAX.
    """
    if not 1 <= hosts <= HOSTS_MAX:
        raise UsageError(f"{hosts} hosts: the number of hosts is 1 to {HOSTS_MAX}")
