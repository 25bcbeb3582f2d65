"""Pastry (Rowstron and Druschel, Middleware 2001): prefix routing, and proximity neighbour selection (PNS).

A host's table has a row for each length of a shared prefix and a column for each next digit; an entry may be any host with
that prefix and digit. It is a random one without PNS, the nearest of a few random ones with sampled PNS, and the nearest of
all with full PNS.
"""

from collections.abc import Callable
from math import ceil, log
from typing import NamedTuple

import numpy as np

from cubecast.lab.compilation import compiled
from cubecast.overlay.delays import Delays, delay_ms
from cubecast.overlay.kernel import kernel
from cubecast.types import Floats, Indices, Ints

NO_PNS = 1
"""Number of candidates of an entry without PNS."""
FULL_PNS = 0
"""Stands for all candidates of an entry: full PNS."""
SAMPLES = 16
"""Number of candidates of an entry with sampled PNS."""


class Pastry(NamedTuple):
    """Tables of all hosts.

    Attributes:
        digits: shape (hosts, rows), each host's ID, most significant digit first.
        table: shape (hosts, rows, base), the host of each entry, -1 where no host has the prefix.
    """

    digits: Indices
    table: Indices


def pastry(
    delays: Delays, base: int, samples: int, rng: np.random.Generator, fill: Callable[..., None] | None = None
) -> Pastry:
    """Tables of all hosts, with random IDs from the smallest ID space that has enough.

    Args:
        samples: number of candidates of an entry; FULL_PNS for all.
        fill: the form of `fill_tables` to use; None for the compiled one.
    """
    hosts = len(delays.at)
    rows = max(1, ceil(log(hosts, base) - 1e-9))
    ids = np.sort(rng.choice(base**rows, size=hosts, replace=False))
    by_id = rng.permutation(hosts).astype(np.int32)
    digits_by_id = np.stack([ids // base**row % base for row in reversed(range(rows))], axis=1).astype(np.int32)
    table = np.full((hosts, rows, base), -1, np.int32)
    (fill or compiled(fill_tables))(delays, ids, by_id, digits_by_id, samples, table, rng)
    digits = np.empty_like(digits_by_id)
    digits[by_id] = digits_by_id
    return Pastry(digits, table)


@kernel
def fill_tables(
    delays: Delays, ids: Ints, by_id: Indices, digits: Indices, samples: int, table: Indices, rng: np.random.Generator
) -> None:
    """Fills the tables; hosts with a common prefix are consecutive in the order of IDs.

    With full PNS the first row is found once for all hosts of an attachment point, which share their nearest hosts.
    """
    hosts, rows, base = table.shape
    shared = np.full((len(delays.between_ms), base), -1, np.int32)
    for rank in range(hosts):
        host, low, high = by_id[rank], 0, hosts
        for row in range(rows):
            width = base ** (rows - row - 1)
            start = ids[rank] // (width * base) * (width * base)
            end = low
            for digit in range(base):
                begin = end
                end = begin + np.searchsorted(ids[begin:high], start + (digit + 1) * width)
                if digit == digits[rank, row]:
                    own_low, own_high = begin, end
                elif end > begin and row == 0 and samples == FULL_PNS:
                    point = delays.at[host]
                    if shared[point, digit] < 0:
                        shared[point, digit] = _entry(delays, by_id, host, begin, end, samples, rng)
                    table[host, row, digit] = shared[point, digit]
                elif end > begin:
                    table[host, row, digit] = _entry(delays, by_id, host, begin, end, samples, rng)
            low, high = own_low, own_high


@kernel
def _entry(
    delays: Delays, by_id: Indices, host: int, begin: int, end: int, samples: int, rng: np.random.Generator
) -> int:
    """The nearest of `samples` random hosts in a range of ranks by ID, or of all hosts in it."""
    best, least = -1, np.inf
    take_all = samples == FULL_PNS or samples >= end - begin > 1
    for attempt in range(end - begin if take_all else samples):
        other = by_id[begin + attempt] if take_all else by_id[rng.integers(begin, end)]
        cost = delay_ms(delays, host, other)
        if cost < least:
            best, least = int(other), cost
    return best


@kernel
def pastry_next(tables: Pastry, at: int, target: int) -> int:
    """The next host from host `at` towards host `target`; it shares one more digit with the target."""
    row = 0
    while tables.digits[at, row] == tables.digits[target, row]:
        row += 1
    return int(tables.table[at, row, tables.digits[target, row]])


@kernel
def pastry_routes(tables: Pastry, delays: Delays, sources: Ints, targets: Ints) -> tuple[Floats, Ints]:
    """Delay, ms, and hops of routes between pairs of hosts, shape (pairs,) each."""
    delay, hops = np.zeros(len(sources)), np.zeros(len(sources), np.int64)
    for pair in range(len(sources)):
        at, target = int(sources[pair]), int(targets[pair])
        while at != target:
            there = pastry_next(tables, at, target)
            delay[pair] += delay_ms(delays, at, there)
            hops[pair] += 1
            at = there
    return delay, hops


@kernel
def scribe_tree(tables: Pastry, delays: Delays, subscribers: Ints, publisher: int) -> tuple[Indices, Floats]:
    """The Scribe tree (Castro et al., JSAC 2002) with the publisher as its root, which avoids the detour to a rendezvous host.

    Returns:
        parent: shape (hosts,), -1 for the publisher and for hosts outside the tree.
        late_ms: shape (hosts,), delay from the publisher; infinite outside the tree.
    """
    hosts = len(tables.digits)
    parent = np.full(hosts, -1, np.int32)
    late = np.full(hosts, np.inf)
    late[publisher] = 0.0
    path = np.empty(hosts, np.int64)
    for subscriber in subscribers:
        at, length = int(subscriber), 0
        while late[at] == np.inf:
            path[length] = at
            length += 1
            parent[at] = pastry_next(tables, at, publisher)
            at = int(parent[at])
        for step in range(length - 1, -1, -1):
            node = path[step]
            late[node] = late[parent[node]] + delay_ms(delays, parent[node], node)
    return parent, late
