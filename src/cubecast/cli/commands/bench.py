"""`cubecast bench extensions | ipc`: figures against their bars."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from cubecast.bench import extensions, ipc, page
from cubecast.bench.rows import Row, tell
from cubecast.cli.arguments import Parser
from cubecast.media.sources import MediaSource


class Bench(NamedTuple):
    """One of them: its rows, what it is, and its plot where it has one."""

    measure: Callable[[], Iterable[Row]]
    text: str
    draw: page.Draw | None = None


BENCHES = {
    "extensions": Bench(extensions.measure, "What the sandbox costs: calls, batches, native code beside it, deadlines"),
    "ipc": Bench(ipc.measure, "Four bytes between protection domains, against the working set", ipc.draw),
}


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(prog="cubecast bench", description="Measure, best of several, and hold it against the bars.")
    verbs = parser.add_subparsers(dest="name", metavar="NAME", required=True, parser_class=Parser)
    for name, bench in BENCHES.items():
        verb = verbs.add_parser(name, help=bench.text, description=bench.text)
        verb.add_argument("--json", action="store_true", help="print one object")
        if name == "extensions":
            verb.add_argument("--clip", type=Path, metavar="FILE", help="a 720p clip to process live (one made here)")
        verb.add_argument("--output", type=Path, metavar="FOLDER", help="also write a page with a table here")
    args = parser.parse_args(arguments)
    bench = BENCHES[args.name]
    clip = getattr(args, "clip", None)
    if clip is not None:
        with MediaSource(str(clip)):
            pass  # one that cannot be read is told at once
    rows = list(bench.measure() if clip is None else extensions.measure(clip))
    if args.output is not None:
        page.write(args.name, bench.text, rows, args.output, bench.draw)
    return tell(rows, args.json)
