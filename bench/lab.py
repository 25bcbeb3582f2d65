"""The lab's bars: speed and memory of the kernels, and how good trees and labels are.

    python bench/lab.py [--matrices DIR] [--all] [--json]

`--matrices` names a folder of measured RTT matrices (PlanetLab slices) for the bars on them; without it they are
skipped. `--all` also times `cubecast lab run all`. Times are the best of several.
"""

import argparse
import dataclasses
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from cubecast.bench.rows import Row, row, tell
from cubecast.lab.experiment import Parameters, matching, mean_of, number, sizes_of
from cubecast.lab.experiment import Row as LabRow
from cubecast.lab.experiments import EXPERIMENTS, tree_scale
from cubecast.lab.kernels import compiled
from cubecast.lab.populations import generator, network_of, seated_overlay, some_pairs
from cubecast.lab.sweep import run_experiments
from cubecast.overlay.cube import Cube, label_count
from cubecast.overlay.many_routes import GREEDY, route_all

MILLION = 1_000_000
ROUNDS = 5
ROUTES_BAR_S, MEMORY_BAR_GB, ALL_BAR_MINUTES = 3.0, 2.0, 6.0
MATRIX_BARS = {4: 0.99, 8: 0.95, 16: 0.93}
PROBES_BAR = 64.0
SEEDS = (1, 2, 3)
PUBLISHERS = 20


def routes() -> Row:
    """A million greedy routes on one core."""
    shape = Cube(2, 16)
    over, _ = seated_overlay(shape, network_of("transit-stub", None, 1), generator(1, 2))
    rng = generator(1, 3)
    sources, targets = some_pairs(label_count(shape), MILLION, rng)
    compiled(route_all)(over, GREEDY, sources[:10], targets[:10], rng)
    seconds = []
    for _ in range(ROUNDS):
        start = perf_counter()
        compiled(route_all)(over, GREEDY, sources, targets, rng)
        seconds.append(perf_counter() - start)
    return row("1M greedy routes, 65 536 hosts", min(seconds), "s", "the bar", ROUTES_BAR_S)


def memory() -> Row:
    """Routes among 2^20 hosts, in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--million-hosts"], capture_output=True, text=True, check=True)
    return row("2^20 hosts route: peak memory", float(done.stdout), "GB", "the bar", MEMORY_BAR_GB)


def route_among_a_million_hosts() -> None:
    shape = Cube(2, 20)
    over, _ = seated_overlay(shape, network_of("transit-stub", 1 << 20, 1), generator(1, 2))
    rng = generator(1, 3)
    sources, targets = some_pairs(label_count(shape), MILLION, rng)
    delay, _ = compiled(route_all)(over, GREEDY, sources, targets, rng)
    assert delay.min() > 0
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20))


def tree_bars() -> Iterator[Row]:
    """Hybrid on transit-stub, over several networks and publishers; and the links it crosses, beside Scribe's."""
    scale = EXPERIMENTS["tree-scale"]
    rows = run("tree-scale", dataclasses.replace(scale.defaults, seeds=SEEDS))
    for fan_out, low, high, column, bar in tree_scale.BARS:
        for group in (g for g in sorted(sizes_of(rows, "group")) if low <= g <= high):
            value = mean_of(rows, column, group=group, fan_out=fan_out)
            yield row(f"hybrid, transit-stub, fan-out {fan_out}, {group}: {column}", value, "", "the bar", bar)
    beside = run("trees", EXPERIMENTS["trees"].defaults)
    ours, scribe = (mean_of(beside, "traversals", method=method) for method in ("hybrid", "scribe-pns"))
    yield row("hybrid, transit-stub, fan-out 16, 4096: traversals", ours, "", "Scribe with full PNS", scribe)


def run(name: str, parameters: Parameters) -> list[LabRow]:
    (result,) = run_experiments([(EXPERIMENTS[name], parameters)], os.cpu_count() or 1, "", lambda *_: None)
    return result.rows


