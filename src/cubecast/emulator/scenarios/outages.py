"""stall, partition and loss-burst: something is wrong for a few seconds, and then it is not."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable

from cubecast.emulator.faults import Island, Weather
from cubecast.emulator.scenarios.run import Run, Setting, a_relay, changes_after, delivered, streaming
from cubecast.emulator.testbed import Testbed

BOUND_MS = 2_000.0
BEFORE_S, AFTER_S = 6.0, 12.0
STALL_S, PARTITION_S, BURST_S = 3.0, 4.0, 4.0
ISLAND_SHARE = 0.25
BURST_LOSS = 0.1
FAN_OUT = 3
"""Copies a host sends: few, so that there are relays."""


async def stall(setting: Setting) -> Run:
    """A relay stands still for 3 s, as SIGSTOP; it is left, and comes back as if nothing had been."""

    async def standing(bed: Testbed, run: Run) -> None:
        victim = a_relay(bed, setting.rng())
        run.detail["stalled"] = bed.plan.name(victim)
        setting.notify(f"SIGSTOP of {bed.plan.name(victim)} for {STALL_S:g} s")
        bed.hosts[victim].send_signal(signal.SIGSTOP)
        await asyncio.sleep(STALL_S)
        bed.hosts[victim].send_signal(signal.SIGCONT)

    return await _through(setting, standing)


async def partition(setting: Setting) -> Run:
    """A quarter of the hosts is cut off from the rest, the publisher and the super-node included, for 4 s."""

    async def apart(bed: Testbed, run: Run) -> None:
        others = setting.rng().permutation(range(1, setting.hosts))
        island = tuple(int(index) for index in others[: max(1, round(ISLAND_SHARE * setting.hosts))])
        run.detail["island"] = [bed.plan.name(index) for index in island]
        setting.notify(f"cut off for {PARTITION_S:g} s: {', '.join(map(bed.plan.name, island))}")
        bed.fault(Island(island))
        await asyncio.sleep(PARTITION_S)
        bed.fault(Island())

    return await _through(setting, apart)


async def loss_burst(setting: Setting) -> Run:
    """Every link loses one datagram in ten for 4 s."""

    async def storm(bed: Testbed, _run: Run) -> None:
        setting.notify(f"{BURST_LOSS:.0%} of all datagrams get lost for {BURST_S:g} s")
        bed.fault(Weather(loss=BURST_LOSS))
        await asyncio.sleep(BURST_S)
        bed.fault(Weather())

    return await _through(setting, storm)


async def _through(setting: Setting, outage: Callable[[Testbed, Run], Awaitable[None]]) -> Run:
    """Streams before, during and after an outage; nobody should lose a frame."""
    run, longest_s = Run(), max(STALL_S, PARTITION_S, BURST_S)
    async with streaming(setting, run, BEFORE_S + longest_s + AFTER_S, BOUND_MS, fan_out=FAN_OUT) as bed:
        await bed.subscribe_all()
        began_s = 0.0

        async def during() -> None:
            nonlocal began_s
            await asyncio.sleep(BEFORE_S)
            began_s = time.time()
            await outage(bed, run)

        await bed.stream(during)
        delivered(run, [c for c in bed.subscribers if "receiving" in c.events], began_s)
        run.switches = len(changes_after(bed, began_s))
    return run
