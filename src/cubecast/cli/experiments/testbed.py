"""`cubecast testbed SCENARIO`: injects scripted faults into real processes of this machine and reports the effects."""

import tempfile
from itertools import product
from pathlib import Path

import numpy as np

from cubecast.cli.arguments import Parser, add_trace_option, add_tree_option, period, whole_number
from cubecast.cli.command_runner import BROKEN, INTERRUPTED, json_text, notify, run_async
from cubecast.emulator.processes import Fields, ProcessDied
from cubecast.emulator.scenarios.catalogue import SCENARIOS, ScenarioEntry
from cubecast.emulator.scenarios.hostile import ATTACKS
from cubecast.emulator.scenarios.run import NoRelayError, Run, Setting
from cubecast.errors import UsageError
from cubecast.media.sources import MediaSource
from cubecast.media.synthesis import synthesise, synthesise_light
from cubecast.physical.catalogue import load_network

HOSTS_MAX = 250
"""Maximum number of hosts, each a process of this machine."""
RUNS_MAX = 1000
"""Maximum number of runs."""
CLIP_S = 8.0
"""Length in seconds of the clip that is made if none is given; publishers repeat it."""
LIGHT_FROM = 24
"""Number of hosts from which on the clip that is made has a lower rate, so that the machine keeps up."""
QUIET = ("holding; press Enter", "super-node", "host ")
"""Prefixes of output lines of the processes that are not shown, since they are the same in every run."""


def run(arguments: list[str]) -> int:
    """Runs the command."""
    args = _parser().parse_args(arguments)
    entry = SCENARIOS[args.scenario]
    hosts = args.hosts or entry.hosts
    subscribers = args.subscribers or min(entry.subscribers, max(1, hosts - entry.publishers))
    seconds = args.seconds
    _check(args.scenario, entry, hosts, subscribers, seconds)
    if args.trace is not None and args.runs > 1:
        raise UsageError("--trace is of one run; leave --runs out")
    attacks = _attacks(args.scenario, args.attack)
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="cubecast-testbed-") as folder:
        source = _clip(args.clip, Path(folder), light=hosts >= LIGHT_FROM)
        for number, attack in product(range(args.runs), attacks):
            name = args.network or entry.network
            network = load_network(name, hosts + entry.spare, args.seed + number)
            home = Path(folder) / f"{number}{attack}"
            home.mkdir()
            seed = args.seed + number
            setting = Setting(
                *(network, name, hosts, subscribers, seed, args.tree, source, home, seconds, notify, _on_line),
                *(args.trace, attack),
            )
            result = run_async(_run(entry, setting), None)
            if result is None:  # interrupted
                return INTERRUPTED
            runs.append(result)
            if not args.json:
                print(_line(seed, result), flush=True)
    if all(result.skipped for result in runs):
        raise UsageError(runs[0].skipped)
    summary = _summary(args.scenario, args.seed, runs)
    print(json_text(summary) if args.json else f"gap over all subscribers and runs, ms: {summary['gap_ms']}")
    failed = [str(args.seed + number) for number, result in enumerate(runs) if not result.passed]
    if failed:
        notify(
            f"frames were lost or duplicated, streams were lost, or processes died or were left, "
            f"with --seed {', '.join(failed)}"
        )
    return BROKEN if failed else 0


def _attacks(scenario: str, wanted: str | None) -> tuple[str, ...]:
    """The attacks to run, one after the other; one empty name for a scenario without any."""
    if scenario != "hostile":
        if wanted is not None:
            raise UsageError(f"{scenario} has no attacks; leave --attack out")
        return ("",)
    if wanted in (None, "all"):
        return ATTACKS
    if wanted not in ATTACKS:
        raise UsageError(f"there is no attack {wanted!r}; take all or one of {', '.join(ATTACKS)}")
    return (str(wanted),)