def matrix_bars(folder: Path | None) -> Iterator[Row]:
    """Hybrid on measured Internet delays, everyone subscribed."""
    files = sorted(folder.glob("planetlab-*.txt.gz")) if folder is not None else []
    if not files:
        yield Row("hybrid on PlanetLab", 0, "", "", 0, 0, holds=False, skipped="no matrices; name a folder: --matrices")
    for path in files:
        for cap, bar in MATRIX_BARS.items():
            defaults = EXPERIMENTS["trees"].defaults
            rows = run("trees", dataclasses.replace(defaults, network=str(path), fan_out=cap, publishers=PUBLISHERS))
            name = f"hybrid, {path.name}, fan-out {cap}"
            yield row(f"{name}: rad", mean_of(rows, "rad", method="hybrid"), "", "the bar", bar)
            probes = mean_of(rows, "probes_per_host", method="hybrid")
            yield row(f"{name}: probes a host", probes, "", "the bar", PROBES_BAR)


def published_bars() -> Iterator[Row]:
    """What the slides say of shapes, next hops and relocation."""
    rows = run("shape", EXPERIMENTS["shape"].defaults)
    off = max(abs(number(r, "hops") / number(r, "expected") - 1) for r in matching(rows, kind="hops"))
    yield row("hops against A(k, n): largest difference", off, "", "the bar", 0.005)
    wrong = mean_of(rows, "mismatches", kind="brute force")
    yield Row("exact M-region against brute force, m <= 10^6", wrong, "mismatches", "none", 0, 0, wrong == 0)
    rows = run("routing", EXPERIMENTS["routing"].defaults)
    odr, greedy = (mean_of(rows, "rad", shape="2^16", policy=policy) for policy in ("odr", "greedy"))
    yield row("greedy below ODR on the 16-D hypercube", 1 - greedy / odr, "", "the bar", 0.30, at_most=False)
    rows = run("relocation", EXPERIMENTS["relocation"].defaults)

    def points(group: int, form: str, depth: int) -> float:
        gained = mean_of(rows, "success", group=group, form=form, depth=depth)
        return 100 * (gained - mean_of(rows, "success", group=group, form="none"))

    best = max(points(group, "published", 1) for group in sizes_of(rows, "group") if 512 <= group <= 16_384)
    yield row("relocation, D = 1, best group of 512..16384: success", best, "points", "the bar", 3.0, at_most=False)
    deep = points(1024, "breadth-first", 4)
    yield row("relocation, D = 4 breadth-first, 1024: success", deep, "points", "the bar", 13.0, at_most=False)


def placement_bars() -> Iterator[Row]:
    """The cube after label swaps, with lookahead."""
    rows = run("placement", EXPERIMENTS["placement"].defaults)
    most = max(sizes_of(rows, "tries"))
    for column, bar in (("rad", 2.35), ("rdp_p90", 3.7)):
        value = mean_of(rows, column, tries=most, policy="lookahead")
        yield row(f"cube with 16 links, swaps and lookahead: {column}", value, "", "the bar", bar)


def run_all() -> Row:
    """Every experiment, by the command users call."""
    with tempfile.TemporaryDirectory() as folder:
        start = perf_counter()
        subprocess.run(
            [sys.executable, "-m", "cubecast", "lab", "run", "all", "--output", folder], capture_output=True, check=True
        )
    return row("lab run all", (perf_counter() - start) / 60, "minutes", "the bar", ALL_BAR_MINUTES)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--matrices", type=Path)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--million-hosts", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.million_hosts:
        route_among_a_million_hosts()
        return 0
    rows = [routes(), memory(), *published_bars(), *placement_bars(), *tree_bars(), *matrix_bars(args.matrices)]
    if args.all:
        rows.append(run_all())
    return tell(rows, args.json)


if __name__ == "__main__":
    sys.exit(main())
