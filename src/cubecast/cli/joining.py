"""For all commands that run a host: joining with the parsed arguments, and the printing of events."""

import argparse
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from cubecast.cli.arguments import reserved
from cubecast.cli.report import json_lines, text
from cubecast.client.events import Event
from cubecast.client.host import Host, join


def event_printer(*, json: bool) -> Callable[[Event], None]:
    """The function that prints events: as JSON lines or as text."""
    return json_lines.print_event if json else text.print_event


def join_host(args: argparse.Namespace, on_event: Callable[[Event], None]) -> AbstractAsyncContextManager[Host]:
    """The host that the arguments of `add_host_options` describe; it joins when the block is entered.

    Raises:
        UsageError: an address, name or token argument has no meaning.
    """
    return join(
        args.supernode,
        args.token,
        name=args.name,
        listen=args.listen,
        advertise=args.advertise,
        source_address=args.source_address,
        label=args.label,
        fan_out=args.fan_out,
        uplink_bps=args.uplink,
        reserve=reserved(args.reserve),
        policy=args.policy,
        seed=args.seed,
        process=args.process,
        key=args.key,
        trace=args.trace,
        on_event=on_event,
    )