def _check(scenario: str, entry: ScenarioEntry, hosts: int, subscribers: int, seconds: float | None) -> None:
    """Refuses sizes and lengths that the scenario cannot have."""
    others = hosts - entry.publishers
    if others < 1:
        raise UsageError(f"{scenario} has {entry.publishers} publishers; take at least {entry.publishers + 1} --hosts")
    if not 1 <= subscribers <= others:
        raise UsageError(
            f"{subscribers} subscribers among {hosts} hosts: {entry.publishers} publish, so take 1 to {others}"
        )
    if seconds is not None and entry.seconds is None:
        raise UsageError(f"{scenario} has a fixed length; leave --seconds out")
    if seconds is not None and entry.seconds is not None and seconds < entry.seconds[1]:
        raise UsageError(f"{scenario}: --seconds is the length of {entry.seconds[0]}, {entry.seconds[1]:g} s or more")


def _parser() -> Parser:
    parser = Parser(
        prog="cubecast testbed",
        description="Inject scripted faults into real processes over an emulated network, once or with several seeds. "
        "Exit status 1 if frames were lost or duplicated, a stream was lost, or a process died or was left. "
        + " ".join(f"{name}: {entry.text}." for name, entry in SCENARIOS.items()),
    )
    parser.add_argument("scenario", choices=list(SCENARIOS), help="what happens")
    parser.add_argument("--hosts", type=whole_number(2, HOSTS_MAX), metavar="M", help="(by the scenario)")
    parser.add_argument("--subscribers", type=whole_number(1, HOSTS_MAX), metavar="N", help="(by the scenario)")
    parser.add_argument("--network", metavar="NAME|FILE", help="none, transit-stub, a topohub name or a file of RTTs")
    parser.add_argument("--seed", type=whole_number(0, 2**31), default=1, metavar="N", help="seed of the first run (1)")
    parser.add_argument(
        "--runs",
        type=whole_number(1, RUNS_MAX),
        default=1,
        metavar="N",
        help="number of runs, with successive seeds (1)",
    )
    add_tree_option(parser)
    parser.add_argument("--attack", metavar="NAME|all", help="what the malicious host does, with hostile (all)")
    parser.add_argument("--clip", metavar="FILE", help="what to publish (a clip is made)")
    parser.add_argument(
        "--seconds",
        type=period,
        metavar="TIME",
        help="length of the stream or the fault, such as 60 or 2m (by the scenario)",
    )
    add_trace_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object; progress goes to standard error")
    return parser


async def _run(entry: ScenarioEntry, setting: Setting) -> Run | None:
    try:
        return await entry.scenario(setting)
    except NoRelayError as error:
        setting.notify(f"seed {setting.seed} is skipped: {error}")
        return Run(skipped=str(error))
    except ProcessDied as error:
        setting.notify(f"seed {setting.seed} failed: {error}")
        return Run(detail={"failed": str(error)})


def _on_line(process: str, line: str) -> None:
    if not line.startswith(QUIET):
        notify(f"{process}: {line}")


def _clip(file: str | None, folder: Path, *, light: bool) -> str:
    """The clip's path: the given file, checked before anything starts, or a clip that is made."""
    if file is None:
        path = folder / "clip.mp4"
        (synthesise_light if light else synthesise)(path, CLIP_S)
        return str(path)
    with MediaSource(file):
        return file


def _line(seed: int, result: Run) -> str:
    """The result of one run as a line of text."""
    if result.skipped:
        return f"seed {seed}: skipped: {result.skipped}"
    if "failed" in result.detail:
        return f"seed {seed}: failed: {result.detail['failed']}"
    values = {name: value for name, value in result.as_json().items() if name not in ("gaps_ms", "detail", "skipped")}
    return f"seed {seed}: " + ", ".join(
        f"{name.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"
        for name, value in values.items()
        if value is not None
    )


def _summary(scenario: str, seed: int, runs: list[Run]) -> Fields:
    """The object of --json."""
    gaps = [gap for result in runs for gap in result.gaps_ms]
    p50, p95 = np.percentile(gaps, [50, 95]) if gaps else (None, None)
    return {
        "scenario": scenario,
        "seed": seed,
        "runs": [result.as_json() for result in runs],
        "gap_ms": {
            "p50": p50 if p50 is None else round(float(p50), 1),
            "p95": p95 if p95 is None else round(float(p95), 1),
        },
    }
