"""`cubecast host`: a host that carries others' channels, and any number of its own, until stopped."""

import argparse
import asyncio
import re
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
from cubecast.cli.commands.publish import Publication
from cubecast.cli.commands.subscribe import Output, Reception
from cubecast.cli.report.host_status import STATUS_S, status, tell_joined
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import check_name
from cubecast.errors import ChannelUnknown, CubecastError, UsageError
from cubecast.host.config import HostConfig
from cubecast.host.open_host import open_host
from cubecast.host.runtime import HostRuntime
from cubecast.types import ChannelName

AGAIN_S = 3.0
"""A channel that nobody announces is asked for again after so long."""


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
        "--subscribe", action="append", type=_pair, default=[], metavar="CHANNEL=TIME[:FILE]",
        help="within a bound, such as news=300ms or news=300ms:news.ts; again for each channel",
    )  # fmt: skip
    add_tree_option(parser)
    add_contract_options(parser)
    parser.add_argument("--loop", action="store_true", help="start sources again at their end")
    parser.add_argument("--json", action="store_true", help="say what happens as JSON lines")
    args = parser.parse_args(arguments)
    config = host_config(args)
    publications = [Publication(channel, source, loop=args.loop, tree=args.tree) for channel, source in args.publish]
    receptions: list[Reception] = []
    try:
        for channel, wish in args.subscribe:
            receptions.append(_reception(channel, wish, args.rate, args.loss))
        _check_once([p.channel for p in publications], "--publish")
        _check_once([r.channel for r in receptions], "--subscribe")
        return serve(_run(config, publications, receptions, args.json))
    finally:
        for reception in receptions:
            reception.output.abandon()


def _pair(text: str) -> tuple[ChannelName, str]:
    channel, _, value = text.partition("=")
    if not channel or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not CHANNEL=VALUE, such as radio=music.mp3")
    try:
        check_name("channel name", channel)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return ChannelName(channel), value


def _reception(channel: ChannelName, wish: str, rate_bps: float, loss: float) -> Reception:
    bound, _, file = wish.partition(":")
    try:
        bound_ms = milliseconds(bound)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"--subscribe {channel}: {error}") from error
    if file == "-" or (file and re.fullmatch(r"\s*", Path(file).name)):
        raise UsageError(f"--subscribe {channel}: {file!r} is no file to write to")
    return Reception(channel, Contract(bound_ms, rate_bps, loss), Output(file, None))


def _check_once(channels: list[ChannelName], option: str) -> None:
    if len(set(channels)) < len(channels):
        twice = next(channel for channel in channels if channels.count(channel) > 1)
        raise UsageError(f"{option} {twice} was given twice; a channel needs it once")


async def _run(config: HostConfig, publications: list[Publication], receptions: list[Reception], json: bool) -> int:
    async with AsyncExitStack() as stack:
        for publication in publications:
            await publication.open()
            stack.callback(publication.stop)
        host = await stack.enter_async_context(open_host(config, notify))
        tell_joined(host, json)
        async with asyncio.TaskGroup() as group:
            work: list[Publication | Reception] = [*publications, *receptions]
            for each in work:
                group.create_task(_go_on_without(each, host, json))
            for reception in receptions if json else []:
                group.create_task(reception.report(host))
            await _watch(host, json)
    return 0


async def _go_on_without(work: Publication | Reception, host: HostRuntime, json: bool) -> None:
    """One channel that cannot be had takes nothing from the others; one that nobody announces yet is waited for."""
    waits = False
    while True:
        try:
            await work.run(host, json)
        except ChannelUnknown:
            if not waits:
                notify(f"channel {work.channel!r} is not announced yet; waiting for it")
            waits = True
            await asyncio.sleep(AGAIN_S)
        except CubecastError as error:
            notify(f"{error}; the host goes on without it")
            return
        else:
            return


async def _watch(host: HostRuntime, json: bool) -> None:
    carried: tuple[tuple[str, int], ...] = ()
    while True:
        await asyncio.sleep(STATUS_S)
        now = tuple((branch.channel, len(branch.children)) for branch in host.view().branches)
        if now != carried and not json:
            notify("carrying " + (", ".join(f"{c} to {n} host(s)" for c, n in now) or "nothing"))
        if json:
            emit("status", **status(host))
        carried = now
