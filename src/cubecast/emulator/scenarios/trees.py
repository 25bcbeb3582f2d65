"""trees: delays of frames in the tree of --tree and in the cube's tree, on the same hosts with the same delays."""

import asyncio
from dataclasses import dataclass, replace

import numpy as np

from cubecast.emulator.scenarios.run import Run, Setting, record_delivery, streaming
from cubecast.emulator.testbed import Testbed
from cubecast.overlay.metrics import relative_average_delay

BOUND_MS = 5_000.0
"""Bound of every subscriber, ms."""
SECONDS = 120.0
"""Default length of the stream: time for the tree to be measured, planned and changed."""
LOOK_S = 3.0
"""Time before the end of the stream at which delays are read, s."""


@dataclass(slots=True)
class MeasuredDelays:
    """Delays of the subscribers of one tree near the end of the stream; lists of the same length.

    Attributes:
        measured: median delay of the recent frames, ms.
        path: the emulated network's delay over the path from the publisher, ms.
        hops: number of hops of that path.
        direct: the emulated network's delay from the publisher, ms.
    """

    measured: list[float]
    path: list[float]
    hops: list[int]
    direct: list[float]


async def trees(setting: Setting) -> Run:
    """Streams once over the tree of --tree and once over the cube's tree."""
    run = await _over(setting)
    if setting.tree != "cube":
        (setting.folder / "cube").mkdir()
        cube = await _over(replace(setting, tree="cube", folder=setting.folder / "cube", trace=None))
        compared = ("rad", "frames_lost", "frames_duplicated", "processes_left")
        run.detail["cube"] = {**{name: getattr(cube, name) for name in compared}, **cube.detail}
    return run


async def _over(setting: Setting) -> Run:
    run = Run()
    seconds = setting.seconds or SECONDS
    delays = MeasuredDelays([], [], [], [])
    async with streaming(setting, run, seconds, BOUND_MS) as bed:
        await bed.subscribe_all()

        async def look() -> None:
            await asyncio.sleep(seconds - LOOK_S)
            _read(delays, bed, setting)

        await bed.stream(look)
        record_delivery(run, bed.subscribers, 0.0)
        run.switches = sum(len(host.changes) for host in bed.hosts.values())
        stage = bed.emulator.status.get("late_ms")
    if delays.measured:
        measured, path, direct = (np.array(each) for each in (delays.measured, delays.path, delays.direct))
        hops = np.array(delays.hops, np.float64)
        late_ms = float(np.median((measured - path) / hops))
        run.rad = relative_average_delay(measured - late_ms * hops, direct)
        run.detail |= {
            "tree": setting.tree,
            "rad_raw": relative_average_delay(measured, direct),
            "rad_of_paths": relative_average_delay(path, direct),
            "machine_late_ms_per_hop": late_ms,
            "stage_late_ms": stage,
            "hops_mean": float(hops.mean()),
            "subscribers": len(measured),
        }
        setting.notify(
            f"tree {setting.tree}: RAD {run.rad:.3f}; raw {run.detail['rad_raw']:.3f}; {late_ms:.2f} ms a hop"
        )
    return run


def _read(delays: MeasuredDelays, bed: Testbed, setting: Setting) -> None:
    """Adds each subscriber's current delays: of its recent frames, and of the path they came over."""
    matrix, parents = setting.network.matrix_ms(), bed.parents()
    for index in bed.plan.subscribers:
        recent = bed.hosts[index].status.get("recent_ms")
        p50 = recent.get("p50") if isinstance(recent, dict) else None
        path_ms, hops, at = 0.0, 0, index
        while at in parents and hops <= len(parents):
            path_ms += float(matrix[parents[at], at])
            at, hops = parents[at], hops + 1
        if p50 is not None and at in bed.plan.publishers:
            delays.measured.append(float(p50))
            delays.path.append(path_ms)
            delays.hops.append(hops)
            delays.direct.append(float(matrix[0, index]))
