"""The lab's bars: speed and memory of the compiled routes, and the quality of trees and labels.

Speed is judged against the same function in plain Python in the same run. All other bars are absolute: the memory
and the duration of all experiments, and figures that are the same on every machine because the seeds are fixed.
"""

import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from cubecast.bench.rows import Row, absolute_row, ratio_row, skipped_row, zero_row
from cubecast.lab.compilation import compiled
from cubecast.lab.experiment import Parameters, matching, mean_of, number, sizes_of
from cubecast.lab.experiment import Row as LabRow
from cubecast.lab.experiments import EXPERIMENTS, placement, tree_scale, trees
from cubecast.lab.populations import generator, network_of, seated_overlay, some_pairs
from cubecast.lab.sweep import run_experiments
from cubecast.overlay.cube import Cube, label_count
from cubecast.overlay.many_routes import GREEDY, route_all

ROUTES = 1_000_000
"""Number of routes timed with compiled functions."""
PLAIN_ROUTES = 300
"""Number of routes timed with plain Python functions: fewer, since each takes at least 1 / ROUTES_BAR times as long."""
ROUNDS = 5
"""Rounds of each measurement; the fastest counts, since other load on the machine makes the others slower."""
ROUTES_BAR = 0.01
"""Maximum time for a route, compiled relative to plain Python."""
MEMORY_BAR_GB = 2.0
"""Absolute bar: maximum peak memory with 2^20 hosts, GB: about 2 kB a host, so that an ordinary machine holds a million."""
ALL_BAR_MINUTES = 6.0
"""Absolute bar: maximum duration of `cubecast lab run all`, minutes."""
MATRIX_BARS = {4: 0.99, 8: 0.95, 16: 0.93}
"""Maximum RAD on PlanetLab delays, by fan-out: below 1, since the tree is to have less delay than direct connections from a
fan-out of 4 on, and the lower the more copies a host may send."""
HOPS_BAR = 0.005
"""Maximum relative difference of the mean hops from A(k, n): the formula is exact, the rest is for the sample of pairs."""
GREEDY_BAR = 0.30
"""Minimum by which greedy next hops are below ODR in RAD on the 16-D hypercube, as a share: what the slides claim."""
POINTS_BAR_D1, POINTS_BAR_D4 = 3.0, 13.0
"""Minimum success that relocation adds at depths 1 and 4, percentage points: what the slides claim."""
CLAIMED_GROUPS = (512, 16_384)
"""Least and greatest group for which the slides claim the gain at depth 1."""
SEEDS = (1, 2, 3)
"""Networks over which the bars on tree-scale are averaged."""
PUBLISHERS = 20
"""Publishers over which the bars on PlanetLab delays are averaged."""


def measure(matrices: Path | None, with_all: bool) -> Iterator[Row]:
    """A row for each bar.

    Args:
        matrices: folder of measured RTT matrices, planetlab-*.txt.gz; None skips the bars on them.
        with_all: also time `cubecast lab run all`.
    """
    yield _routes()
    yield _memory()
    yield from _published_bars()
    yield from _placement_bars()
    yield from _tree_bars()
    yield from _matrix_bars(matrices)
    if with_all:
        yield _run_all()


def _routes() -> Row:
    """Greedy routes on one core; compiled and plain rounds alternate."""
    shape = Cube(2, 16)
    over, _ = seated_overlay(shape, network_of("transit-stub", None, 1), generator(1, 2))
    rng = generator(1, 3)
    sources, targets = some_pairs(label_count(shape), ROUTES, rng)
    compiled(route_all)(over, GREEDY, sources[:10], targets[:10], rng)  # compiles
    fast_us, plain_us = [], []
    for _ in range(ROUNDS):
        start = perf_counter()
        compiled(route_all)(over, GREEDY, sources, targets, rng)
        middle = perf_counter()
        route_all(over, GREEDY, sources[:PLAIN_ROUTES], targets[:PLAIN_ROUTES], rng)
        fast_us.append((middle - start) / ROUTES * 1e6)
        plain_us.append((perf_counter() - middle) / PLAIN_ROUTES * 1e6)
    return ratio_row("a greedy route, 65 536 hosts", min(fast_us), "us", "in plain Python", min(plain_us), ROUTES_BAR)


