"""`cubecast demo`: runs an overlay on one machine, over an emulated Internet, and checks that its promises are kept."""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live

from cubecast.cli.arguments import Parser, add_trace_option, check_outputs, milliseconds, one_of, whole_number
from cubecast.cli.command_runner import BROKEN, json_text, notify, run_async
from cubecast.cli.report.demo import DemoReport, make_report
from cubecast.cli.report.demo_text import draw_report, live_table, print_report
from cubecast.emulator.plan import Plan, make_plan
from cubecast.emulator.relay_failure import RelayFailure, kill_busiest_relay, observe_tree
from cubecast.emulator.testbed import Testbed, open_testbed
from cubecast.engine.protocol.records import FAN_OUT_MAX, Tree
from cubecast.errors import MediaError
from cubecast.media.sinks import Container
from cubecast.media.sources import MediaSource
from cubecast.media.synthesis import synthesise
from cubecast.media.verification import count_decodable
from cubecast.overlay.cube import parse_cube
from cubecast.overlay.routing import Policy
from cubecast.physical.catalogue import load_network
from cubecast.physical.network import PhysicalNetwork

HOSTS_DEFAULT = 12
"""Number of hosts started by default; a run with 12 takes less than a minute on two cores."""
HOSTS_MAX = 250
"""Maximum number of hosts, each a process of this machine."""
FAN_OUT_DEFAULT = 3
"""Default number of copies a host sends, small enough that the publisher cannot feed all subscribers itself."""
SUBSCRIBERS_SHARE = 0.75
"""Share of the hosts that subscribe by default."""
CLIP_S = 8.0
"""Length in seconds of the clip that is made if none is given: 2 s before the kill, and enough to recover."""
REFRESH_PER_S = 4
"""Updates of the live table per second."""
PLAIN_WIDTH = 100
"""Columns of a report that is not written to a terminal."""


@dataclass(frozen=True, slots=True)
class _Run:
    """The plan and options of one demo."""

    plan: Plan
    network: PhysicalNetwork
    network_name: str
    source: str
    folder: Path
    tree: Tree
    kill: bool
    quiet: bool
    trace: Path | None


def run(arguments: list[str]) -> int:
    """Runs the command."""
    args = _parser().parse_args(arguments)
    for output in (args.output, args.picture):
        _check_writable(output)
    check_outputs(
        [args.output or "received.ts", "received.mp4" if args.output is None else None, args.picture], [args.clip]
    )
    network = load_network(args.network, args.hosts, args.seed)
    subscribers = args.subscribers or max(1, int(SUBSCRIBERS_SHARE * args.hosts))
    plan = make_plan(
        network,
        subscribers,
        args.policy or Policy.GREEDY,
        args.seed,
        args.fan_out,
        None if args.shape is None else parse_cube(args.shape),
        args.bound,
        impossible=args.bound is None and subscribers > 1,
    )
    tree = args.tree or (Tree.HYBRID if args.policy is None else Tree.CUBE)
    with tempfile.TemporaryDirectory(prefix="cubecast-demo-") as name:
        folder = Path(name)
        source = _clip(args.clip, folder)
        demo = _Run(plan, network, args.network, source, folder, tree, not args.no_kill, args.json, args.trace)
        report = run_async(_demo(demo), DemoReport.interrupted())
        if report.exit_early:
            return report.exit_early
        report.received_file = _keep_one(report, folder, args.output)
    _write(report, args)
    return BROKEN if report.failures else 0


def _parser() -> Parser:
    parser = Parser(
        prog="cubecast demo",
        description="Start a super-node, a delay stage and hosts as real processes; publish a clip to subscribers "
        "with different bounds, over relays; refuse the one whose bound no path can keep; kill a relay with kill -9 "
        "while the stream runs; report what arrived. Exit status 0 only if no frame was lost, the refused subscriber "
        "was offered a bound that can be kept, and the hosts fed by the killed relay recovered.",
    )
    hosts, subscribers = whole_number(2, HOSTS_MAX), whole_number(1, HOSTS_MAX)
    parser.add_argument("--hosts", type=hosts, default=HOSTS_DEFAULT, metavar="M", help="(%(default)s)")
    parser.add_argument("--subscribers", type=subscribers, metavar="N", help="(three quarters of the hosts)")
    parser.add_argument("--clip", metavar="FILE", help=f"what to publish (a clip of {CLIP_S:g} s is made)")
    parser.add_argument(
        "--network",
        default="transit-stub",
        metavar="NAME|FILE",
        help="transit-stub, a topohub name such as sndlib/germany50, or a file of RTTs in ms (%(default)s)",
    )
    parser.add_argument("--tree", type=one_of(Tree), metavar="|".join(Tree), help="how hosts choose parents (hybrid)")
    parser.add_argument(
        "--policy",
        type=one_of(Policy),
        metavar="|".join(Policy),
        help="next hops over the cube; implies --tree cube (greedy)",
    )
    parser.add_argument("--shape", metavar="K^N", help="shape of the cube, such as 2^4 (chosen for the hosts)")
    parser.add_argument(
        "--bound",
        type=milliseconds,
        metavar="TIME",
        help="one bound for all subscribers (different bounds, one of which cannot be kept)",
    )
    fan_out = whole_number(1, FAN_OUT_MAX)
    parser.add_argument(
        "--fan-out", type=fan_out, default=FAN_OUT_DEFAULT, metavar="N", help="copies a host may send (%(default)s)"
    )
    parser.add_argument("--no-kill", action="store_true", help="kill no relay")
    parser.add_argument("--seed", type=whole_number(0, 2**31), default=1, metavar="N", help="(%(default)s)")
    parser.add_argument("-o", "--output", metavar="FILE", help="where the received file goes (received.ts or .mp4)")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="draw the report as a picture too")
    add_trace_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object; progress goes to standard error")
    return parser


