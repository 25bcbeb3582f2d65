"""`cubecast bench relay | lab | extensions | ipc | directory`: measures figures and judges them by their bars."""

import argparse
import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from cubecast.bench import directory, extensions, ipc, page, relay
from cubecast.bench.rows import Row, all_hold, print_as_they_come
from cubecast.cli.arguments import Parser, whole_number
from cubecast.errors import LabError
from cubecast.media.sources import MediaSource

MATRICES = "planetlab-*.txt.gz"
"""File names of the measured RTTs that `cubecast bench lab` reads."""


class Bench(NamedTuple):
    """One benchmark.

    Attributes:
        text: what it measures; the help text and the title of its page.
        measure: its rows, from the parsed options.
        add_options: adds the options that only this benchmark has.
        draw: its plot, if it has one.
        note: what to say on its page about the figures.
    """

    text: str
    measure: Callable[[argparse.Namespace], Iterable[Row]]
    add_options: Callable[[Parser], None] = lambda _: None
    draw: page.Draw | None = None
    note: str = ""


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(prog="cubecast bench", description="Measure, best of several, and judge by the bars.")
    verbs = parser.add_subparsers(dest="name", metavar="NAME", required=True, parser_class=Parser)
    for name, bench in BENCHES.items():
        verb = verbs.add_parser(name, help=bench.text, description=bench.text)
        verb.add_argument("--json", action="store_true", help="print one object")
        bench.add_options(verb)
        verb.add_argument("--output", type=Path, metavar="FOLDER", help="also write a page with a table here")
    args = parser.parse_args(arguments)
    bench = BENCHES[args.name]
    if args.output is not None:
        page.check(args.output, bench.draw)
    rows = list(print_as_they_come(bench.measure(args), args.json))
    status = all_hold(rows, args.json)
    if args.output is not None:
        page.write(args.name, bench.text, rows, args.output, bench.draw, bench.note)
    return status


def _relay_options(parser: Parser) -> None:
    parser.add_argument(
        "--rounds", type=whole_number(1, 100), default=relay.ROUNDS, metavar="N", help="of each relay (%(default)s)"
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=relay.SECONDS, metavar="S", help="of load in a round (%(default)s)"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.5 <= seconds <= 600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration; give 0.5 to 600 seconds")
    return seconds


def _relay(args: argparse.Namespace) -> Iterable[Row]:
    return relay.measure(args.rounds, args.seconds)


def _lab_options(parser: Parser) -> None:
    parser.add_argument("--matrices", type=Path, metavar="DIR", help=f"measured RTTs, {MATRICES}; without, skip")
    parser.add_argument("--all", action="store_true", help="also time cubecast lab run all")


def _lab(args: argparse.Namespace) -> Iterable[Row]:
    missing = [name for name in ("numba", "joblib", "pyarrow") if importlib.util.find_spec(name) is None]
    if missing:
        raise LabError(f"this benchmark needs {', '.join(missing)}; install it with: pip install 'cubecast[lab]'")
    if args.matrices is not None and not any(args.matrices.glob(MATRICES)):
        raise LabError(
            f"--matrices {args.matrices} holds no {MATRICES}; name the folder of measured RTTs, or leave it out"
        )
    from cubecast.bench import lab  # noqa: PLC0415  needs the lab's packages, which the other benchmarks do not

    return lab.measure(args.matrices, args.all)


def _extension_options(parser: Parser) -> None:
    parser.add_argument("--clip", type=Path, metavar="FILE", help="a 720p clip to process live (default: one is made)")


def _extensions(args: argparse.Namespace) -> Iterable[Row]:
    if args.clip is not None:
        with MediaSource(str(args.clip)):
            pass  # reports an unreadable file before minutes of measuring
    return extensions.measure(args.clip)


BENCHES = {
    "relay": Bench("CPU time of a relay for each GB, against a bare moq-rs relay", _relay, _relay_options),
    "lab": Bench("Speed and memory of the lab, and the quality of trees and labels", _lab, _lab_options),
    "extensions": Bench(
        "Costs of the sandbox: calls, batches, comparison with native code, deadlines", _extensions, _extension_options
    ),
    "ipc": Bench(
        "Four bytes between protection domains, against the working set", lambda _: ipc.measure(), draw=ipc.draw
    ),
    "directory": Bench(
        "Joins, leaves and lease ticks of the super-node's engine, 10 000 hosts against 1250 and 1000",
        lambda _: directory.measure(),
        note=directory.NOTE,
    ),
}
