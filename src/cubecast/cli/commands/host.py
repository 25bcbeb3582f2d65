"""`cubecast host`: a host that carries others' channels, and publishes and receives any number itself, until stopped."""

import argparse
import asyncio
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

from cubecast.cli.arguments import (
    Parser,
    add_contract_options,
    add_host_options,
    add_tree_option,
    check_outputs,
    milliseconds,
)
from cubecast.cli.command_runner import serve
from cubecast.cli.joining import event_printer, join_host
from cubecast.client.events import Event
from cubecast.client.host import Host
from cubecast.client.recording import Output
from cubecast.client.source import Source
from cubecast.client.status import while_running
from cubecast.errors import UsageError
from cubecast.names import check_name


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(
        prog="cubecast host",
        description="Run a host that relays channels for others; it may publish and subscribe to any number itself.",
    )
    add_host_options(parser)
    parser.add_argument(
        "--publish", action="append", type=_pair, default=[], metavar="CHANNEL=SOURCE", help="again for each channel"
    )
    parser.add_argument(
        "--subscribe",
        action="append",
        type=_pair,
        default=[],
        metavar="CHANNEL=TIME[:FILE]",
        help="within a bound, such as news=300ms or news=300ms:news.ts; again for each channel",
    )
    add_tree_option(parser)
    add_contract_options(parser)
    parser.add_argument("--loop", action="store_true", help="start sources again at their end")
    parser.add_argument("--json", action="store_true", help="print events as JSON lines")
    args = parser.parse_args(arguments)
    print_event = event_printer(json=args.json)
    joining = join_host(args, print_event)
    check_outputs([value.partition(":")[2] for _, value in args.subscribe], [source for _, source in args.publish])
    outputs: list[Output] = []
    try:
        requests = [(channel, *_bound_and_output(channel, value, outputs)) for channel, value in args.subscribe]
        _check_once([channel for channel, _ in args.publish], "--publish")
        _check_once([channel for channel, _ in args.subscribe], "--subscribe")
        return serve(_run(joining, requests, args, print_event))
    finally:
        for output in outputs:
            output.abandon()


def _pair(text: str) -> tuple[str, str]:
    channel, _, value = text.partition("=")
    if not channel or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not CHANNEL=VALUE, such as radio=music.mp3")
    try:
        check_name("channel name", channel)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return channel, value


def _bound_and_output(channel: str, value: str, outputs: list[Output]) -> tuple[float, Output]:
    """The bound, ms, and the output of --subscribe CHANNEL=VALUE; `outputs` records the output, so that it is closed."""
    bound, _, file = value.partition(":")
    try:
        bound_ms = milliseconds(bound)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"--subscribe {channel}: {error}") from error
    if file == "-" or (file and re.fullmatch(r"\s*", Path(file).name)):
        raise UsageError(f"--subscribe {channel}: {file!r} cannot be written to; give the path of a file")
    outputs.append(Output(file))
    return bound_ms, outputs[-1]


def _check_once(channels: list[str], option: str) -> None:
    if len(set(channels)) < len(channels):
        twice = next(channel for channel in channels if channels.count(channel) > 1)
        raise UsageError(f"{option} {twice} was given twice; a channel needs it once")


async def _run(
    joining: AbstractAsyncContextManager[Host],
    requests: list[tuple[str, float, Output]],
    args: argparse.Namespace,
    print_event: Callable[[Event], None],
) -> int:
    async with AsyncExitStack() as stack:
        sources = [
            (channel, await stack.enter_async_context(Source(location, loop=args.loop, on_event=print_event)))
            for channel, location in args.publish
        ]
        host = await stack.enter_async_context(joining)
        publications = [host.publish(channel, source, tree=args.tree) for channel, source in sources]
        subscriptions = [
            host.subscribe(channel, bound_ms, rate_bps=args.rate, loss=args.loss) for channel, bound_ms, _ in requests
        ]
        recordings = [
            host.record(subscription, output)
            for subscription, (_, _, output) in zip(subscriptions, requests, strict=True)
        ]
        reports = [host.report_status]
        if args.json:
            reports += [each.report_status for each in publications]
            reports += [each.report_status for each in subscriptions]
        await stack.enter_async_context(while_running(*reports))
        await host.run_all([*publications, *recordings])
        await asyncio.Event().wait()
    return 0
