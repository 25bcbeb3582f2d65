"""`cubecast subscribe CHANNEL --bound 150ms`: receives a channel within a bound, into a file or a player."""

import argparse
import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from cubecast.cli.arguments import (
    BOUND_DEFAULT_MS,
    Parser,
    add_contract_options,
    add_host_options,
    milliseconds,
    one_of,
)
from cubecast.cli.command_runner import notify, serve, wait_for_enter
from cubecast.cli.joining import event_printer, join_host
from cubecast.client.host import Host
from cubecast.client.recording import Output
from cubecast.client.status import while_running
from cubecast.errors import ContainerUnsuitable, MediaError, SubscriptionError, UsageError
from cubecast.media.sinks import Container
from cubecast.names import check_name


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(prog="cubecast subscribe", description="Receive a channel within bounds on latency, rate and loss.")
    parser.add_argument("channel", help="the channel's name")
    parser.add_argument(
        "--bound",
        type=milliseconds,
        default=BOUND_DEFAULT_MS,
        metavar="TIME",
        help="latest a frame may arrive after its capture, such as 150ms or 0.2s (1s)",
    )
    add_contract_options(parser)
    parser.add_argument("-o", "--output", default="", metavar="FILE|-", help="write MPEG-TS or fragmented MP4 there")
    parser.add_argument(
        "--format", type=one_of(Container), metavar="|".join(Container), help="ts or mp4 (by the file's name)"
    )
    parser.add_argument("--hold", action="store_true", help="join, then subscribe when a line comes on standard input")
    parser.add_argument("--stay", action="store_true", help="stay in the overlay as a relay when the channel has ended")
    parser.add_argument("--json", action="store_true", help="print events as JSON lines")
    add_host_options(parser)
    args = parser.parse_args(arguments)
    if args.json and args.output == "-":
        raise UsageError("--json and -o - both need standard output; write to a file instead")
    if args.format is not None and not args.output:
        raise UsageError("--format is the format of the output, and there is none; add -o FILE")
    check_name("channel name", args.channel)
    joining = join_host(args, event_printer(json=args.json))
    try:
        output = Output(args.output, args.format)
        try:
            return serve(_subscribe(joining, output, args))
        finally:
            output.abandon()
    except ContainerUnsuitable as error:
        raise MediaError(f"{error}, or choose with --format") from error


async def _subscribe(joining: AbstractAsyncContextManager[Host], output: Output, args: argparse.Namespace) -> int:
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(joining)
        subscription = host.subscribe(args.channel, args.bound, rate_bps=args.rate, loss=args.loss)
        if args.json:
            await stack.enter_async_context(while_running(subscription.report_status))
        if args.hold:
            await wait_for_enter()
        try:
            await host.record(subscription, output).run()
        except SubscriptionError as error:
            if not args.stay:
                raise
            notify(f"{error}; relaying for others")
        if args.stay:
            await asyncio.Event().wait()
    return 0
