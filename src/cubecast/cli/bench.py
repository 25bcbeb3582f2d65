"""`cubecast bench extensions | ipc`: figures against their bars."""

from collections.abc import Callable, Iterable

from cubecast.bench import extensions, ipc
from cubecast.bench.rows import Row, tell
from cubecast.cli.arguments import Parser

BENCHES: dict[str, tuple[Callable[[], Iterable[Row]], str]] = {
    "extensions": (extensions.measure, "what the sandbox costs: calls, batches, native code beside it, deadlines"),
    "ipc": (ipc.measure, "four bytes between protection domains: pipe, socket, ring, sandbox, against the working set"),
}


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(prog="cubecast bench", description="Measure, best of several, and hold it against the bars.")
    verbs = parser.add_subparsers(dest="name", metavar="NAME", required=True, parser_class=Parser)
    for name, (_, text) in BENCHES.items():
        verbs.add_parser(name, help=text, description=text).add_argument(
            "--json", action="store_true", help="print one object"
        )
    args = parser.parse_args(arguments)
    return tell(list(BENCHES[args.name][0]()), args.json)
