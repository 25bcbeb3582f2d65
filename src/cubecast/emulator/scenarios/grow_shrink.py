"""grow-shrink: a host more than the cube has labels joins and leaves again while all subscribers receive."""

import asyncio
import time

from cubecast.emulator.scenarios.run import Run, Setting, changes_after, record_delivery, streaming
from cubecast.engine.directory.config import DIRECTORY_DEFAULTS

BOUND_MS = 2_000.0
"""Bound of every subscriber, ms."""
BEFORE_S = 4.0
"""Seconds of the stream before the host joins."""
GROWN_S = 12.0
"""Time for which the host stays, s."""
AFTER_S = 10.0
"""Seconds of the stream after the cube may have shrunk again."""


async def grow_shrink(setting: Setting) -> Run:
    """The shape changes while the stream runs; no subscriber should lose a frame."""
    run = Run()
    async with streaming(
        setting, run, BEFORE_S + GROWN_S + DIRECTORY_DEFAULTS.shape.shrink_after_s + AFTER_S, BOUND_MS, spare=1
    ) as bed:
        await bed.subscribe_all()
        shapes: list[object] = []
        grown_s = 0.0

        async def grow() -> None:
            nonlocal grown_s
            await asyncio.sleep(BEFORE_S)
            shapes.append(bed.publisher.status["shape"])
            grown_s = time.time()
            late = await bed.start(len(bed.plan.seats))
            await asyncio.sleep(GROWN_S)
            shapes.append(bed.publisher.status["shape"])
            await bed.processes.end([late])
            await asyncio.sleep(DIRECTORY_DEFAULTS.shape.shrink_after_s + AFTER_S / 2)
            shapes.append(bed.publisher.status["shape"])
            setting.notify(f"shapes: {', '.join(map(str, shapes))}")

        await bed.stream(grow)
        record_delivery(run, bed.subscribers, grown_s)
        run.switches = len(changes_after(bed, grown_s))
        run.detail["shapes"] = shapes
        if len(shapes) > 1 and shapes[0] == shapes[1]:
            run.skipped = (
                f"the shape {shapes[0]} has a free label for one host more; take as many --hosts as it has labels"
            )
    return run
