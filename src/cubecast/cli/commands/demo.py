"""`cubecast demo`: the whole system on one machine, over an emulated Internet, and what came of it."""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.live import Live

from cubecast.cli.arguments import Parser, milliseconds, one_of, whole_number
from cubecast.cli.command_runner import BROKEN, notify, run_async
from cubecast.cli.report.demo import DemoReport, draw_report, live_table, make_report, print_report
from cubecast.emulator.testbed import Plan, Testbed, make_plan, running
from cubecast.engine.protocol.records import FAN_OUT_DEFAULT, FAN_OUT_MAX, Tree
from cubecast.errors import MediaError
from cubecast.media.sinks import Container
from cubecast.media.sources import MediaSource
from cubecast.media.synthesis import synthesise
from cubecast.media.verification import count_decodable
from cubecast.overlay.cube import parse_cube
from cubecast.overlay.routing import Policy
from cubecast.physical.catalogue import load_network
from cubecast.physical.network import PhysicalNetwork

HOSTS_MAX = 250
SECONDS_DEFAULT = 8.0
REFRESH_PER_S = 4
PLAIN_WIDTH = 100
"""Columns of a report that goes to no terminal."""


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(
        prog="cubecast demo",
        description="Start a super-node, a delay stage and hosts as real processes; publish a clip; subscribe with "
        "different bounds; report what arrived. Exit status 0 only if nothing was lost.",
    )
    parser.add_argument("--hosts", type=whole_number(2, HOSTS_MAX), default=16, metavar="M", help="(%(default)s)")
    parser.add_argument("--subscribers", type=whole_number(1, HOSTS_MAX), metavar="N", help="(half of the hosts)")
    parser.add_argument("--clip", metavar="FILE", help="what to publish (a clip is made on the spot)")
    parser.add_argument(
        "--network", default="transit-stub", metavar="NAME|FILE",
        help="transit-stub, a topohub name such as sndlib/germany50, or a file of RTTs in ms (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--tree", type=one_of(Tree), metavar="|".join(Tree), help="how hosts choose parents (hybrid)")
    parser.add_argument(
        "--policy",
        type=one_of(Policy),
        metavar="|".join(Policy),
        help="next hops over the cube; implies --tree cube (greedy)",
    )
    parser.add_argument("--shape", metavar="K^N", help="shape of the cube, such as 2^4 (chosen for the hosts)")
    parser.add_argument("--bound", type=milliseconds, metavar="TIME", help="one bound for all (a spread of bounds)")
    parser.add_argument("--fan-out", type=whole_number(1, FAN_OUT_MAX), default=FAN_OUT_DEFAULT, help="(%(default)s)")
    parser.add_argument("--seed", type=whole_number(0, 2**31), default=1, metavar="N", help="(%(default)s)")
    parser.add_argument("-o", "--output", metavar="FILE", help="where the received file goes (received.ts or .mp4)")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="draw the report as a picture too")
    parser.add_argument("--json", action="store_true", help="print one JSON object; progress goes to standard error")
    args = parser.parse_args(arguments)
    for wanted in (args.output, args.picture):
        _check_writable(wanted)
    network = load_network(args.network, args.hosts, args.seed)
    subscribers = args.subscribers or max(1, args.hosts // 2)
    cube = None if args.shape is None else parse_cube(args.shape)
    plan = make_plan(network, subscribers, args.policy or Policy.GREEDY, args.seed, args.fan_out, cube, args.bound)
    tree = args.tree or (Tree.HYBRID if args.policy is None else Tree.CUBE)
    with tempfile.TemporaryDirectory(prefix="cubecast-demo-") as name:
        folder = Path(name)
        source = _clip(args.clip, folder)
        report = run_async(
            _demo(plan, network, args.network, source, folder, tree, args.json), DemoReport.interrupted()
        )
        if report.exit_early:
            return report.exit_early
        report.received_file = _keep_one(report, folder, args.output)
    if args.json:
        print(json.dumps(report.as_json()))
    else:
        width = None if sys.stdout.isatty() else PLAIN_WIDTH
        print_report(Console(width=width, markup=False, highlight=False), report)
    if args.picture is not None:
        draw_report(args.picture, report)
    return 0 if report.nothing_lost else BROKEN


def _check_writable(wanted: str | Path | None) -> None:
    """Tells a bad path before the run, not after it."""
    path = Path(wanted or "received.ts")
    if not path.parent.is_dir() or path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise MediaError(f"cannot write {path}: no such folder, or no permission; choose another file")


def _clip(wanted: str | None, folder: Path) -> str:
    """The clip's path, checked before anything starts; made on the spot when none was given."""
    if wanted is None:
        path = folder / "clip.mp4"
        notify(f"no --clip given: making one of {SECONDS_DEFAULT:g} s (moving picture, rising tone)")
        synthesise(path, SECONDS_DEFAULT)
        return str(path)
    with MediaSource(wanted) as source:
        notify(f"{wanted}: {'; '.join(str(track) for track in source.tracks)}")
    return wanted


async def _demo(
    plan: Plan, network: PhysicalNetwork, network_name: str, source: str, folder: Path, tree: Tree, quiet: bool
) -> DemoReport:
    """One run, watched while it goes."""
    console = Console(stderr=True)
    show_live = console.is_terminal and not quiet

    def on_line(process: str, line: str) -> None:
        if "holding; press Enter" not in line and not line.startswith(("super-node", "host ")):
            console.print(f"{process}: {line}", style="dim", highlight=False, markup=False)

    async with running(plan, network_name, source, folder, on_line, notify, publish=("--tree", tree), keep=True) as bed:
        notify(f"subscribing {len(plan.subscribers)} hosts, one after another")
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_watch(bed, console)) if show_live else None
            await bed.subscribe_all()
            if tree is Tree.HYBRID:
                notify("the tree settles")
                await bed.settle()
            if watching is None:
                notify("all subscribers are admitted or refused; publishing")
            await bed.stream()
            if watching is not None:
                watching.cancel()
        return make_report(bed, network, tree)


async def _watch(bed: Testbed, console: Console) -> None:
    """Shows the live table until cancelled."""
    with Live(console=console, refresh_per_second=REFRESH_PER_S, transient=True) as live:
        while True:
            live.update(live_table(bed))
            await asyncio.sleep(1 / REFRESH_PER_S)


def _keep_one(report: DemoReport, folder: Path, wanted: str | None) -> str:
    """Copies the first admitted subscriber's file to where the user finds it, and decodes it."""
    first = next((s for s in report.subscribers if s.admitted and s.frames["received"]), None)
    if first is None:
        return ""
    received = folder / f"{first.host}-received"
    suffix = Container.TS if received.read_bytes()[:1] == b"G" else Container.MP4
    target = Path(wanted or f"received.{suffix}")
    try:
        shutil.copyfile(received, target)
    except OSError as error:
        raise MediaError(f"cannot write {target}: {error.strerror}; choose another with -o") from error
    report.decoded = count_decodable(str(target))
    return str(target)
