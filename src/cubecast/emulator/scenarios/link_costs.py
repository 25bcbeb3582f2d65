"""delay-jump and jitter: how hosts react to links that change while they carry a stream."""

import asyncio
import time

from cubecast.emulator.faults import SetImpairment, Slower
from cubecast.emulator.scenarios.run import Run, Setting, changes_after, record_delivery, streaming
from cubecast.emulator.testbed import Testbed

BOUND_MS = 2_000.0
"""Bound of every subscriber, ms."""
SETTLE_S = 20.0
"""Seconds of the stream before the fault, for the tree to settle."""
JUMP_MS = 100.0
"""Delay that is added to the link in each direction, ms."""
JUMP_S = 12.0
"""Seconds that the link is slower."""
AFTER_S = 14.0
"""Seconds of the stream after the link has its old delay again."""
TAIL_S = 4.0
"""Seconds before the end of the stream at which the changes are counted."""
JITTER_MS = 20.0
"""Greatest jitter of each link, ms."""
JITTER_S = 30.0
"""Default duration of the jitter in seconds."""


async def delay_jump(setting: Setting) -> Run:
    """A link of the tree becomes 100 ms slower in each direction for 12 s."""
    rng, run = setting.rng(), Run()
    async with streaming(setting, run, SETTLE_S + JUMP_S + AFTER_S, BOUND_MS) as bed:
        await bed.subscribe_all()
        jumped_s = 0.0

        async def jump() -> None:
            nonlocal jumped_s
            await asyncio.sleep(SETTLE_S)
            links = sorted(bed.parents().items())
            child, parent = links[int(rng.integers(len(links)))]
            names = bed.plan.name(child), bed.plan.name(parent)
            setting.notify(f"the link from {names[1]} to {names[0]} becomes {JUMP_MS:g} ms slower each way")
            jumped_s = time.time()
            bed.inject(Slower(child, parent, JUMP_MS))
            await asyncio.sleep(JUMP_S)
            good_s = time.time()
            bed.inject(Slower(child, parent, -JUMP_MS))
            await asyncio.sleep(AFTER_S - TAIL_S)
            own = [change for change in changes_after(bed, jumped_s) if change in bed.hosts[child].changes]
            left = [_at_s(c) for c in own if c["before"] == names[1] and _at_s(c) < good_s]
            back = [_at_s(c) for c in own if c["after"] == names[1] and _at_s(c) >= jumped_s]
            run.seconds_to_leave_bad_link = left[0] - jumped_s if left else None
            run.detail |= {
                "link": names,
                "seconds_good_before_return": back[0] - good_s if back else None,
                "returned_while_bad": any(at_s < good_s for at_s in back),
            }

        await bed.stream(jump)
        _sum_up(run, bed, jumped_s)
    return run


async def jitter(setting: Setting) -> Run:
    """Every datagram takes up to 20 ms longer, drawn for each; hosts should not change their parents for it."""
    run = Run()
    async with streaming(setting, run, SETTLE_S + (setting.seconds or JITTER_S), BOUND_MS) as bed:
        await bed.subscribe_all()
        began_s = 0.0

        async def add_jitter() -> None:
            nonlocal began_s
            await asyncio.sleep(SETTLE_S)
            setting.notify(f"jitter of {JITTER_MS:g} ms begins")
            began_s = time.time()
            bed.inject(SetImpairment(jitter_ms=JITTER_MS))

        await bed.stream(add_jitter)
        _sum_up(run, bed, began_s)
    return run


def _sum_up(run: Run, bed: Testbed, after_s: float) -> None:
    record_delivery(run, bed.subscribers, after_s)
    changes = changes_after(bed, after_s)
    run.switches = len(changes)
    run.detail["changes"] = changes


def _at_s(change: dict[str, object]) -> float:
    at_s = change["at_s"]
    return at_s if isinstance(at_s, float) else 0.0
