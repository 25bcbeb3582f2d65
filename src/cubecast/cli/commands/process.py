"""`cubecast process IN OUT --extension FILE`: a channel made from another by an extension, here or on another host."""

import argparse
import asyncio
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from cubecast.cli.arguments import (
    BOUND_DEFAULT_MS,
    Parser,
    add_contract_options,
    add_host_options,
    add_tree_option,
    extension_settings,
    milliseconds,
)
from cubecast.cli.command_runner import serve
from cubecast.cli.joining import event_printer, join_host
from cubecast.client.derivation import Derivation
from cubecast.client.host import Host
from cubecast.client.remote_job import RemoteJob
from cubecast.errors import UsageError

SUBSCRIBER = "subscriber"
"""Value of --at with which this host makes the channel."""
HERE_ONLY = (
    "trusted",
    "name",
    "listen",
    "advertise",
    "source_address",
    "label",
    "fan_out",
    "uplink",
    "reserve",
    "process",
    "policy",
    "seed",
)
"""Options that only have an effect where this host makes the channel: with another --at it does not join."""


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.at != SUBSCRIBER:
        _refuse_options_of_a_host(parser, args)
    print_event = event_printer(json=args.json)
    contract = {"bound_ms": args.bound, "rate_bps": args.rate, "loss": args.loss}
    config = extension_settings(args.config)
    if args.at != SUBSCRIBER:
        job = RemoteJob(
            args.source,
            args.channel,
            args.extension,
            at=args.at,
            config=config,
            tree=args.tree,
            supernode=args.supernode,
            token=args.token,
            on_event=print_event,
            **contract,
        )
        job.load()
        return serve(_own(job))
    derivation = Derivation(
        args.source, args.channel, args.extension, config=config, tree=args.tree, trusted=args.trusted, **contract
    )
    derivation.load()
    return serve(_process(join_host(args, print_event), derivation))


def _refuse_options_of_a_host(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses options that would have no effect, because another host makes the channel.

    Raises:
        UsageError: one was given.
    """
    for name in HERE_ONLY:
        if getattr(args, name) != parser.get_default(name):
            option = "--" + name.replace("_", "-")
            raise UsageError(
                f"{option} is for a channel made here, but --at {args.at} has another host make it; leave one out"
            )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="cubecast process",
        description="Receive a channel, process it with an extension, and publish the result as another channel. "
        "SIGHUP loads FILE again and continues with it. With --at another host does it, for as long as this runs.",
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
        "--bound",
        type=milliseconds,
        default=BOUND_DEFAULT_MS,
        metavar="TIME",
        help="latest a frame of IN may arrive where it is processed, such as 150ms (1s)",
    )
    add_contract_options(parser)
    add_tree_option(parser)
    parser.add_argument("--json", action="store_true", help="print events as JSON lines")
    add_host_options(parser)
    return parser


async def _process(joining: AbstractAsyncContextManager[Host], derivation: Derivation) -> int:
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, derivation.upgrade)
    async with joining as host:
        await host.process(derivation)
    return 0


async def _own(job: RemoteJob) -> int:
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, job.upgrade)
    await job.run()
    return 0
