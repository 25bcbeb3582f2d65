"""`cubecast process IN OUT --extension FILE`: a channel made from another by an extension, on this host."""

import argparse
from contextlib import AsyncExitStack
from pathlib import Path

from cubecast.cli.arguments import (
    Parser,
    add_contract_options,
    add_host_options,
    add_tree_option,
    host_config,
    milliseconds,
)
from cubecast.cli.extension import settings
from cubecast.cli.running import emit, notify, serve
from cubecast.cli.telling import tell_joined
from cubecast.engine.reach import Contract
from cubecast.engine.records import check_name
from cubecast.errors import UsageError
from cubecast.host.config import HostConfig
from cubecast.host.pipeline import Pipeline
from cubecast.host.processing import Processing
from cubecast.host.runtime import running
from cubecast.host.subscription import Subscription
from cubecast.sandbox.loading import load
from cubecast.types import ChannelName

BOUND_DEFAULT_MS = 1000.0


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(
        prog="cubecast process",
        description="Receive a channel, send it through an extension, and publish what comes of it as another channel.",
    )
    parser.add_argument("source", metavar="IN", help="the channel it is made from")
    parser.add_argument("channel", metavar="OUT", help="the channel that is made")
    parser.add_argument(
        "--extension", required=True, metavar="FILE", help="a module, signed code, or a shipped one's name"
    )
    parser.add_argument("--config", action="append", default=[], metavar="K=V", help="a setting; again for each")
    parser.add_argument("--trusted", type=Path, metavar="FILE", help="public keys whose native and Python code is run")
    parser.add_argument(
        "--bound", type=milliseconds, default=BOUND_DEFAULT_MS, metavar="TIME",
        help="latest a frame of IN may arrive here, such as 150ms (1s)",
    )  # fmt: skip
    add_contract_options(parser)
    add_tree_option(parser)
    parser.add_argument("--json", action="store_true", help="say what happens as JSON lines")
    add_host_options(parser)
    args = parser.parse_args(arguments)
    for name in (args.source, args.channel):
        check_name("channel name", name)
    if args.source == args.channel:
        raise UsageError(f"IN and OUT are both {args.source}; a channel is not made from itself")
    contract = Contract(args.bound, args.rate, args.loss)
    processing = Processing(
        ChannelName(args.source), ChannelName(args.channel), load(args.extension, trusted=args.trusted),
        settings(args.config), contract, args.tree,
    )  # fmt: skip
    return serve(_process(host_config(args), processing, args))


async def _process(config: HostConfig, processing: Processing, args: argparse.Namespace) -> int:
    def announced(subscription: Subscription, pipeline: Pipeline) -> None:
        tracks = [str(track) for track in pipeline.tracks]
        if args.json:
            promised_ms = subscription.terms.reach.least_bound_ms
            emit("announced", channel=processing.channel, source=processing.source, tracks=tracks, input_ms=promised_ms)
        else:
            notify(f"channel {processing.channel} is made from {processing.source}: {'; '.join(tracks)}")

    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(running(config, notify))
        tell_joined(host, args.json)
        await processing.run(host, announced)
    account, making = processing.account, processing.making
    if args.json:
        emit(
            "finished", channel=processing.channel, frames_in=account.frames_in, frames_out=account.frames_out,
            failures=account.failures, bypassed=account.bypassed, dropped=account.dropped, overrun=processing.overrun,
            making_ms=making.mean_ms,
        )  # fmt: skip
    else:
        notify(
            f"channel {processing.channel} finished: {account.frames_in} frames in, {account.frames_out} out, "
            f"{account.failures} failure(s), {making.mean_ms or 0.0:.1f} ms in the making"
        )
    return 0
