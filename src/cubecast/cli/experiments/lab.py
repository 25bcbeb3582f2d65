"""`cubecast lab list | run | plot | compare | pages | network | simulate`: experiments, networks and simulations."""

import argparse
import dataclasses
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cubecast.cli.arguments import Parser, add_trace_option, whole_number
from cubecast.cli.command_runner import BROKEN, json_text, notify
from cubecast.errors import LabError, UsageError
from cubecast.overlay.cube import Cube, label_count, parse_cube
from cubecast.physical.catalogue import NAMES, PUBLISHED_HOSTS, is_file, load_network
from cubecast.physical.network import HOSTS_MAX
from cubecast.physical.saved import save_network

if TYPE_CHECKING:
    from cubecast.lab.experiment import Experiment, ExperimentResult, Parameters

PACKAGES = ("numba", "joblib", "matplotlib", "pyarrow")
"""Packages of the optional dependency group `lab`, without which only `network` works."""
PLAIN_WIDTH = 160
"""Width of a table, in characters, if standard output is not a terminal."""
SEEDS_MAX = 1000
"""Maximum number of seeds in a run."""
FAN_OUT_MAX = 256
"""Maximum fan-out of an experiment."""
LABELS_MAX = 1 << 22
"""Maximum labels of a cube; tables of a larger one do not fit in memory."""
RESULTS = Path("lab-results")
"""Default folder of results."""
OPTIONS = ("network", "size", "seeds", "shape", "pairs", "fan_out", "group", "publishers")
"""Options of `run` that are parameters of experiments, by field name."""


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(
        prog="cubecast lab", description="Reproduce the published experiments, run further ones, and simulate."
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    verbs.add_parser("list", help="name the experiments")
    _add_run(verbs.add_parser("run", help="run experiments by name, or all"))
    for verb, text in (("plot", "draw results"), ("pages", "write the documentation's pages from results")):
        sub = verbs.add_parser(verb, help=text)
        if verb == "plot":
            sub.add_argument("names", nargs="*", metavar="NAME", help="experiments (all that have results)")
        _add_results(sub)
        sub.add_argument("--output", type=Path, metavar="DIR", help="folder to write to (the folder of results)")
    sub = verbs.add_parser("compare", help="compare results with a baseline; status 1 when a claim no longer holds")
    sub.add_argument("baseline", type=Path, metavar="BASELINE", help="a folder of results, or one file")
    _add_results(sub)
    sub = verbs.add_parser("network", help="make a network and save it; --network FILE.npz loads it")
    sub.add_argument("network", metavar="NAME", help=NAMES)
    sub.add_argument("--size", type=whole_number(1, HOSTS_MAX), metavar="M", help="hosts (65536; all of a file)")
    sub.add_argument("--seed", type=whole_number(0, 2**31), default=1, metavar="N", help="(%(default)s)")
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.npz", help="file to write")
    _add_simulate(verbs.add_parser("simulate", help="run the live engine on an event queue, as a scenario specifies"))
    args = parser.parse_args(arguments)
    if args.verb == "network":
        return _network(args)
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise LabError(f"the lab needs {', '.join(missing)}; install it with: pip install 'cubecast[lab]'")
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": _list,
        "run": _run,
        "plot": _plot,
        "compare": _compare,
        "pages": _pages,
        "simulate": _simulate,
    }
    return actions[args.verb](args)


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="folder of results (%(default)s)")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME", help="experiments, or all")
    parser.add_argument("--network", metavar="NAME|FILE", help=NAMES)
    parser.add_argument("--size", type=whole_number(2, HOSTS_MAX), metavar="M", help="hosts (65536; all of a file)")
    parser.add_argument("--seeds", type=_seeds, metavar="S", help="such as 1, 1,5,9 or 1:4 for 1 to 4 (1)")
    parser.add_argument("--shape", type=_shape, metavar="K^N", help="shape of the cube, such as 2^16")
    parser.add_argument("--pairs", type=whole_number(1, 10**8), metavar="N", help="number of routes")
    parser.add_argument(
        "--fan-out", type=whole_number(1, FAN_OUT_MAX), metavar="N", help="maximum copies that a host sends"
    )
    parser.add_argument("--group", type=_group, metavar="G|all", help="number of subscribers")
    parser.add_argument(
        "--publishers", type=whole_number(1, 10_000), metavar="P", help="number of publishers to average over"
    )
    parser.add_argument(
        "--jobs",
        type=whole_number(1, 1024),
        default=os.cpu_count() or 1,
        metavar="J",
        help="number of processes (%(default)s)",
    )
    parser.add_argument("--scheduler", default="", metavar="ADDRESS", help="a Dask scheduler, such as tcp://host:8786")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each experiment, one a line")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder for results (lab-results; with --json, none)"
    )


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", type=Path, metavar="SCENARIO.toml", help="hosts, network, churn, faults")
    parser.add_argument("--seeds", type=_seeds, default=(1,), metavar="A:B", help="such as 1, 1,5,9 or 1:4 (1)")
    parser.add_argument(
        "--jobs",
        type=whole_number(1, 1024),
        default=os.cpu_count() or 1,
        metavar="J",
        help="number of processes (%(default)s)",
    )
    add_trace_option(parser)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object: the scenario, and a run for each seed"
    )


