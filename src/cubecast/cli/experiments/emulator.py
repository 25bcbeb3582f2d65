"""`cubecast emulator`: the delay stage, which emulates a network between hosts of this machine."""

import asyncio
import os
from contextlib import closing, suppress

from cubecast.cli.arguments import Parser, jitter, share, whole_number
from cubecast.cli.command_runner import emit, input_lines, notify, serve
from cubecast.emulator.addresses import NETS, PORT, Addresses, lease
from cubecast.emulator.delays import DelayStage, Impairment
from cubecast.emulator.faults import decode
from cubecast.errors import UsageError
from cubecast.physical.catalogue import load_network
from cubecast.physical.network import PhysicalNetwork

STATUS_S = 1.0
"""Seconds between two status reports."""
PRIORITY = -10
"""Nice value of the process, where the user may set it: the network must not wait for the hosts that use it."""


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(
        prog="cubecast emulator",
        description="Delay datagrams between hosts of this machine as a network would. Host i binds 127.N.0.(i+1) "
        f"port {PORT}, gives that as --source-address, and is reached at 127.(N+1).0.(i+1). Faults are given as lines of "
        'standard input: {"fault": "slower", "a": 0, "b": 1, "by_ms": 100}, {"fault": "island", "hosts": [2, 3]}, '
        '{"fault": "impairment", "jitter_ms": 20, "loss": 0.01}, {"fault": "hidden", "hosts": [4]} (behind a NAT: they cannot be dialled).',
    )
    parser.add_argument("--network", default="transit-stub", help="transit-stub, sndlib/NAME, or a file of RTTs in ms")
    parser.add_argument("--hosts", type=whole_number(1, 1000), default=16, metavar="M", help="(%(default)s)")
    parser.add_argument("--seed", type=whole_number(0, 2**31), default=1, metavar="N", help="(%(default)s)")
    parser.add_argument("--net", type=whole_number(2, 252), metavar="N", help="second byte of the addresses, even")
    parser.add_argument(
        "--jitter", type=jitter, default=0.0, metavar="TIME", help="extra delay, uniform, such as 20ms (none)"
    )
    parser.add_argument(
        "--loss", type=share, default=0.0, metavar="SHARE", help="share that is dropped, such as 1%% (none)"
    )
    parser.add_argument(
        "--outside",
        default="",
        metavar="HOST",
        help="address whose datagrams are forwarded without delay: the super-node's",
    )
    parser.add_argument("--json", action="store_true", help="report as JSON lines")
    args = parser.parse_args(arguments)
    impairment = Impairment(args.jitter, args.loss)
    network = load_network(args.network, args.hosts, args.seed)
    if args.net is not None:
        if args.net % 2:
            raise UsageError(
                f"--net {args.net} is odd; give an even number, the odd one above it is for the addresses others reach the hosts at"
            )
        return serve(_serve(network, Addresses(args.net), impairment, args.seed, args.outside, args.json))
    with closing(lease(NETS)) as held:
        return serve(_serve(network, held.addresses, impairment, args.seed, args.outside, args.json))


async def _serve(
    network: PhysicalNetwork, plan: Addresses, impairment: Impairment, seed: int, outside: str, json: bool
) -> int:
    with suppress(OSError):  # only some users may raise a priority
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    stage = DelayStage(network.matrix_ms(), plan, impairment, seed, outside)
    stage.open()
    with closing(stage):
        hosts = network.hosts
        if json:
            emit("serving", network=network.name, hosts=hosts, net=plan.net, port=PORT)
        else:
            notify(f"{network.name}: {hosts} hosts bind {plan.host(0)}.. and are reached at {plan.door(0)}:{PORT}..")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_faults(stage))
            await _report(stage, json)
    return 0


async def _faults(stage: DelayStage) -> None:
    """Applies the faults that are read from standard input, until its end."""
    async for line in input_lines():
        try:
            stage.apply(decode(line))
        except UsageError as error:
            notify(str(error))


async def _report(stage: DelayStage, json: bool) -> None:
    while True:
        await asyncio.sleep(STATUS_S)
        report = stage.report
        late = report.lateness_ms()
        if json:
            emit("status", datagrams=report.datagrams, lost=report.lost, dropped=report.dropped, late_ms=late)
        elif report.datagrams:
            notify(
                f"{report.datagrams} datagrams, {report.dropped} dropped, late p50 {late['p50']} p99 {late['p99']} ms"
            )
