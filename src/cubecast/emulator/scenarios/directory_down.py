"""directory-down: the super-node is down for a minute, and a relay is killed in that time."""

import asyncio
import signal
import time

from cubecast.emulator.processes import CommandProcess
from cubecast.emulator.scenarios.run import Run, Setting, changes_after, draw_relay, record_delivery, streaming

BOUND_MS = 2_000.0
"""Bound of every subscriber, ms."""
BEFORE_S = 4.0
"""Seconds of the stream before the super-node is killed."""
DOWN_S = 60.0
"""Default length of the outage in seconds."""
AFTER_S = 12.0
"""Seconds of the stream after the super-node has been started again."""
FAN_OUT = 3
"""Number of copies a host may send, small enough that there are relays."""


async def directory_down(setting: Setting) -> Run:
    """Streams continue and are repaired; a new subscriber gets an answer; the hosts register again afterwards."""
    rng, run = setting.rng(), Run()
    down_s = setting.seconds or DOWN_S
    async with streaming(setting, run, BEFORE_S + down_s + AFTER_S, BOUND_MS, fan_out=FAN_OUT) as bed:
        late = bed.subscribers[-1]
        for subscriber in bed.subscribers[:-1]:
            await bed.subscribe(subscriber)
        began_s = 0.0
        killed: CommandProcess | None = None

        async def outage() -> None:
            nonlocal began_s, killed
            await asyncio.sleep(BEFORE_S)
            setting.notify("kill -9 of the super-node")
            began_s = time.time()
            bed.supernode.send_signal(signal.SIGKILL)
            await asyncio.sleep(down_s / 4)
            victim = draw_relay(bed, rng)
            setting.notify(f"kill -9 of {bed.plan.name(victim)}, which feeds others")
            killed = bed.hosts[victim]
            bed.kill(victim)
            await asyncio.sleep(down_s / 4)
            asked_s, earlier = time.time(), set(late.errors)
            await bed.subscribe(late)
            answers = [line for line in late.errors if line not in earlier]
            run.detail |= {
                "answer": answers[-1] if answers else str(late.events.get("refused", "")),
                "answer_s": time.time() - asked_s,
                "admitted_while_down": "admitted" in late.events,
            }
            await asyncio.sleep(max(0.0, began_s + down_s - time.time()))
            setting.notify("the super-node starts again")
            await bed.restart_supernode()

        await bed.stream(outage)
        served = [c for c in bed.subscribers[:-1] if c is not killed]
        record_delivery(run, served, began_s)
        run.switches = len(changes_after(bed, began_s))
        run.detail["changes"] = changes_after(bed, began_s)
    return run