def _seeds(text: str) -> tuple[int, ...]:
    try:
        first, colon, last = text.partition(":")
        span = range(int(first), int(last) + 1) if colon else range(0)
        seeds = tuple(span[: SEEDS_MAX + 1]) if colon else tuple(int(part) for part in text.split(","))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0 or max(seeds) >= 2**31 or len(seeds) > SEEDS_MAX:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of seeds; write 1, 1,5,9 or 1:4, at most {SEEDS_MAX} of them"
        )
    return tuple(dict.fromkeys(seeds))


def _group(text: str) -> int:
    if text == "all":
        return 0
    return int(whole_number(1, HOSTS_MAX)(text))


def _shape(text: str) -> Cube:
    try:
        shape = parse_cube(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if label_count(shape) > LABELS_MAX:
        raise argparse.ArgumentTypeError(f"shape {text} has more than 2^22 labels, too many for the lab; try 2^16")
    return shape


def _list(_args: argparse.Namespace) -> int:
    from cubecast.lab.experiments import EXPERIMENTS  # noqa: PLC0415  only where the lab is installed

    for experiment in EXPERIMENTS.values():
        print(f"{experiment.name:<19}{experiment.title}")
        print(f"{'':<19}{experiment.source}")
        print(f"{'':<19}options: {', '.join('--' + name.replace('_', '-') for name in sorted(experiment.options))}")
    return 0


def _run(args: argparse.Namespace) -> int:
    from cubecast.lab.experiments import experiments  # noqa: PLC0415
    from cubecast.lab.report import claims_table, ensure_writable, rows_table, save  # noqa: PLC0415
    from cubecast.lab.sweep import run_experiments  # noqa: PLC0415

    chosen = [(experiment, _parameters(args, experiment)) for experiment in experiments(args.names)]
    for name in OPTIONS:
        if getattr(args, name) is not None and not any(name in experiment.options for experiment, _ in chosen):
            option = "--" + name.replace("_", "-")
            raise UsageError(
                f"{option} is not an option of {', '.join(args.names)}; cubecast lab list shows the options of each"
            )
    output = args.output or (None if args.json else RESULTS)
    if output is not None:
        ensure_writable(output)
    started = time.monotonic()
    with _Progress() as progress:
        results = run_experiments(chosen, args.jobs, args.scheduler, progress.show)
    if output is not None:
        for result in results:
            save(result, output)
    if args.json:
        for result in results:
            print(json_text(result.as_json()))
        return 0
    console = _console()
    for result in results if len(results) <= 2 else []:
        console.print(rows_table(result))
    console.print(claims_table(results))
    notify(f"{time.monotonic() - started:.0f} s; results are in {output}/, cubecast lab plot draws them")
    return 0


def _parameters(args: argparse.Namespace, experiment: "Experiment") -> "Parameters":
    given = {name: getattr(args, name) for name in experiment.options if getattr(args, name) is not None}
    return dataclasses.replace(experiment.defaults, **given)


class _Progress:
    """A progress bar on standard error while tasks run, if it is a terminal."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, done: int, total: int, name: str) -> None:
        """Updates the bar: `done` of `total` tasks have run, the last one of experiment `name`."""
        self._bar.update(self._task, completed=done, total=total, description=name)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, markup=False, highlight=False)


def _chosen(args: argparse.Namespace) -> "list[ExperimentResult]":
    from cubecast.lab.experiments import EXPERIMENTS, experiments  # noqa: PLC0415
    from cubecast.lab.report import load, load_all  # noqa: PLC0415

    names = getattr(args, "names", [])
    if names and names != ["all"]:
        return [load(args.results / f"{experiment.name}.json") for experiment in experiments(names)]
    found = load_all(args.results)
    return [found[name] for name in EXPERIMENTS if name in found]


def _plot(args: argparse.Namespace) -> int:
    from cubecast.lab.plots import plot  # noqa: PLC0415

    for result in _chosen(args):
        print(plot(result, args.output or args.results))
    return 0


def _pages(args: argparse.Namespace) -> int:
    from cubecast.lab.pages import write_pages  # noqa: PLC0415

    for path in write_pages(_chosen(args), args.output or args.results):
        print(path)
    return 0


def _compare(args: argparse.Namespace) -> int:
    from cubecast.lab.report import compare, load_all  # noqa: PLC0415

    baseline, ours = load_all(args.baseline), load_all(args.results)
    table, lost = compare(ours, baseline)
    absent = [name for name in baseline if name not in ours]
    if absent:
        notify(f"not compared, because there is no result: {', '.join(absent)}")
    if table.row_count:
        _console().print(table)
    else:
        print("no figure changed by 1 % or more")
    for line in lost:
        notify(f"no longer holds: {line}")
    return BROKEN if lost else 0


def _simulate(args: argparse.Namespace) -> int:
    """Runs a scenario with each seed; status 1 if an invariant was broken."""
    from cubecast.lab.sweep import run_simulations  # noqa: PLC0415
    from cubecast.simulation.scenario import load_scenario  # noqa: PLC0415

    if args.trace is not None and len(args.seeds) > 1:
        raise UsageError("--trace is of one run; give one seed, such as --seeds 1")
    scenario = load_scenario(args.scenario)
    runs = []
    for done in run_simulations(scenario, args.seeds, args.jobs, args.trace):
        runs.append(done)
        broken = len(done.invariants_broken)
        served = "no subscribers" if done.success_ratio is None else f"success ratio {done.success_ratio:.3f}"
        p50, p99 = done.reconnect_ms["p50"], done.reconnect_ms["p99"]
        again = (
            ""
            if p50 is None or p99 is None
            else f"reconnect p50 {p50:.0f} ms, p99 {p99:.0f} ms over {done.reconnects}, "
        )
        notify(
            f"seed {done.seed}: {served}, {again}{broken or 'no'} invariant(s) broken, "
            f"{done.events} events, {done.events_per_second:.0f} a second, digest {done.digest}"
        )
    if args.json:
        print(json_text({"scenario": args.scenario.name, "runs": [dataclasses.asdict(done) for done in runs]}))
    return BROKEN if any(done.invariants_broken for done in runs) else 0


def _network(args: argparse.Namespace) -> int:
    hosts = args.size if args.size is not None or is_file(args.network) else PUBLISHED_HOSTS
    with Console(stderr=True).status(f"making {args.network}"):
        network = load_network(args.network, hosts, args.seed)
        save_network(network, args.output)
    notify(f"{args.output}: {network.name}, {network.hosts} hosts, {network.routes.links} router links")
    return 0
