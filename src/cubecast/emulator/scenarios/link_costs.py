"""delay-jump and jitter: what hosts make of links that change while they carry a stream."""

import asyncio
import time

from cubecast.emulator.faults import Slower, Weather
from cubecast.emulator.scenarios.run import Run, Setting, changes_after, delivered, streaming
from cubecast.emulator.testbed import Testbed

BOUND_MS = 2_000.0
SETTLE_S = 20.0
"""The tree is left to settle for so long."""
JUMP_MS = 100.0
JUMP_S = 12.0
AFTER_S = 14.0
JITTER_MS = 20.0
JITTER_S = 30.0


async def delay_jump(setting: Setting) -> Run:
    """A used link becomes 100 ms slower each way, and good again after a while."""
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
            bed.fault(Slower(child, parent, JUMP_MS))
            await asyncio.sleep(JUMP_S)
            good_s = time.time()
            bed.fault(Slower(child, parent, -JUMP_MS))
            await asyncio.sleep(AFTER_S - 4.0)
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
    """Every datagram takes up to 20 ms longer, each another time: no reason to change anything."""
    run = Run()
    async with streaming(setting, run, SETTLE_S + (setting.seconds or JITTER_S), BOUND_MS) as bed:
        await bed.subscribe_all()
        begun_s = 0.0

        async def shake() -> None:
            nonlocal begun_s
            await asyncio.sleep(SETTLE_S)
            setting.notify(f"jitter of {JITTER_MS:g} ms begins")
            begun_s = time.time()
            bed.fault(Weather(jitter_ms=JITTER_MS))

        await bed.stream(shake)
        _sum_up(run, bed, begun_s)
    return run


def _sum_up(run: Run, bed: Testbed, after_s: float) -> None:
    delivered(run, bed.subscribers, after_s)
    changes = changes_after(bed, after_s)
    run.switches = len(changes)
    run.detail["changes"] = changes


def _at_s(change: dict[str, object]) -> float:
    at_s = change["at_s"]
    return at_s if isinstance(at_s, float) else 0.0
