"""stall, partition and loss-burst: faults that last a few seconds."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable

from cubecast.emulator.faults import Island, SetImpairment
from cubecast.emulator.scenarios.run import Run, Setting, changes_after, draw_relay, record_delivery, streaming
from cubecast.emulator.testbed import Testbed

BOUND_MS = 2_000.0
"""Bound of every subscriber, ms."""
BEFORE_S = 6.0
"""Seconds of the stream before the fault."""
AFTER_S = 12.0
"""Seconds of the stream after the fault."""
STALL_S = 3.0
"""Seconds that the relay is stopped."""
PARTITION_S = 4.0
"""Seconds that the island is cut off."""
BURST_S = 4.0
"""Seconds that all links lose datagrams."""
ISLAND_SHARE = 0.25
"""Share of the hosts that is cut off."""
BURST_LOSS = 0.1
"""Share of the datagrams that is lost on each link."""
FAN_OUT = 3
"""Number of copies a host may send, small enough that there are relays."""


async def stall(setting: Setting) -> Run:
    """A relay is stopped for 3 s (SIGSTOP): its children leave it, and it continues afterwards."""

    async def stop_relay(bed: Testbed, run: Run) -> None:
        victim = draw_relay(bed, setting.rng())
        run.detail["stalled"] = bed.plan.name(victim)
        setting.notify(f"SIGSTOP of {bed.plan.name(victim)} for {STALL_S:g} s")
        bed.hosts[victim].send_signal(signal.SIGSTOP)
        await asyncio.sleep(STALL_S)
        bed.hosts[victim].send_signal(signal.SIGCONT)

    return await _through(setting, stop_relay)


async def partition(setting: Setting) -> Run:
    """A quarter of the hosts is cut off for 4 s from the rest, which includes the publisher and the super-node."""

    async def cut_off(bed: Testbed, run: Run) -> None:
        others = setting.rng().permutation(range(1, setting.hosts))
        island = tuple(int(index) for index in others[: max(1, round(ISLAND_SHARE * setting.hosts))])
        run.detail["island"] = [bed.plan.name(index) for index in island]
        setting.notify(f"cut off for {PARTITION_S:g} s: {', '.join(map(bed.plan.name, island))}")
        bed.inject(Island(island))
        await asyncio.sleep(PARTITION_S)
        bed.inject(Island())

    return await _through(setting, cut_off)


async def loss_burst(setting: Setting) -> Run:
    """Every link loses one datagram in ten for 4 s."""

    async def lose(bed: Testbed, _run: Run) -> None:
        setting.notify(f"{BURST_LOSS:.0%} of all datagrams get lost for {BURST_S:g} s")
        bed.inject(SetImpairment(loss=BURST_LOSS))
        await asyncio.sleep(BURST_S)
        bed.inject(SetImpairment())

    return await _through(setting, lose)


async def _through(setting: Setting, fault: Callable[[Testbed, Run], Awaitable[None]]) -> Run:
    """Streams before, during and after a fault; no subscriber should lose a frame."""
    run, longest_s = Run(), max(STALL_S, PARTITION_S, BURST_S)
    async with streaming(setting, run, BEFORE_S + longest_s + AFTER_S, BOUND_MS, fan_out=FAN_OUT) as bed:
        await bed.subscribe_all()
        began_s = 0.0

        async def during() -> None:
            nonlocal began_s
            await asyncio.sleep(BEFORE_S)
            began_s = time.time()
            await fault(bed, run)

        await bed.stream(during)
        record_delivery(run, [c for c in bed.subscribers if "receiving" in c.events], began_s)
        run.switches = len(changes_after(bed, began_s))
    return run
