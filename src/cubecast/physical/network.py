"""The physical network: one-way delays between hosts and the physical links on the way."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from cubecast.errors import NetworkFileError, UsageError
from cubecast.types import Floats, Ints

HOSTS_MAX = 65_536


class PhysicalNetwork(Protocol):
    """What the emulator and the lab ask of a network of m hosts."""

    @property
    def name(self) -> str:
        """How a report names it."""

    @property
    def delay_ms(self) -> Floats:
        """One-way delays, shape (m, m), ms; zero on the diagonal."""

    def path_links(self, source: int, target: int) -> list[int]:
        """Ids of the physical links a packet crosses from one host to another."""


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

    def matrix(self) -> csr_matrix:
        """The symmetric sparse latency matrix, shape (routers, routers), ms; parallel links keep the faster one."""
        low, high = self.edges.min(axis=1), self.edges.max(axis=1)
        order = np.argsort(self.latency_ms, kind="stable")
        _, first = np.unique(low[order] * self.routers + high[order], return_index=True)
        keep = order[first]
        rows = np.concatenate([low[keep], high[keep]])
        columns = np.concatenate([high[keep], low[keep]])
        latency = np.concatenate([self.latency_ms[keep], self.latency_ms[keep]])
        return csr_matrix((latency, (rows, columns)), shape=(self.routers, self.routers))


class RoutedNetwork:
    """Hosts attached to the routers of a topology; packets follow shortest paths.

    Link ids: the router pair a < b is a * routers + b; the access link of host h is routers^2 + h.
    """

    def __init__(self, topology: Topology, host_router: Ints, access_ms: Floats) -> None:
        """Attaches hosts.

        Args:
            host_router: shape (m,), each host's router.
            access_ms: shape (m,), each host's one-way access latency, ms.

        Raises:
            NetworkFileError: some host cannot reach another.
        """
        self.name = topology.name
        self._routers = topology.routers
        self._host_router = host_router
        used, self._row = np.unique(host_router, return_inverse=True)
        between, self._previous = dijkstra(topology.matrix(), indices=used, return_predecessors=True)
        delay = between[self._row][:, host_router] + access_ms[:, None] + access_ms[None, :]
        if not np.isfinite(delay).all():
            raise NetworkFileError(f"network {topology.name}: not every host can reach every other; join its parts")
        np.fill_diagonal(delay, 0.0)
        self.delay_ms: Floats = delay

    def path_links(self, source: int, target: int) -> list[int]:
        """Ids of the physical links a packet crosses from one host to another."""
        access = self._routers * self._routers
        links = [access + source]
        at, end = int(self._host_router[target]), int(self._host_router[source])
        while at != end:
            before = int(self._previous[self._row[source], at])
            links.append(min(at, before) * self._routers + max(at, before))
            at = before
        links.append(access + target)
        return links


def attach(topology: Topology, hosts: int, access_ms: tuple[float, float], rng: np.random.Generator) -> RoutedNetwork:
    """Puts hosts on random access routers with a uniform access latency.

    Raises:
        UsageError: no host, or more than 65 536.
    """
    check_hosts(hosts)
    routers = rng.choice(topology.access_routers, size=hosts, replace=hosts > len(topology.access_routers))
    return RoutedNetwork(topology, routers, rng.uniform(*access_ms, size=hosts))


def check_hosts(hosts: int) -> None:
    """Refuses an impossible number of hosts.

    Raises:
        UsageError: no host, or more than 65 536.
    """
    if not 1 <= hosts <= HOSTS_MAX:
        raise UsageError(f"{hosts} hosts: the number of hosts is 1 to {HOSTS_MAX}")
