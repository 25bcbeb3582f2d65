"""The overlay's bars: faults on real processes again and again, and the simulation over many seeds. Takes hours.

    python bench/soak.py [--only NAME,NAME] [--runs N] [--seed N] [--seeds A:B] [--matrix FILE] [--json]

`--runs` and `--seed` are those of relay-kill. `--matrix` names a file of measured RTTs for the trees; without it they
are skipped.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cubecast.bench.rows import Row, row, tell

ROOT = Path(__file__).parent.parent
GAP_BAR_MS, RTTS = 500.0, 2
HUNG_BAR_S = 10.0
"""One look without a new frame; the next one must see some."""
MEMORY_BAR = 1.1
LEAVE_BAR_S = 3.0
RAD_BAR = 1.02
RATE_BAR = 20_000.0
SEEDS = re.compile(r"\d+:\d+")

Told = dict[str, Any]
"""What a command printed with --json."""


class Soak:
    """The parts by name; each calls the commands that users call."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self.parts: dict[str, Callable[[], Iterator[Row]]] = {
            "relay-kill": self._relay_kill,
            "relay-kill-far": self._relay_kill_far,
            "churn": self._churn,
            "grow-shrink": self._grow_shrink,
            "links": self._links,
            "outages": self._outages,
            "directory-down": self._directory_down,
            "nat": self._nat,
            "trees": self._trees,
            "simulate": self._simulate,
        }

    def _relay_kill(self) -> Iterator[Row]:
        """No added delay."""
        told = _testbed("relay-kill", *self._runs())
        yield from _whole("relay-kill", told)
        yield row("relay-kill: gap p95", _p95(told["gap_ms"]["p95"]), "ms", "the bar", GAP_BAR_MS)

    def _relay_kill_far(self) -> Iterator[Row]:
        """Transit-stub delays: every gap against the slowest link of its own tree."""
        told = _testbed("relay-kill", "--network", "transit-stub", *self._runs())
        yield from _whole("relay-kill, transit-stub", told)
        beyond = [
            gap_ms - RTTS * run["detail"].get("slowest_rtt_ms", 0.0)
            for run in told["runs"]
            for gap_ms in run["gaps_ms"]
        ]
        p95 = float(np.percentile(beyond, 95)) if beyond else float("inf")
        name = f"relay-kill, transit-stub: gap beyond {RTTS} round trips, p95"
        yield row(name, p95, "ms", "the bar", GAP_BAR_MS)
        yield _none("relay-kill, transit-stub: gap p95", _p95(told["gap_ms"]["p95"]), "ms")

    def _churn(self) -> Iterator[Row]:
        (run,) = _testbed("churn")["runs"]
        detail = run["detail"]
        hung_s, memory = float(detail["longest_hung_s"]), detail["memory_mb"]
        yield row("churn: longest without a frame", hung_s, "s", "the bar", HUNG_BAR_S)
        quarter = max(1, len(memory) // 4)
        grown = float(np.mean(memory[-quarter:]) / np.mean(memory[quarter : 2 * quarter]))
        yield row("churn: memory, last quarter", grown, "x the second", "the bar", MEMORY_BAR)
        yield _zero("churn: processes left", run["processes_left"])
        yield _none("churn: success ratio, mean over time", round(run["success_ratio"], 4), "")

    def _grow_shrink(self) -> Iterator[Row]:
        told = _testbed("grow-shrink")
        yield from _whole("grow-shrink", told)
        shapes = told["runs"][0]["detail"]["shapes"]
        yield _zero(
            "grow-shrink: shapes that did not change or come back",
            int(len(set(shapes)) != 2 or shapes[0] != shapes[-1]),
        )

    def _links(self) -> Iterator[Row]:
        (run,) = _testbed("delay-jump")["runs"]
        left_s = run["seconds_to_leave_bad_link"]
        left_s = float("inf") if left_s is None else left_s
        yield row("delay-jump: off the link", left_s, "s", "the bar", LEAVE_BAR_S)
        yield _zero("delay-jump: returned while it was bad", int(run["detail"]["returned_while_bad"]))
        yield _zero("delay-jump: frames lost", run["frames_lost"])
        yield _zero("jitter: switches", _testbed("jitter")["runs"][0]["switches"])

    def _outages(self) -> Iterator[Row]:
        for outage in ("stall", "partition", "loss-burst"):
            yield from _whole(outage, _testbed(outage))

    def _directory_down(self) -> Iterator[Row]:
        told = _testbed("directory-down")
        yield from _whole("directory-down", told)
        answered = told["runs"][0]["detail"]["answer"]
        yield _zero("directory-down: new subscribers without an answer", int(not answered))

    def _nat(self) -> Iterator[Row]:
        told = _testbed("nat")
        yield from _whole("nat", told)
        yield _zero("nat: hidden hosts on hidden hosts", len(told["runs"][0]["detail"]["hidden_on_hidden"]))

    def _trees(self) -> Iterator[Row]:
        if self._args.matrix is None:
            yield Row("trees", 0, "", "", 0, 0, holds=False, skipped="no measured delays; name a file: --matrix")
            return
        told = _testbed("trees", "--network", str(self._args.matrix))
        yield from _whole("trees", told)
        (run,) = told["runs"]
        rad, detail = float(run["rad"]), run["detail"]
        yield _zero("trees, the cube's: frames lost", detail["cube"]["frames_lost"])
        cube = float(detail["cube"]["rad"])
        late_ms = f"{detail['machine_late_ms_per_hop']:.1f} ms a hop subtracted"
        yield Row(
            f"trees: RAD, 32 hosts, {late_ms}",
            round(rad, 3),
            "",
            "the cube",
            round(rad / cube, 3),
            RAD_BAR,
            rad <= RAD_BAR,
        )

    def _simulate(self) -> Iterator[Row]:
        told = _cubecast("lab", "simulate", str(ROOT / "scenarios/churn-2000.toml"), "--seeds", self._args.seeds)
        runs = told["runs"]
        yield _zero(f"simulation, {len(runs)} seeds: laws broken", sum(len(run["invariants_broken"]) for run in runs))
        rate = max(float(run["events_per_second"]) for run in runs)
        yield row("simulation: best events/s", rate, "1/s", "the bar", RATE_BAR, at_most=False)
        yield _none("simulation: success ratio, least", min(run["success_ratio"] for run in runs), "")
        yield _none("simulation: reconnect p99, worst", max(run["reconnect_ms"]["p99"] for run in runs), "ms")

    def _runs(self) -> tuple[str, ...]:
        return ("--runs", str(self._args.runs), "--seed", str(self._args.seed))


def _testbed(*args: str) -> Told:
    return _cubecast("testbed", *args)


def _cubecast(*args: str) -> Told:
    done = subprocess.run(
        [sys.executable, "-m", "cubecast", *args, "--json"], stdout=subprocess.PIPE, text=True, check=False
    )
    if not done.stdout.strip():
        sys.exit(f"cubecast {' '.join(args)} ended with status {done.returncode} and said nothing")
    told: Told = json.loads(done.stdout)
    return told


def _whole(name: str, told: Told) -> Iterator[Row]:
    """Nothing lost, nobody left: of all runs together. A stream that died counts as lost."""
    runs = [run for run in told["runs"] if not run["skipped"]]
    yield _none(f"{name}: runs skipped", len(told["runs"]) - len(runs), "")
    yield _zero(f"{name}, {len(runs)} runs: streams that died", sum(run["frames_lost"] is None for run in runs))
    yield _zero(f"{name}, {len(runs)} runs: frames lost", sum(run["frames_lost"] or 0 for run in runs))
    yield _zero(f"{name}, {len(runs)} runs: processes left", sum(run["processes_left"] for run in runs))


def _zero(name: str, value: float | None) -> Row:
    return Row(name, -1 if value is None else value, "", "none", 0, 0, value == 0)


def _none(name: str, value: float, unit: str) -> Row:
    """A figure without a bar."""
    return Row(name, value, unit, "nothing", 1, value, holds=True)


def _p95(told: float | None) -> float:
    """A percentile that a command told; without one nothing was tried, and no bar holds."""
    return float("inf") if told is None else float(told)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="parts, separated by commas")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", default="1:50", help="of the simulation")
    parser.add_argument("--matrix", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.runs < 1 or not SEEDS.fullmatch(args.seeds):
        parser.error("--runs is a whole number from 1 on, --seeds two of them, as 1:50")
    soak = Soak(args)
    names = args.only.split(",") if args.only else list(soak.parts)
    if unknown := set(names) - set(soak.parts):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(soak.parts)}")
    return tell([row for name in names for row in soak.parts[name]()], args.json)


if __name__ == "__main__":
    sys.exit(main())
