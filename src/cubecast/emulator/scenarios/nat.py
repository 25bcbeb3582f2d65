"""nat: the publisher and half of the other hosts are behind a NAT: they cannot be dialled."""

import asyncio

import numpy as np

from cubecast.emulator.scenarios.run import Run, Setting, record_delivery, streaming

BOUND_MS = 3_000.0
"""Bound of every subscriber, ms."""
SECONDS = 20.0
"""Default length of the stream."""
LOOK_S = 12.0
"""Seconds after the start of the stream at which the tree is recorded."""


async def nat(setting: Setting) -> Run:
    """All subscribers should be served, and no host behind the NAT should be the parent of another one."""
    run = Run()
    others = np.arange(1, setting.hosts)
    hidden = (0, *sorted(int(i) for i in setting.rng().permutation(others)[: (setting.hosts - 1) // 2]))
    async with streaming(setting, run, setting.seconds or SECONDS, BOUND_MS, hidden=hidden) as bed:
        await bed.subscribe_all()
        parents: dict[int, int] = {}

        async def look() -> None:
            await asyncio.sleep(LOOK_S)
            parents.update(bed.parents())

        await bed.stream(look)
        record_delivery(run, [c for c in bed.subscribers if "receiving" in c.events], 0.0)
        name = bed.plan.name
        run.detail |= {
            "hidden": [name(host) for host in hidden],
            "refused": [c.name for c in bed.subscribers if "receiving" not in c.events],
            "hidden_on_hidden": [name(c) for c, p in parents.items() if c in hidden and p in hidden],
            "fed_by_hidden": [name(c) for c, p in parents.items() if p in hidden],
        }
    return run
