"""The overlay's bars: repeated faults on real processes, and the simulation over many seeds. Takes hours.

    python trials/soak.py [--only NAME,NAME] [--runs N] [--seed N] [--seeds A:B] [--matrix FILE] [--json]

`--runs` and `--seed` apply to relay-kill. `--matrix` names a file of measured RTTs for the parts `crowd` and `trees`,
which are skipped without it.
"""

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cubecast.bench.rows import (
    Row,
    absolute_row,
    all_hold,
    failed_row,
    print_as_they_come,
    ratio_row,
    skipped_row,
    unjudged_row,
    zero_row,
)

ROOT = Path(__file__).parent.parent
GAP_BAR_MS = 500.0
"""Maximum gap in a stream, ms, p95, after its relay was killed: a player with half a second of buffer shows none."""
RTTS = 2
"""Round trips of the slowest link that the gap bar leaves out: the next parent is asked, and sends, in one each."""
HANDSHAKE_RUNS = 4
"""Runs of handshake-kill, each with twelve searches."""
LEFT_BAR_S = 2.0
"""Longest time for which a parent that swallows or alters frames may be kept, s."""
CROWD_RUNS = 5
"""Runs of the crowd, with successive seeds."""
RIGHT_BAR = 0.95
"""Least share of a crowd's decisions that are as an exact search says: the rest is for bounds at the edge of what is possible."""
DECIDED_BAR_S = 5.0
"""Maximum time, s, until the last subscriber of a crowd is admitted or refused: longer than a viewer waits for a channel."""
HUNG_BAR_S = 10.0
"""Maximum time without a new frame under churn, s: the interval between two checks, so none finds a stream hung."""
MEMORY_BAR = 1.1
"""Maximum memory in the last quarter of the churn run, relative to its second quarter: a leak grows in proportion to
time, so to about twice as much; the tenth is for the number of hosts, which differs by chance."""
LEAVE_BAR_S = 3.0
"""Maximum time, s, until a subscriber has left a link whose delay has jumped: longer than a few rounds of measurements
that must agree, shorter than a viewer would wait."""
RAD_BAR = 1.02
"""Maximum RAD of the hybrid tree, relative to the cube's tree in the same run: it must not be worse; the fiftieth is for
what delays measured on frames differ between two runs."""
RATE_BAR = 20_000.0
"""Minimum events/s of the simulation, best of all seeds: a coarse guard, so that many seeds stay affordable; unlike a ratio
it depends on the machine, hence the best."""
SEEDS = re.compile(r"\d+:\d+")

Output = dict[str, Any]
"""What a command printed with --json."""


class PartFailed(Exception):
    """A command that a part runs has failed, so that there is nothing to judge."""


class PartSkipped(Exception):
    """A run that a part needs was skipped."""


