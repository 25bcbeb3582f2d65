"""`cubecast publish CHANNEL SOURCE`: publishes a file, URL or pipe as a channel, in real time."""

import argparse
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from cubecast.cli.arguments import Parser, add_host_options, add_tree_option, period
from cubecast.cli.command_runner import serve, wait_for_enter
from cubecast.cli.joining import event_printer, join_host
from cubecast.client.host import Host
from cubecast.client.source import Source
from cubecast.client.status import while_running
from cubecast.errors import UsageError
from cubecast.names import check_name


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(prog="cubecast publish", description="Publish a file or stream as a channel, in real time.")
    parser.add_argument("channel", help="the channel's name: letters, digits, dots, dashes, underscores")
    parser.add_argument("source", help="any file or URL FFmpeg reads, or - for standard input")
    parser.add_argument("--loop", action="store_true", help="start the source again at its end")
    parser.add_argument(
        "--for", dest="period_s", type=period, metavar="TIME", help="stop after this, such as 60s or 2h"
    )
    add_tree_option(parser)
    parser.add_argument("--hold", action="store_true", help="announce, then start when a line comes on standard input")
    parser.add_argument("--json", action="store_true", help="print events as JSON lines")
    add_host_options(parser)
    args = parser.parse_args(arguments)
    if args.source == "-" and (args.hold or args.loop):
        raise UsageError("--hold and --loop need a source that is not standard input")
    check_name("channel name", args.channel)
    print_event = event_printer(json=args.json)
    source = Source(args.source, loop=args.loop, period_s=args.period_s, on_event=print_event)
    return serve(_publish(source, join_host(args, print_event), args))


async def _publish(source: Source, joining: AbstractAsyncContextManager[Host], args: argparse.Namespace) -> int:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(source)
        host = await stack.enter_async_context(joining)
        publication = await stack.enter_async_context(
            host.publish(args.channel, source, tree=args.tree, before_start=wait_for_enter if args.hold else None)
        )
        if args.json:
            await stack.enter_async_context(while_running(publication.report_status))
        await publication.done()
    return 0
