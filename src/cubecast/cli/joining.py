"""For all commands that run a host: joining with the parsed arguments, and the printing of events."""

import argparse
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from cubecast.cli.report import json_lines, text
from cubecast.client.events import Event
from cubecast.client.host import Host, join
from cubecast.errors import UsageError


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
        reserve=_reserved(args.reserve),
        policy=args.policy,
        seed=args.seed,
        process=args.process,
        trace=args.trace,
        on_event=on_event,
    )


def _reserved(options: list[str]) -> dict[str, int]:
    """--reserve CHANNEL=N, given any number of times."""
    reserve: dict[str, int] = {}
    for option in options:
        channel, _, copies = option.partition("=")
        if not copies.isdecimal() or not channel:
            raise UsageError(f"--reserve {option!r} is not CHANNEL=N, such as news=4")
        if channel in reserve:
            raise UsageError(f"--reserve names channel {channel} twice; name it once")
        reserve[channel] = int(copies)
    return reserve
