"""`cubecast channels`: what the super-node knows."""

import json

import msgspec
from rich.console import Console
from rich.table import Table

from cubecast.cli.arguments import Parser, add_directory_options, read_token
from cubecast.cli.command_runner import notify, serve
from cubecast.engine.protocol.http_bodies import Overview
from cubecast.host.directory.client import DirectoryClient


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(prog="cubecast channels", description="List channels, hosts and subscriptions.")
    add_directory_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(arguments)
    return serve(_show(args.supernode, read_token(args.token), args.json))


async def _show(supernode: str, token: str, as_json: bool) -> int:
    client = DirectoryClient(supernode, token, notify)
    try:
        overview = await client.overview()
    finally:
        await client.close()
    if as_json:
        print(json.dumps(msgspec.to_builtins(overview)))
    else:
        _print(overview)
    return 0


def _print(overview: Overview) -> None:
    console = Console()
    channels = Table(title=f"{len(overview.hosts)} hosts on a cube of {overview.shape}", title_justify="left")
    for column in ("channel", "publisher", "label", "subscribers"):
        channels.add_column(column)
    for channel in overview.channels:
        channels.add_row(channel.channel, channel.publisher, channel.label, str(channel.subscribers))
    console.print(channels)
    if not overview.subscriptions:
        return
    ledger = Table(title="Subscriptions", title_justify="left")
    for column in ("channel", "subscriber", "bound", "promised", "state", "kept", "violated"):
        ledger.add_column(column)
    for line in overview.subscriptions:
        promised = "" if line.promised_ms is None else f"{line.promised_ms:.0f} ms"
        seconds = (f"{line.compliance.kept_s} s", f"{line.compliance.violated_s} s")
        ledger.add_row(line.channel, line.subscriber, f"{line.bound_ms:.0f} ms", promised, line.state, *seconds)
    console.print(ledger)
