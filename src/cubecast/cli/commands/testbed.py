"""`cubecast testbed SCENARIO`: scripted faults on real processes of this machine, and what came of them."""

import json
import tempfile
from pathlib import Path

import numpy as np

from cubecast.cli.arguments import Parser, add_tree_option, milliseconds, whole_number
from cubecast.cli.command_runner import BROKEN, INTERRUPTED, notify, run_async
from cubecast.emulator.processes import Fields, ProcessDied
from cubecast.emulator.scenarios.catalogue import SCENARIOS, Shape
from cubecast.emulator.scenarios.run import NoRelayError, Run, Setting
from cubecast.errors import UsageError
from cubecast.media.sources import MediaSource
from cubecast.media.synthesis import synthesise, synthesise_light
from cubecast.physical.catalogue import load_network

HOSTS_MAX = 250
RUNS_MAX = 1000
CLIP_S = 8.0
LIGHT_FROM = 24
"""From so many hosts on the clip that is made is a light one, so that the machine keeps up."""
QUIET = ("holding; press Enter", "super-node", "host ")
"""Lines of the processes that say nothing new."""


def run(arguments: list[str]) -> int:
    """Runs the command."""
    args = _parser().parse_args(arguments)
    shape = SCENARIOS[args.scenario]
    hosts = args.hosts or shape.hosts
    others = hosts - shape.publishers
    subscribers = args.subscribers or min(shape.subscribers, others)
    if others < 1:
        raise UsageError(
            f"{args.scenario} has {shape.publishers} publishers; take at least {shape.publishers + 1} --hosts"
        )
    if not 1 <= subscribers <= others:
        raise UsageError(
            f"{subscribers} subscribers among {hosts} hosts: {shape.publishers} publish, so take 1 to {others}"
        )
    seconds = None if args.seconds is None else args.seconds / 1000
    if seconds is not None and shape.seconds is None:
        raise UsageError(f"{args.scenario} has a length of its own; leave --seconds out")
    if seconds is not None and shape.seconds is not None and seconds < shape.seconds[1]:
        raise UsageError(
            f"{args.scenario}: --seconds is the length of {shape.seconds[0]}, {shape.seconds[1]:g} s or more"
        )
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="cubecast-testbed-") as folder:
        source = _clip(args.clip, Path(folder), light=hosts >= LIGHT_FROM)
        for number in range(args.runs):
            name = args.network or shape.network
            network = load_network(name, hosts + shape.spare, args.seed + number)
            home = Path(folder) / str(number)
            home.mkdir()
            setting = Setting(
                network, name, hosts, subscribers, args.seed + number, args.tree, source, home,
                seconds, notify, _on_line,
            )  # fmt: skip
            done = run_async(_run(shape, setting), None)
            if done is None:  # interrupted
                return INTERRUPTED
            runs.append(done)
            if not args.json:
                print(_line(args.seed + number, done), flush=True)
    if all(done.skipped for done in runs):
        raise UsageError(runs[0].skipped)
    told = _summary(args.scenario, args.seed, runs)
    print(json.dumps(told) if args.json else f"gap over all subscribers and runs, ms: {told['gap_ms']}")
    broken = [str(args.seed + number) for number, done in enumerate(runs) if not done.sound]
    if broken:
        notify(f"frames or streams were lost, or processes died or were left, with --seed {', '.join(broken)}")
    return BROKEN if broken else 0


def _parser() -> Parser:
    parser = Parser(
        prog="cubecast testbed",
        description="Run a scripted fault on real processes over an emulated network, some times with other seeds. "
        + " ".join(f"{name}: {shape.text}." for name, shape in SCENARIOS.items()),
    )
    parser.add_argument("scenario", choices=list(SCENARIOS), help="what happens")
    parser.add_argument("--hosts", type=whole_number(2, HOSTS_MAX), metavar="M", help="(by the scenario)")
    parser.add_argument("--subscribers", type=whole_number(1, HOSTS_MAX), metavar="N", help="(by the scenario)")
    parser.add_argument("--network", metavar="NAME|FILE", help="none, transit-stub, a topohub name or a file of RTTs")
    parser.add_argument("--seed", type=whole_number(0, 2**31), default=1, metavar="N", help="of the first run (1)")
    parser.add_argument(
        "--runs", type=whole_number(1, RUNS_MAX), default=1, metavar="N", help="seeds from --seed on (1)"
    )
    add_tree_option(parser)
    parser.add_argument("--clip", metavar="FILE", help="what to publish (a clip is made on the spot)")
    parser.add_argument("--seconds", type=milliseconds, metavar="TIME", help="how long it goes on (by the scenario)")
    parser.add_argument("--json", action="store_true", help="print one JSON object; progress goes to standard error")
    return parser


async def _run(shape: Shape, setting: Setting) -> Run | None:
    try:
        return await shape.scenario(setting)
    except NoRelayError as error:
        setting.notify(f"seed {setting.seed} is skipped: {error}")
        return Run(skipped=str(error))
    except ProcessDied as error:
        setting.notify(f"seed {setting.seed} failed: {error}")
        return Run(detail={"failed": str(error)})


def _on_line(process: str, line: str) -> None:
    if not line.startswith(QUIET):
        notify(f"{process}: {line}")


def _clip(wanted: str | None, folder: Path, *, light: bool) -> str:
    """The clip's path, checked before anything starts; made on the spot when none was given."""
    if wanted is None:
        path = folder / "clip.mp4"
        (synthesise_light if light else synthesise)(path, CLIP_S)
        return str(path)
    with MediaSource(wanted):
        return wanted


def _line(seed: int, done: Run) -> str:
    """One run for people."""
    if done.skipped:
        return f"seed {seed}: skipped: {done.skipped}"
    if "failed" in done.detail:
        return f"seed {seed}: failed: {done.detail['failed']}"
    told = {name: value for name, value in done.as_json().items() if name not in ("gaps_ms", "detail", "skipped")}
    return f"seed {seed}: " + ", ".join(
        f"{name.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"
        for name, value in told.items()
        if value is not None
    )


def _summary(scenario: str, seed: int, runs: list[Run]) -> Fields:
    """The object of --json."""
    gaps = [gap for done in runs for gap in done.gaps_ms]
    p50, p95 = np.percentile(gaps, [50, 95]) if gaps else (None, None)
    return {
        "scenario": scenario,
        "seed": seed,
        "runs": [done.as_json() for done in runs],
        "gap_ms": {
            "p50": p50 if p50 is None else round(float(p50), 1),
            "p95": p95 if p95 is None else round(float(p95), 1),
        },
    }
