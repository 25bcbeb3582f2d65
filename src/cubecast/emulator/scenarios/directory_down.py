"""directory-down: the super-node is gone for a minute, and a relay dies meanwhile."""

import asyncio
import signal
import time

from cubecast.emulator.processes import ChildProcess
from cubecast.emulator.scenarios.run import Run, Setting, a_relay, changes_after, delivered, streaming

BOUND_MS = 2_000.0
BEFORE_S, DOWN_S, AFTER_S = 4.0, 60.0, 12.0
FAN_OUT = 3
"""Copies a host sends: few, so that there are relays."""


async def directory_down(setting: Setting) -> Run:
    """Streams go on, repair works, a new subscriber gets a clear answer, and everyone is back afterwards."""
    rng, run = setting.rng(), Run()
    down_s = setting.seconds or DOWN_S
    async with streaming(setting, run, BEFORE_S + down_s + AFTER_S, BOUND_MS, fan_out=FAN_OUT) as bed:
        late = bed.subscribers[-1]
        for child in bed.subscribers[:-1]:
            await bed.subscribe(child)
        gone_s = 0.0
        killed: ChildProcess | None = None

        async def down() -> None:
            nonlocal gone_s, killed
            await asyncio.sleep(BEFORE_S)
            setting.notify("kill -9 of the super-node")
            gone_s = time.time()
            bed.supernode.send_signal(signal.SIGKILL)
            await asyncio.sleep(down_s / 4)
            victim = a_relay(bed, rng)
            setting.notify(f"kill -9 of {bed.plan.name(victim)}, which feeds others")
            killed = bed.hosts[victim]
            bed.kill(victim)
            await asyncio.sleep(down_s / 4)
            asked_s, said = time.time(), set(late.errors)
            await bed.subscribe(late)
            answers = [line for line in late.errors if line not in said]
            run.detail |= {
                "answer": answers[-1] if answers else str(late.events.get("refused", "")),
                "answer_s": time.time() - asked_s,
                "admitted_while_down": "admitted" in late.events,
            }
            await asyncio.sleep(max(0.0, gone_s + down_s - time.time()))
            setting.notify("the super-node starts again")
            await bed.restart_supernode()

        await bed.stream(down)
        served = [c for c in bed.subscribers[:-1] if c is not killed]
        delivered(run, served, gone_s)
        run.switches = len(changes_after(bed, gone_s))
        run.detail["changes"] = changes_after(bed, gone_s)
    return run