def _check_writable(output: str | Path | None) -> None:
    """Refuses a path that cannot be written before the run, not after it."""
    path = Path(output or "received.ts")
    if not path.parent.is_dir() or path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise MediaError(f"cannot write {path}: no such folder, or no permission; choose another file")


def _clip(file: str | None, folder: Path) -> str:
    """The clip's path: the given file, checked before anything starts, or a clip that is made."""
    if file is None:
        path = folder / "clip.mp4"
        notify(f"no --clip given: making one of {CLIP_S:g} s (moving picture, rising tone)")
        synthesise(path, CLIP_S)
        return str(path)
    with MediaSource(file) as source:
        notify(f"{file}: {'; '.join(str(track) for track in source.tracks)}")
    return file


async def _demo(demo: _Run) -> DemoReport:
    """Runs the demo, with a live table on a terminal."""
    console = Console(stderr=True)
    show_live = console.is_terminal and not demo.quiet
    plan, failure = demo.plan, RelayFailure()

    def on_line(process: str, line: str) -> None:
        if "holding; press Enter" not in line and not line.startswith(("super-node", "host ")):
            console.print(f"{process}: {line}", style="dim", highlight=False, markup=False)

    publish = ("--tree", demo.tree)
    opened = open_testbed(
        plan, demo.network_name, demo.source, demo.folder, on_line, notify, publish=publish, keep=True, trace=demo.trace
    )
    async with opened as bed:
        notify(f"subscribing {len(plan.subscribers)} hosts, one after another")
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_watch(bed, console)) if show_live else None
            await bed.subscribe_all()
            if demo.tree is Tree.HYBRID:
                notify("waiting until no host changes its parent any more")
                await bed.settle()
            notify("all subscribers are admitted or refused; publishing")
            await bed.stream(lambda: _during(bed, failure, kill=demo.kill))
            if watching is not None:
                watching.cancel()
        return make_report(bed, demo.network, demo.tree, failure)


async def _during(bed: Testbed, failure: RelayFailure, *, kill: bool) -> None:
    """Observes the tree while the publisher streams, and kills a relay."""
    await observe_tree(bed, failure)
    if not kill:
        return
    await kill_busiest_relay(bed, failure)
    if failure.killed is None:
        notify(failure.reason)
        return
    fed, recovered = (", ".join(map(bed.plan.name, hosts)) for hosts in (failure.children, failure.recovered))
    notify(f"killed {bed.plan.name(failure.killed)}, which fed {fed}, with kill -9; recovered: {recovered or 'none'}")


async def _watch(bed: Testbed, console: Console) -> None:
    """Shows the live table until cancelled."""
    with Live(console=console, refresh_per_second=REFRESH_PER_S, transient=True) as live:
        while True:
            live.update(live_table(bed))
            await asyncio.sleep(1 / REFRESH_PER_S)


def _keep_one(report: DemoReport, folder: Path, output: str | None) -> str:
    """Copies the file of the first admitted subscriber that was not killed to the output, and decodes it."""
    first = next((row for row in report.admitted if row.frames["received"]), None)
    if first is None:
        return ""
    received = folder / f"{first.host}-received"
    suffix = Container.TS if received.read_bytes()[:1] == b"G" else Container.MP4
    target = Path(output or f"received.{suffix}")
    try:
        shutil.copyfile(received, target)
    except OSError as error:
        raise MediaError(f"cannot write {target}: {error.strerror}; choose another with -o") from error
    report.decoded = count_decodable(str(target))
    return str(target)


def _write(report: DemoReport, args: argparse.Namespace) -> None:
    """Writes the report where the user wants it."""
    if args.json:
        print(json_text(report.as_json()))
    else:
        width = None if sys.stdout.isatty() else PLAIN_WIDTH
        print_report(Console(width=width, markup=False, highlight=False), report)
    if args.picture is not None:
        draw_report(args.picture, report)
