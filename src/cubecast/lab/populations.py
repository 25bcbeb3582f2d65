"""Random inputs of experiments: networks, hosts on labels, publishers and their subscribers, pairs for routes."""

from functools import lru_cache

import numpy as np

from cubecast.errors import UsageError
from cubecast.overlay.cube import Cube, label_count
from cubecast.overlay.delays import Delays, delays_between
from cubecast.overlay.many_routes import NO_POSITIONS, Overlay, overlay
from cubecast.overlay.occupancy import carriers
from cubecast.physical.catalogue import PUBLISHED_HOSTS, is_file, load_network
from cubecast.physical.network import PhysicalNetwork
from cubecast.types import Floats, Indices, Ints


@lru_cache(maxsize=1)
def network_of(name: str, size: int | None, seed: int) -> PhysicalNetwork:
    """A network by name or file; the latest one is cached, because the tasks of a sweep share it.

    Raises:
        NetworkFileError: the file holds no network.
        UsageError: the name is unknown, or the size is impossible.
    """
    hosts = size if size is not None or is_file(name) else PUBLISHED_HOSTS
    network = load_network(name, hosts, seed)
    if network.hosts < 2:
        raise UsageError(f"network {name} has one host; a channel needs two or more")
    return network


def generator(seed: int, *purpose: int) -> np.random.Generator:
    """A random generator for one purpose under one seed; generators of different purposes are independent."""
    return np.random.default_rng([seed, *purpose])


def seated(shape: Cube, hosts: int, rng: np.random.Generator) -> tuple[Indices, Ints]:
    """Places hosts on random labels; if there are fewer hosts than labels, some hosts carry several.

    Returns:
        host: shape (M,), the host on each label.
        seat: shape (hosts,), the label that each host holds itself.

    Raises:
        UsageError: the shape has fewer labels than there are hosts.
    """
    labels = label_count(shape)
    if labels < hosts:
        raise UsageError(f"shape {shape} has {labels} labels for {hosts} hosts; give a larger one, or a smaller --size")
    seat = rng.permutation(labels)[:hosts]
    host = np.empty(labels, np.int32)
    host[seat] = np.arange(hosts)
    if hosts < labels:
        by_seat = {int(label): number for number, label in enumerate(seat)}
        for label, carrier in carriers(shape, by_seat).items():
            host[label] = by_seat[carrier]
    return host, seat


def seated_overlay(
    shape: Cube, network: PhysicalNetwork, rng: np.random.Generator, positions: Floats = NO_POSITIONS
) -> tuple[Overlay, Ints]:
    """An overlay of all hosts of a network on random labels, and each host's seat, shape (hosts,)."""
    host, seat = seated(shape, network.hosts, rng)
    return overlay(shape, host, network.delays, positions), seat


def publishers_of(hosts: int, wanted: int, rng: np.random.Generator) -> list[int]:
    """`wanted` different hosts in random order, each to publish in turn; all hosts if there are fewer."""
    return [int(host) for host in rng.permutation(hosts)[:wanted]]


def group_of(hosts: int, publisher: int, wanted: int, rng: np.random.Generator) -> Ints:
    """A publisher and random subscribers, shape (wanted + 1,), the publisher first; `wanted` 0 means all other hosts.

    Raises:
        UsageError: `wanted` exceeds the number of other hosts.
    """
    if wanted >= hosts:
        raise UsageError(f"--group {wanted}: there are {hosts - 1} other hosts; give fewer, all, or a larger --size")
    others = rng.permutation(hosts)
    others = others[others != publisher][: wanted or hosts]
    return np.concatenate([[publisher], others])


def some_pairs(labels: int, count: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Random pairs of different labels, shape (count,) each."""
    sources = rng.integers(labels, size=count)
    return sources, (sources + rng.integers(1, labels, size=count)) % labels


def members(delays: Delays, hosts: Ints) -> Delays:
    """The delays among some hosts, numbered by their index in `hosts`."""
    return delays._replace(at=delays.at[hosts], access_ms=delays.access_ms[hosts])


def measure_pairs(delays: Delays, pairs: Ints) -> Floats:
    """The delays of pairs of hosts, shape (p, 2), as a survey asks for them; returns shape (p,), ms."""
    return delays_between(delays, pairs[:, 0], pairs[:, 1])
