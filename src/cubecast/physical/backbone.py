"""Published backbone topologies with link lengths in km, from the topohub package (Jurkiewicz, SoftwareX 24, 2023)."""

import importlib.resources
from collections.abc import Iterator
from functools import cache
from importlib.resources.abc import Traversable

import msgspec
import numpy as np

from cubecast.errors import UsageError
from cubecast.physical.network import PhysicalNetwork, Topology, attach

ACCESS_MS = (0.5, 2.0)
"""Range of the one-way access latencies of hosts, ms."""
KM_PER_MS = 200.0
"""Speed of light in fibre, km per ms: two thirds of the speed in vacuum."""
LATENCY_MS_MIN = 0.05
"""Minimum latency of a link, ms: some topologies list links between routers of one site as 0 km."""
NOT_GEOGRAPHIC = frozenset(
    f"sndlib/{name}"
    for name in (
        [
            "atlanta",
            "di-yuan",
            "france",
            "giul39",
            "india35",
            "newyork",
            "norway",
            "pioro40",
            "sun",
            "ta1",
            "ta2",
            "zib54",
        ]
    )
)
"""Topologies that are excluded, because their coordinates are not geographic and so their lengths are not in km."""


class _Edge(msgspec.Struct):
    source: int | str
    target: int | str
    dist: float


class _Node(msgspec.Struct):
    id: int | str


class _Graph(msgspec.Struct):
    nodes: list[_Node]
    edges: list[_Edge]


def backbone(name: str, hosts: int, seed: int) -> PhysicalNetwork:
    """The topology of this name, such as `sndlib/germany50`, with hosts on random routers that `seed` determines.

    Raises:
        UsageError: no topology with link lengths in km has this name, or the number of hosts is out of range.
    """
    if name not in topologies():
        raise UsageError(
            f"network {name!r} is not known; give transit-stub, a matrix file, or one like sndlib/germany50"
        )
    group, _, rest = name.partition("/")
    text = _data().joinpath(group, *rest.split("/")[:-1], rest.split("/")[-1] + ".json").read_bytes()
    graph = msgspec.json.decode(text, type=_Graph)
    index = {node.id: position for position, node in enumerate(graph.nodes)}
    ends = [(index[edge.source], index[edge.target]) for edge in graph.edges]
    topology = Topology(
        name=name,
        routers=len(index),
        edges=np.array(ends, dtype=np.int64).reshape(-1, 2),
        latency_ms=np.array([max(LATENCY_MS_MIN, edge.dist / KM_PER_MS) for edge in graph.edges]),
        access_routers=np.arange(len(index)),
    )
    return attach(topology, hosts, ACCESS_MS, np.random.default_rng([seed, 707]))


@cache
def topologies() -> frozenset[str]:
    """The names of all topologies with link lengths in km."""
    folders = ("sndlib/", "topozoo/", "backbone/", "caida/")
    return frozenset(n for n in _names(_data(), "") if n.startswith(folders)) - NOT_GEOGRAPHIC


def _data() -> Traversable:
    return importlib.resources.files("topohub") / "data"


def _names(folder: Traversable, prefix: str) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _names(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".json"):
            yield prefix + entry.name.removesuffix(".json")
