"""`cubecast process IN OUT --extension FILE`: a channel made from another by an extension, here or on another host."""

import argparse
import asyncio
import signal
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
from cubecast.cli.command_runner import emit, notify, serve
from cubecast.cli.commands import remote_process as elsewhere
from cubecast.cli.commands.extension import settings
from cubecast.cli.commands.remote_process import failing, finished, told
from cubecast.cli.report.host_status import STATUS_S, tell_joined
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import check_name
from cubecast.errors import CubecastError, UsageError
from cubecast.host.config import HostConfig
from cubecast.host.derived.channel import DerivedChannel
from cubecast.host.local.subscription import Subscription
from cubecast.host.open_host import open_host
from cubecast.processing.pipeline import Pipeline
from cubecast.sandbox.loading import load
from cubecast.types import ChannelName

BOUND_DEFAULT_MS = 1000.0
SUBSCRIBER = "subscriber"


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(
        prog="cubecast process",
        description="Receive a channel, send it through an extension, and publish what comes of it as another channel. "
        "SIGHUP goes on with the extension as FILE is then. With --at another host does it, for as long as this runs.",
    )
    parser.add_argument("source", metavar="IN", help="the channel it is made from")
    parser.add_argument("channel", metavar="OUT", help="the channel that is made")
    parser.add_argument(
        "--extension", required=True, metavar="FILE", help="a module, signed code, or a shipped one's name"
    )
    parser.add_argument("--config", action="append", default=[], metavar="K=V", help="a setting; again for each")
    parser.add_argument(
        "--at",
        default=SUBSCRIBER,
        metavar="WHERE",
        help="subscriber (this host), publisher (of IN), auto, or a host (%(default)s)",
    )
    parser.add_argument("--trusted", type=Path, metavar="FILE", help="public keys whose native and Python code is run")
    parser.add_argument(
        "--bound", type=milliseconds, default=BOUND_DEFAULT_MS, metavar="TIME",
        help="latest a frame of IN may arrive where it is processed, such as 150ms (1s)",
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
    if args.at != SUBSCRIBER:
        return elsewhere.run(args)
    contract = Contract(args.bound, args.rate, args.loss)
    processing = DerivedChannel(
        ChannelName(args.source), ChannelName(args.channel), load(args.extension, trusted=args.trusted),
        settings(args.config), contract, args.tree,
    )  # fmt: skip
    return serve(_process(host_config(args), processing, args))


async def _process(config: HostConfig, processing: DerivedChannel, args: argparse.Namespace) -> int:
    def announced(subscription: Subscription, pipeline: Pipeline) -> None:
        tracks = [str(track) for track in pipeline.tracks]
        if args.json:
            promised_ms = subscription.terms.metrics.least_bound_ms
            emit("announced", channel=processing.channel, source=processing.source, tracks=tracks, input_ms=promised_ms)
        else:
            notify(f"channel {processing.channel} is made from {processing.source}: {'; '.join(tracks)}")

    upgrades = asyncio.Queue[None](1)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _put, upgrades)
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(open_host(config, notify))
        tell_joined(host, args.json)
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(_upgrade(processing, upgrades, args)), group.create_task(_tell(processing, args.json))
            ]  # fmt: skip
            try:
                await processing.run(host, announced)
            finally:
                for task in background:
                    task.cancel()
    if args.json:
        emit("finished", **told(processing.channel, processing.progress()))
    else:
        notify(finished(processing.channel, processing.progress()))
    return 0


def _put(upgrades: "asyncio.Queue[None]") -> None:
    if upgrades.empty():
        upgrades.put_nowait(None)


async def _upgrade(processing: DerivedChannel, upgrades: "asyncio.Queue[None]", args: argparse.Namespace) -> None:
    """Takes the extension's file again whenever it is told to; one that is not in order changes nothing."""
    while True:
        await upgrades.get()
        try:
            extension = await asyncio.to_thread(load, args.extension, trusted=args.trusted)
            await processing.upgrade(extension)
        except CubecastError as error:
            notify(f"{error}; the version before works on")
        else:
            notify(f"{extension.manifest.name} {extension.manifest.version} takes over")


async def _tell(processing: DerivedChannel, json: bool) -> None:
    failures = 0
    while True:
        await asyncio.sleep(STATUS_S)
        progress = processing.progress()
        if json:
            emit("status", **told(processing.channel, progress))
        elif progress.failures > failures:
            notify(failing(processing.channel, progress))
        failures = progress.failures
