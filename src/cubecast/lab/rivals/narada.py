"""Narada (Chu, Rao, Zhang, SIGMETRICS 2000): a mesh of which every member knows all, and shortest paths over it.

Members start with a few random neighbours. In each round a member probes some random members and adds a link if the sum of
its relative gains in delay to all members is large enough; it drops its least useful links if it has too many. Delivery
follows the source's shortest-path tree over the mesh. State and the cost of a round grow with the square of the group, so
groups are limited to 4 096 hosts.
"""

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from cubecast.errors import UsageError
from cubecast.lab.compilation import compiled
from cubecast.overlay.kernel import kernel
from cubecast.types import Bools, Floats, Ints

HOSTS_MAX = 4096
"""Maximum hosts of a mesh."""
LINKS_START = 4
"""Mean number of links of a member at the start."""
LINKS_MAX = 12
"""Number of links beyond which a member drops links."""
ROUNDS_MAX = 80
"""Maximum number of rounds; the mesh is used then even if it has not settled."""
PROBES = 4
"""Number of random members that each member probes in a round."""
PATIENCE = 5
"""Number of rounds over which a mesh that has settled improves by less than GAIN_MIN."""
GAIN_MIN = 0.005
"""Least share by which the mean path must become shorter in PATIENCE rounds, or else the mesh has settled."""
ADD_GAIN = 0.005
"""Minimum utility of a link to be added: the share of delay that it saves its end, averaged over all members (the paper
takes the sum)."""


def narada_tree(delay_ms: Floats, source: int, rng: np.random.Generator) -> tuple[Ints, Floats, float]:
    """The delivery tree of one source after the mesh has settled.

    Args:
        delay_ms: shape (m, m), one-way delays.

    Returns:
        parent: shape (m,), -1 for the source.
        late_ms: shape (m,), delay from the source.
        links: mean number of mesh links of a host.

    Raises:
        UsageError: more than 4 096 hosts.
    """
    hosts = len(delay_ms)
    if hosts > HOSTS_MAX:
        raise UsageError(f"with Narada every member knows all members: give at most {HOSTS_MAX} hosts, not {hosts}")
    mesh = _random_mesh(hosts, rng)
    means: list[float] = []
    for _ in range(ROUNDS_MAX):
        mesh_ms = dijkstra(_weights(mesh, delay_ms))
        means.append(float(mesh_ms.mean()))
        if len(means) > PATIENCE and means[-1 - PATIENCE] - means[-1] < GAIN_MIN * means[-1]:
            break
        compiled(add_links)(mesh, delay_ms, mesh_ms, rng.integers(hosts, size=(hosts, PROBES)))
        compiled(drop_links)(mesh, delay_ms, mesh_ms)
    late, parent = dijkstra(_weights(mesh, delay_ms), indices=np.array(source), return_predecessors=True)
    return np.where(parent < 0, -1, parent).astype(np.int64), late, float(mesh.sum() / hosts)


def _random_mesh(hosts: int, rng: np.random.Generator) -> Bools:
    """A ring in random order, so that the mesh is connected, and random links."""
    mesh = np.zeros((hosts, hosts), np.bool_)
    order = rng.permutation(hosts)
    mesh[order, np.roll(order, 1)] = True
    ends = rng.integers(hosts, size=(2, hosts * (LINKS_START - 2) // 2))
    mesh[ends[0], ends[1]] = True
    mesh |= mesh.T
    np.fill_diagonal(mesh, val=False)
    return mesh


@kernel
def add_links(mesh: Bools, delay_ms: Floats, mesh_ms: Floats, probed: Ints) -> None:
    """Adds each probed link whose utility exceeds ADD_GAIN, given this round's delays over the mesh."""
    hosts = len(mesh)
    for host in range(hosts):
        for other in probed[host]:
            if host == other or mesh[host, other]:
                continue
            utility = 0.0
            for member in range(hosts):
                through = delay_ms[host, other] + mesh_ms[other, member]
                if through < mesh_ms[host, member]:
                    utility += 1 - through / mesh_ms[host, member]
            if utility > ADD_GAIN * hosts:
                mesh[host, other] = mesh[other, host] = True


@kernel
def drop_links(mesh: Bools, delay_ms: Floats, mesh_ms: Floats) -> None:
    """Each host with more than LINKS_MAX links drops those with the least consensus cost, as the paper defines it.

    The consensus cost of a link is the number of members that an end reaches fastest over it, for the end where it is
    larger. If the mesh would fall apart without a link, the host keeps it and drops no more links in this round.
    """
    hosts = len(mesh)
    for host in range(hosts):
        links = mesh[host].sum()
        while links > LINKS_MAX:
            worst, least = -1, hosts + 1
            for other in range(hosts):
                if mesh[host, other]:
                    used, back, hop = 0, 0, delay_ms[host, other] - 1e-6
                    for member in range(hosts):
                        used += hop + mesh_ms[other, member] <= mesh_ms[host, member]
                        back += hop + mesh_ms[host, member] <= mesh_ms[other, member]
                    if max(used, back) < least:
                        worst, least = other, max(used, back)
            mesh[host, worst] = mesh[worst, host] = False
            if not _joined(mesh, host, worst):
                mesh[host, worst] = mesh[worst, host] = True
                break
            links -= 1


@kernel
def _joined(mesh: Bools, a: int, b: int) -> bool:
    """Whether the mesh has a path from one host to another."""
    hosts = len(mesh)
    seen = np.zeros(hosts, np.bool_)
    waiting = np.empty(hosts, np.int64)
    seen[a] = True
    waiting[0], held = a, 1
    while held > 0:
        held -= 1
        host = waiting[held]
        if host == b:
            return True
        for other in range(hosts):
            if mesh[host, other] and not seen[other]:
                seen[other] = True
                waiting[held] = other
                held += 1
    return False


def _weights(mesh: Bools, delay_ms: Floats) -> csr_matrix:
    a, b = np.nonzero(mesh)
    return csr_matrix((delay_ms[a, b], (a, b)), shape=mesh.shape)