def _memory() -> Row:
    command = [sys.executable, "-m", "cubecast.bench.lab_memory"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return absolute_row("2^20 hosts route: peak memory", float(done.stdout), "GB", MEMORY_BAR_GB)


def _tree_bars() -> Iterator[Row]:
    """The hybrid tree on transit-stub, over several networks and publishers; the links it crosses against Scribe's."""
    scale = EXPERIMENTS["tree-scale"]
    rows = _run("tree-scale", dataclasses.replace(scale.defaults, seeds=SEEDS))
    for fan_out, low, high, column, bar in tree_scale.BARS:
        for group in (g for g in sorted(sizes_of(rows, "group")) if low <= g <= high):
            value = mean_of(rows, column, group=group, fan_out=fan_out)
            yield absolute_row(f"hybrid, transit-stub, fan-out {fan_out}, {group}: {column}", value, "", bar)
    beside = _run("trees", EXPERIMENTS["trees"].defaults)
    ours, scribe = (mean_of(beside, "traversals", method=method) for method in ("hybrid", "scribe-pns"))
    yield ratio_row("hybrid, transit-stub, fan-out 16, 4096: traversals", ours, "", "Scribe with full PNS", scribe, 1.0)


def _run(name: str, parameters: Parameters) -> list[LabRow]:
    (result,) = run_experiments([(EXPERIMENTS[name], parameters)], os.cpu_count() or 1, "", lambda *_: None)
    return result.rows


def _matrix_bars(folder: Path | None) -> Iterator[Row]:
    """The hybrid tree on measured Internet delays, all hosts subscribed."""
    files = sorted(folder.glob("planetlab-*.txt.gz")) if folder is not None else []
    if not files:
        yield skipped_row("hybrid on PlanetLab", "no matrices; name a folder: --matrices")
    for path in files:
        for cap, bar in MATRIX_BARS.items():
            defaults = EXPERIMENTS["trees"].defaults
            rows = _run("trees", dataclasses.replace(defaults, network=str(path), fan_out=cap, publishers=PUBLISHERS))
            name = f"hybrid, {path.name}, fan-out {cap}"
            yield absolute_row(f"{name}: rad", mean_of(rows, "rad", method="hybrid"), "", bar)
            probes = mean_of(rows, "probes_per_host", method="hybrid")
            yield absolute_row(f"{name}: probes a host", probes, "", trees.PROBES_BAR)


def _published_bars() -> Iterator[Row]:
    """What the slides claim of shapes, next hops and relocation."""
    rows = _run("shape", EXPERIMENTS["shape"].defaults)
    off = max(abs(number(r, "hops") / number(r, "expected") - 1) for r in matching(rows, kind="hops"))
    yield absolute_row("hops against A(k, n): largest difference", off, "", HOPS_BAR)
    wrong = mean_of(rows, "mismatches", kind="brute force")
    yield zero_row("exact M-region against brute force, m <= 10^6", wrong, "mismatches")
    rows = _run("routing", EXPERIMENTS["routing"].defaults)
    odr, greedy = (mean_of(rows, "rad", shape="2^16", policy=policy) for policy in ("odr", "greedy"))
    yield absolute_row("greedy below ODR on the 16-D hypercube", 1 - greedy / odr, "", GREEDY_BAR, at_most=False)
    rows = _run("relocation", EXPERIMENTS["relocation"].defaults)

    def points(group: int, form: str, depth: int) -> float:
        gained = mean_of(rows, "success", group=group, form=form, depth=depth)
        return 100 * (gained - mean_of(rows, "success", group=group, form="none"))

    least, most = CLAIMED_GROUPS
    best = max(points(group, "published", 1) for group in sizes_of(rows, "group") if least <= group <= most)
    yield absolute_row(
        "relocation, D = 1, best group of 512..16384: success", best, "points", POINTS_BAR_D1, at_most=False
    )
    deep = points(1024, "breadth-first", 4)
    yield absolute_row("relocation, D = 4 breadth-first, 1024: success", deep, "points", POINTS_BAR_D4, at_most=False)


def _placement_bars() -> Iterator[Row]:
    """The cube after label swaps, routed with lookahead."""
    rows = _run("placement", EXPERIMENTS["placement"].defaults)
    most = max(sizes_of(rows, "tries"))
    for column, bar in (("rad", placement.RAD_BAR), ("rdp_p90", placement.P90_BAR)):
        value = mean_of(rows, column, tries=most, policy="lookahead")
        yield absolute_row(f"cube with 16 links, swaps and lookahead: {column}", value, "", bar)


def _run_all() -> Row:
    """Every experiment, by the command that users call."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cubecast", "lab", "run", "all", "--output", folder]
        start = perf_counter()
        subprocess.run(command, capture_output=True, check=True)
    minutes = round((perf_counter() - start) / 60, 2)
    return absolute_row("lab run all", minutes, "minutes", ALL_BAR_MINUTES)
