"""What the directory's engine spends on a join, a leave and a lease tick in a small and in a large overlay, and its memory.

Both overlays have the shape that a live overlay of so many hosts has. Their rounds alternate, and the best one counts. A
round replaces hosts by others, so that the number of hosts stays the same and the cube keeps its shape.
"""

import tracemalloc
from collections.abc import Iterator
from time import process_time

import numpy as np

from cubecast.bench.rows import Row, ratio_row, unjudged_row
from cubecast.engine.directory.config import DIRECTORY_DEFAULTS
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.directory.events import HostJoined, HostLeft, HostRefreshed, LeaseTick, PushPlacement
from cubecast.engine.protocol.records import HostRecord
from cubecast.overlay.cube import Cube, label_count
from cubecast.overlay.region import live_region
from cubecast.types import HostId, Label

HOSTS = (1000, 10_000)
"""Number of hosts of the two overlays."""
BAR = 1.5
"""Maximum CPU time in the large overlay relative to the small one: hosts of the large one have more neighbours."""
ROUNDS = 7
"""Rounds of each measurement; the fastest counts, since other load on the machine makes the others slower."""
CHANGES = 100
"""Hosts that leave, or whose leases end, in a round, and that others replace."""
COUNTED = 20
"""Joins over which pushed neighbours are counted: few enough that the small cube, of 1024 labels, does not grow."""
OPERATIONS = ("join", "leave", "lease tick for each host removed")
"""What a round measures."""
LEASE_S = DIRECTORY_DEFAULTS.lease.lease_s


class _Overlay:
    """An engine with a number of hosts, and a clock of its own."""

    def __init__(self, hosts: int, shape: Cube) -> None:
        self.hosts = hosts
        self.rng = np.random.default_rng(1)
        self.engine = DirectoryEngine(shape, np.random.default_rng(2))
        self.now = 0.0
        self.joins = hosts
        seats = self.rng.permutation(label_count(shape))[:hosts].tolist()
        records = [
            HostRecord(each.host, each.address, each.fingerprint, each.key, Label(seat))
            for each, seat in zip(map(_request, range(hosts)), seats, strict=True)
        ]
        self.engine.restore((shape, 0), records, (), self.now)

    def join(self) -> int:
        """A new host joins.

        Returns:
            The number of neighbours in all placements that are pushed.
        """
        effects = self.engine.handle(_request(self.joins), self.now)
        self.joins += 1
        return sum(len(each.placement.neighbours) for each in effects if isinstance(each, PushPlacement))

    def chosen(self) -> list[HostId]:
        """CHANGES members at random."""
        members = list(self.engine.members)
        return [members[index] for index in self.rng.choice(len(members), CHANGES, replace=False).tolist()]

    def round(self) -> list[float]:
        """CPU time of each of OPERATIONS, us."""
        leaving = self.chosen()
        start = process_time()
        for host in leaving:
            self.engine.handle(HostLeft(host), self.now)
        left = process_time()
        for _ in range(CHANGES):
            self.join()
        joined = process_time()
        silent = set(self.chosen())
        self.now += LEASE_S
        for host in self.engine.members.keys() - silent:
            self.engine.handle(HostRefreshed(host), self.now)
        self.now += 1.0
        ticked = process_time()
        self.engine.handle(LeaseTick(), self.now)
        removed = process_time()
        for _ in silent:
            self.join()
        return [1e6 * spent / CHANGES for spent in (joined - left, left - start, removed - ticked)]


def _request(number: int) -> HostJoined:
    address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:4443"
    return HostJoined(HostId(f"host-{number}"), address, f"{number:064x}", f"{number:064x}", 8)


def measure() -> Iterator[Row]:
    """A row for each operation, for the memory of a host, and for a change of the shape."""
    small, large = (_Overlay(hosts, live_region(hosts)) for hosts in HOSTS)
    rounds = [(small.round(), large.round()) for _ in range(ROUNDS)]
    for index, operation in enumerate(OPERATIONS):
        few_us, many_us = (min(both[each][index] for both in rounds) for each in (0, 1))
        yield ratio_row(f"{operation}, {large.hosts} hosts", many_us, "CPU us", f"{small.hosts} hosts", few_us, BAR)
    few, many = (sum(over.join() for _ in range(COUNTED)) / COUNTED for over in (small, large))
    name = f"neighbours in the placements that a join pushes, {large.hosts} hosts"
    yield unjudged_row(name, round(many, 1), "", f"{small.hosts} hosts ({few:.1f})", round(many / few, 2))
    few_kb, many_kb = (_memory_kb(hosts) for hosts in HOSTS)
    yield ratio_row(f"memory of a host, {large.hosts} hosts", many_kb, "kB", f"{small.hosts} hosts", few_kb, BAR)
    few_ms, many_ms = (min(_growth_ms(hosts) for _ in range(3)) for hosts in HOSTS)
    ratio = round(many_ms / few_ms, 2)
    yield unjudged_row(
        f"growth of a full cube, {label_count(live_region(large.hosts))} hosts",
        round(many_ms, 1),
        "CPU ms",
        f"{label_count(live_region(small.hosts))} hosts ({few_ms:.1f} CPU ms)",
        ratio,
    )


def _memory_kb(hosts: int) -> float:
    """Memory of an engine for each of its hosts, kB."""
    tracemalloc.start()
    overlay = _Overlay(hosts, live_region(hosts))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used / 1000 / len(overlay.engine.members)


def _growth_ms(hosts: int) -> float:
    """CPU time of the join for which a full cube grows, ms."""
    shape = live_region(hosts)
    overlay = _Overlay(label_count(shape), shape)
    start = process_time()
    overlay.join()
    return 1000 * (process_time() - start)
