"""`cubecast channels`: lists the channels, hosts and subscriptions that the super-node knows."""

from cubecast.cli.arguments import Parser, add_directory_options
from cubecast.cli.command_runner import serve
from cubecast.cli.report import json_lines, text
from cubecast.client.directory import overview


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(prog="cubecast channels", description="List channels, hosts and subscriptions.")
    add_directory_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(arguments)
    return serve(_show(args.supernode, args.token, as_json=args.json))


async def _show(supernode: str, token: str, *, as_json: bool) -> int:
    found = await overview(supernode, token, on_event=text.print_event)
    (json_lines if as_json else text).print_overview(found)
    return 0