class Soak:
    """The parts by name. Each runs `cubecast` commands and judges what they print."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self.parts: dict[str, Callable[[], Iterator[Row]]] = {
            "relay-kill": self._relay_kill,
            "relay-kill-far": self._relay_kill_far,
            "crowd": self._crowd,
            "handshake-kill": self._handshake_kill,
            "hostile": self._hostile,
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
        """Without network delays."""
        output = _testbed("relay-kill", *self._runs())
        yield from _losses("relay-kill", output)
        yield absolute_row("relay-kill: gap p95", _p95(output["gap_ms"]["p95"]), "ms", GAP_BAR_MS)

    def _relay_kill_far(self) -> Iterator[Row]:
        """With transit-stub delays: RTTS round trips of the tree's slowest link are subtracted from each gap."""
        output = _testbed("relay-kill", "--network", "transit-stub", *self._runs())
        yield from _losses("relay-kill, transit-stub", output)
        beyond = [
            gap_ms - RTTS * run["detail"].get("slowest_rtt_ms", 0.0)
            for run in output["runs"]
            for gap_ms in run["gaps_ms"]
        ]
        p95 = float(np.percentile(beyond, 95)) if beyond else float("inf")
        name = f"relay-kill, transit-stub: gap beyond {RTTS} round trips, p95"
        yield absolute_row(name, p95, "ms", GAP_BAR_MS)
        yield _figure("relay-kill, transit-stub: gap p95", _p95(output["gap_ms"]["p95"]), "ms")

    def _crowd(self) -> Iterator[Row]:
        """Subscribers that all ask at once, on measured delays: decisions against an exact search, over several seeds."""
        if self._args.matrix is None:
            yield skipped_row("crowd", "no measured delays; name a file: --matrix")
            return
        output = _testbed("crowd", "--network", str(self._args.matrix), "--runs", str(CROWD_RUNS), *self._seed())
        yield from _losses("crowd", output)
        details = [run["detail"] for run in output["runs"] if "judged" in run["detail"]]
        if not details:
            return
        judged, right = (sum(detail[name] for detail in details) for name in ("judged", "right"))
        name = f"crowd: share of {judged} decisions that are right"
        yield absolute_row(name, right / max(1, judged), "", RIGHT_BAR, at_most=False)
        slowest_s = max(max(detail["decided_s"]) for detail in details)
        yield absolute_row("crowd: time to the last decision", slowest_s, "s", DECIDED_BAR_S)
        switches = [detail.get("switches_per_minute") for detail in details]
        yield _count("crowd: switches a minute after 2 minutes", sum(-1 if each is None else each for each in switches))

    def _handshake_kill(self) -> Iterator[Row]:
        """On measured delays, if there are any: there more paths lead over hosts that carry nothing yet."""
        network = () if self._args.matrix is None else ("--network", str(self._args.matrix))
        output = _testbed("handshake-kill", *network, "--runs", str(HANDSHAKE_RUNS), *self._seed())
        yield from _losses("handshake-kill", output)
        details = [run["detail"] for run in output["runs"] if "outcomes" in run["detail"]]
        if not details:
            return
        decided = Counter(step for detail in details for step, each in detail["outcomes"].items() for _ in each)
        undecided = sum(detail["undecided"] for detail in details)
        yield _count(f"handshake-kill: undecided of {sum(decided.values())} searches", undecided)
        yield _figure("handshake-kill: kinds of messages at which a host was killed", len(decided), "")

    def _hostile(self) -> Iterator[Row]:
        """Every attack of a malicious host, once."""
        for run in _testbed("hostile", *self._seed())["runs"]:
            detail = run["detail"]
            if run["skipped"]:
                yield skipped_row("hostile", run["skipped"])
                continue
            if "failed" in detail:
                yield failed_row("hostile", PartFailed(detail["failed"]))
                continue
            name = f"hostile, {detail['attack']}"
            yield _count(f"{name}: succeeded", detail["succeeded"])
            yield _count(f"{name}: hosts ended", detail["hosts_ended"])
            yield _count(f"{name}: frames lost elsewhere", detail["frames_lost_elsewhere"])
            if detail["behind_it"]:
                left_s = float("inf") if detail["never_left"] else detail["seconds_to_detect"] or 0.0
                yield absolute_row(f"{name}: time until it is left", left_s, "s", LEFT_BAR_S)

    def _churn(self) -> Iterator[Row]:
        run = _only_run(_testbed("churn"))
        detail = run["detail"]
        hung_s, memory = float(detail["longest_hung_s"]), detail["memory_mb"]
        yield absolute_row("churn: longest without a frame", hung_s, "s", HUNG_BAR_S)
        quarter = max(1, len(memory) // 4)
        last_mb, second_mb = (float(np.mean(part)) for part in (memory[-quarter:], memory[quarter : 2 * quarter]))
        yield ratio_row("churn: memory, last quarter", last_mb, "MB", "second quarter", second_mb, MEMORY_BAR)
        yield _count("churn: processes left", run["processes_left"])
        yield _figure("churn: success ratio, mean over time", round(run["success_ratio"], 4), "")

    def _grow_shrink(self) -> Iterator[Row]:
        output = _testbed("grow-shrink")
        shapes = _only_run(output)["detail"]["shapes"]
        yield from _losses("grow-shrink", output)
        yield _count(
            "grow-shrink: shapes that did not change or come back",
            int(len(set(shapes)) != 2 or shapes[0] != shapes[-1]),
        )

    def _links(self) -> Iterator[Row]:
        yield from guarded("delay-jump", self._delay_jump())
        yield from guarded("jitter", self._jitter())

    def _delay_jump(self) -> Iterator[Row]:
        run = _only_run(_testbed("delay-jump"))
        left_s = run["seconds_to_leave_bad_link"]
        left_s = float("inf") if left_s is None else left_s
        yield absolute_row("delay-jump: time until off the link", left_s, "s", LEAVE_BAR_S)
        yield _count("delay-jump: returned while it was bad", int(run["detail"]["returned_while_bad"]))
        yield _count("delay-jump: frames lost", run["frames_lost"])

    def _jitter(self) -> Iterator[Row]:
        yield _count("jitter: switches", _only_run(_testbed("jitter"))["switches"])

    def _outages(self) -> Iterator[Row]:
        for outage in ("stall", "partition", "loss-burst"):
            yield from guarded(outage, self._outage(outage))

    def _outage(self, outage: str) -> Iterator[Row]:
        output = _testbed(outage)
        _only_run(output)
        yield from _losses(outage, output)

    def _directory_down(self) -> Iterator[Row]:
        output = _testbed("directory-down")
        answered = _only_run(output)["detail"]["answer"]
        yield from _losses("directory-down", output)
        yield _count("directory-down: new subscribers without an answer", int(not answered))

    def _nat(self) -> Iterator[Row]:
        output = _testbed("nat")
        hidden = _only_run(output)["detail"]["hidden_on_hidden"]
        yield from _losses("nat", output)
        yield _count("nat: hidden hosts on hidden hosts", len(hidden))

    def _trees(self) -> Iterator[Row]:
        if self._args.matrix is None:
            yield skipped_row("trees", "no measured delays; name a file: --matrix")
            return
        output = _testbed("trees", "--network", str(self._args.matrix))
        run = _only_run(output)
        yield from _losses("trees", output)
        rad, detail = float(run["rad"]), run["detail"]
        yield _count("trees, the cube's: frames lost", detail["cube"]["frames_lost"])
        cube = float(detail["cube"]["rad"])
        late_ms = f"{detail['machine_late_ms_per_hop']:.1f} ms a hop subtracted"
        yield ratio_row(f"trees: RAD, 32 hosts, {late_ms}", rad, "", "the cube", cube, RAD_BAR)

    def _simulate(self) -> Iterator[Row]:
        output = _cubecast("lab", "simulate", str(ROOT / "scenarios/churn-2000.toml"), "--seeds", self._args.seeds)
        runs = output["runs"]
        yield _count(f"simulation, {len(runs)} seeds: laws broken", sum(len(run["invariants_broken"]) for run in runs))
        rate = max(float(run["events_per_second"]) for run in runs)
        yield absolute_row("simulation: best events/s", rate, "1/s", RATE_BAR, at_most=False)
        yield _figure("simulation: success ratio, least", min(run["success_ratio"] for run in runs), "")
        yield _figure("simulation: reconnect p99, worst", max(run["reconnect_ms"]["p99"] for run in runs), "ms")

    def _seed(self) -> tuple[str, ...]:
        return ("--seed", str(self._args.seed))

    def _runs(self) -> tuple[str, ...]:
        return ("--runs", str(self._args.runs), *self._seed())


def _testbed(*args: str) -> Output:
    return _cubecast("testbed", *args)


def _cubecast(*args: str) -> Output:
    done = subprocess.run(
        [sys.executable, "-m", "cubecast", *args, "--json"], stdout=subprocess.PIPE, text=True, check=False
    )
    if not done.stdout.strip():
        raise PartFailed(f"cubecast {' '.join(args)} ended with status {done.returncode} and printed no result")
    output: Output = json.loads(done.stdout)
    return output


def _losses(name: str, output: Output) -> Iterator[Row]:
    """Rows for lost frames, streams that died and processes that were left running, over all runs that did not fail."""
    done = [run for run in output["runs"] if not run["skipped"]]
    runs = [run for run in done if "failed" not in run["detail"]]
    yield _figure(f"{name}: runs skipped", len(output["runs"]) - len(done), "")
    for number, run in enumerate(output["runs"]):
        if "failed" in run["detail"]:
            yield failed_row(f"{name}: seed {output['seed'] + number}", PartFailed(run["detail"]["failed"]))
    if not runs:
        return
    yield _count(f"{name}, {len(runs)} runs: streams that died", sum(run["frames_lost"] is None for run in runs))
    yield _count(f"{name}, {len(runs)} runs: frames lost", sum(run["frames_lost"] or 0 for run in runs))
    yield _count(f"{name}, {len(runs)} runs: processes left", sum(run["processes_left"] for run in runs))


def _only_run(output: Output) -> Output:
    """The run of a command that makes one.

    Raises:
        PartFailed: it failed.
        PartSkipped: it was skipped.
    """
    (run,) = output["runs"]
    if run["skipped"]:
        raise PartSkipped(run["skipped"])
    if "failed" in run["detail"]:
        raise PartFailed(run["detail"]["failed"])
    found: Output = run
    return found


def guarded(name: str, rows: Iterator[Row]) -> Iterator[Row]:
    """The rows; if what makes them fails, the ones so far and a row that says why, so that other parts go on."""
    try:
        yield from rows
    except PartSkipped as skipped:
        yield skipped_row(name, str(skipped))
    except PartFailed as failed:
        yield failed_row(name, failed)
    except (LookupError, TypeError, ValueError) as error:
        yield failed_row(name, PartFailed(f"its result is not as expected: {type(error).__name__}: {error}"))


def _count(name: str, value: float | None) -> Row:
    """A count that must be 0; None, where the command gives no count, counts as -1."""
    return zero_row(name, -1 if value is None else value)


def _figure(name: str, value: float, unit: str) -> Row:
    """A figure without a bar."""
    return unjudged_row(name, value, unit, "nothing", 1)


def _p95(value: float | None) -> float:
    """A percentile from a command's output; infinite if the command measured nothing, so that no bar holds."""
    return float("inf") if value is None else float(value)


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
        parser.error("--runs must be a whole number from 1, --seeds two of them, such as 1:50")
    soak = Soak(args)
    names = args.only.split(",") if args.only else list(soak.parts)
    if unknown := set(names) - set(soak.parts):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; the parts are {', '.join(soak.parts)}")
    rows = (row for name in names for row in guarded(name, soak.parts[name]()))
    return all_hold(list(print_as_they_come(rows, args.json)), args.json)


if __name__ == "__main__":
    sys.exit(main())
