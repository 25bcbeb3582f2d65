"""What the directory's engine spends on a join, a leave and a lease tick in a small and in a large overlay, and its memory.

All overlays have the shape that a live overlay of so many hosts has. The two that the bars compare have hosts on the same
share of their labels: with fewer hosts, each carries more labels, and the labels that change hands at a join have more
hosts around them. The rounds alternate, and the best one counts. A round replaces hosts by others, so that the number of
hosts stays the same and the cube keeps its shape.
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
from cubecast.overlay.cube import Cube, label_count, neighbours
from cubecast.overlay.region import live_region
from cubecast.types import HostId, Label

FULL, SMALL, LARGE = 1000, 1250, 10_000
"""Number of hosts of the overlays: FULL on 98 % of the labels of 2^10, SMALL and LARGE on 61 % of those of 2^11 and 2^14."""
BAR = 1.5
"""Maximum CPU time in the large overlay relative to the small one: hosts of the large one have more neighbours."""
ROUNDS = 15
"""Rounds of each measurement; the fastest counts, since other load on the machine makes the others slower."""
CHANGES = 100
"""Hosts that leave, and that others replace, in a round."""
EXPIRED = 10
"""Hosts whose leases end before a lease tick: so few that those of the small overlay have no more neighbours in common."""
COUNTED = 20
"""Joins over which marked hosts are counted: few enough that the full cube, of 1024 labels, does not grow."""
OPERATIONS = ("join", "leave", "lease tick for each host removed", "placement that is read")
"""What a round measures."""
LEASE_S = DIRECTORY_DEFAULTS.lease.lease_s
NOTE = """\
The overlays that a bar compares have hosts on the same share of their labels, 61 %. The ratio to 1000 hosts, on 98 % of 1024 labels, has
no bar: a host that joins among 10 000 takes over 1.9 labels with 14 neighbours each, one that joins among 1000 takes over 1.05 with 10
neighbours each, and as many more hosts get another neighbour. A join, leave or lease tick only marks these hosts; a placement is
computed when it is read for a push, once for all changes since the last push. Where all hosts that a join marks are pushed before the
next change, their reads together cost more than the join. All hosts of a cube that grows are marked, too."""
"""Says on the benchmark's page what the figures mean."""


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

        self.read(list(self.engine.members))

    @property
    def name(self) -> str:
        """The number of hosts, the shape, and how full it is."""
        return f"{self.hosts} hosts on {self.hosts / label_count(self.engine.cube):.0%} of {self.engine.cube}"

    def join(self) -> list[HostId]:
        """A new host joins.

        Returns:
            The hosts that are marked: those whose placements may have changed.
        """
        effects = self.engine.handle(_request(self.joins), self.now)
        self.joins += 1
        return [each.host for each in effects if isinstance(each, PushPlacement)]

    def read(self, hosts: list[HostId]) -> None:
        """Some hosts read their placements."""
        for host in hosts:
            self.engine.placement(host)

    def chosen(self, count: int) -> list[HostId]:
        """Some members at random."""
        members = list(self.engine.members)
        return [members[index] for index in self.rng.choice(len(members), count, replace=False).tolist()]

    def round(self) -> list[float]:
        """CPU time of each of OPERATIONS, us."""
        leaving = self.chosen(CHANGES)
        start = process_time()
        for host in leaving:
            self.engine.handle(HostLeft(host), self.now)
        left = process_time()
        marked = [self.join() for _ in range(CHANGES)]
        joined = process_time()
        reading = list({host: None for hosts in marked for host in hosts})
        before_reading = process_time()
        self.read(reading)
        read = process_time()
        tick_us = 1e6 * self._tick_s() / EXPIRED
        read_us = 1e6 * (read - before_reading) / len(reading)
        return [1e6 * (joined - left) / CHANGES, 1e6 * (left - start) / CHANGES, tick_us, read_us]

    def _tick_s(self) -> float:
        """CPU time of a lease tick by which EXPIRED hosts are removed, s; others replace them."""
        silent = set(self.chosen(EXPIRED))
        self.now += LEASE_S
        for host in self.engine.members.keys() - silent:
            self.engine.handle(HostRefreshed(host), self.now)
        self.now += 1.0
        start = process_time()
        self.engine.handle(LeaseTick(), self.now)
        spent_s = process_time() - start
        for _ in silent:
            self.join()
        self.read(list(self.engine.members))
        return spent_s


def _request(number: int) -> HostJoined:
    address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:4443"
    return HostJoined(HostId(f"host-{number}"), address, f"{number:064x}", f"{number:064x}", 8)


def measure() -> Iterator[Row]:
    """Rows for each operation, for the memory of a host, and for a change of the shape."""
    overlays = [_Overlay(hosts, live_region(hosts)) for hosts in (FULL, SMALL, LARGE)]
    full, small, large = overlays
    rounds = [[overlay.round() for overlay in overlays] for _ in range(ROUNDS)]
    for index, operation in enumerate(OPERATIONS):
        full_us, few_us, many_us = (min(each[at][index] for each in rounds) for at in range(3))
        name = f"{operation}, {large.name}"
        yield ratio_row(name, many_us, "CPU us", small.name, few_us, BAR)
        yield unjudged_row(
            name, round(many_us, 1), "CPU us", f"{full.name} ({full_us:.4g} CPU us)", round(many_us / full_us, 2)
        )
    full_marks, few, many = (sum(len(over.join()) for _ in range(COUNTED)) / COUNTED for over in overlays)
    name = f"hosts that a join marks, {large.name}"
    yield unjudged_row(name, round(many, 1), "", f"{small.name} ({few:.1f})", round(many / few, 2))
    yield unjudged_row(name, round(many, 1), "", f"{full.name} ({full_marks:.1f})", round(many / full_marks, 2))
    few_kb, many_kb = (_memory_kb(hosts) for hosts in (SMALL, LARGE))
    yield ratio_row(f"memory of a host, {large.name}", many_kb, "kB", small.name, few_kb, BAR)
    few_ms, many_ms = (min(_growth_ms(hosts) for _ in range(3)) for hosts in (FULL, LARGE))
    yield unjudged_row(
        f"growth of a full cube, {label_count(live_region(LARGE))} hosts",
        round(many_ms, 1),
        "CPU ms",
        f"{label_count(live_region(FULL))} hosts ({few_ms:.1f} CPU ms)",
        round(many_ms / few_ms, 2),
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
    neighbours.cache_clear()  # a live super-node has not seen the next shape yet
    start = process_time()
    overlay.join()
    return 1000 * (process_time() - start)
