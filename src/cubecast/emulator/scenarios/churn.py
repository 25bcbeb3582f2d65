"""churn: a host joins or crashes every few seconds, while three channels go to everyone who is there."""

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np

from cubecast.emulator.processes import ChildProcess, ProcessDied
from cubecast.emulator.scenarios.run import Run, Setting, changes_after, delivered, streaming
from cubecast.emulator.testbed import Testbed

BOUND_MS = 3_000.0
PUBLISHERS = 3
SECONDS = 600.0
EVERY_S = 5.0
AWAY_S = 12.0
"""A host that crashed comes back after so long at the earliest: its lease has expired by then."""
LIVING_MIN = 2
"""Hosts besides the publishers that are left alone."""
SAMPLE_S = 10.0
WARM_S = 8.0
"""A subscriber that was admitted so long ago should receive."""


@dataclass(slots=True)
class Watch:
    """What is seen of the hosts over time."""

    admitted_s: dict[int, float] = field(default_factory=dict)
    received: dict[int, tuple[ChildProcess, int]] = field(default_factory=dict)
    hung: dict[int, int] = field(default_factory=dict)
    """Samples in a row in which a subscriber got nothing."""
    ratios: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    longest_hung: int = 0


async def churn(setting: Setting) -> Run:
    """Nobody hangs, no process is left, memory stays where it is."""
    rng, run, watch = setting.rng(), Run(), Watch()
    seconds = setting.seconds or SECONDS
    died: dict[int, float] = {}
    events = {"joins": 0, "crashes": 0}
    async with streaming(setting, run, seconds + 20.0, BOUND_MS, publishers=PUBLISHERS) as bed:
        await bed.subscribe_all()
        begun_s = time.time()
        for index in bed.plan.publishers:
            bed.hosts[index].press_enter()
        async with asyncio.TaskGroup() as tasks:
            sampling = tasks.create_task(_sample(bed, watch, setting))
            while time.time() - begun_s < seconds:
                await asyncio.sleep(EVERY_S)
                back = [index for index, at_s in died.items() if time.time() - at_s >= AWAY_S]
                if back and (rng.random() < 0.5 or len(died) >= len(bed.hosts) // 3):
                    index = back[int(rng.integers(len(back)))]
                    del died[index]
                    events["joins"] += 1
                    tasks.create_task(_come_back(bed, index))
                else:
                    living = [i for i, c in bed.hosts.items() if not c.ended and i not in bed.plan.publishers]
                    if len(living) <= LIVING_MIN:
                        continue
                    victim = living[int(rng.integers(len(living)))]
                    died[victim] = time.time()
                    events["crashes"] += 1
                    bed.kill(victim)
            sampling.cancel()
        there = [bed.hosts[index] for index in bed.plan.subscribers if index not in died]
        survivors = [child for child in there if not child.ended and "admitted" in child.events]
        for index in bed.plan.publishers:
            await bed.hosts[index].wait_for("finished")
        await asyncio.sleep(5.0)
        delivered(run, survivors, begun_s)
        run.switches = len(changes_after(bed, begun_s))
        run.success_ratio = float(np.mean(watch.ratios)) if watch.ratios else None
        run.detail |= {
            **events,
            "success_over_time": [round(ratio, 3) for ratio in watch.ratios],
            "memory_mb": watch.memory_mb,
            "longest_hung_s": watch.longest_hung * SAMPLE_S,
        }
    return run


async def _come_back(bed: Testbed, index: int) -> None:
    child = await bed.start(index)
    if index in bed.plan.subscribers:
        try:
            async with asyncio.timeout(30.0):
                await child.wait_for("joined")
                await asyncio.sleep(1.0)
        except (ProcessDied, TimeoutError):
            return
        await bed.subscribe(child)


async def _sample(bed: Testbed, watch: Watch, setting: Setting) -> None:
    """Who has received something since the last look, of those who should have."""
    while True:
        await asyncio.sleep(SAMPLE_S)
        now, due, served = time.time(), 0, 0
        for index in bed.plan.subscribers:
            child = bed.hosts[index]
            before = watch.received.get(index)
            frames = child.status.get("frames")
            count = int(frames["received"]) if isinstance(frames, dict) else 0
            if before is None or before[0] is not child:
                watch.admitted_s.pop(index, None)
            if child.ended or "admitted" not in child.events:
                continue
            since = watch.admitted_s.setdefault(index, now)
            if now - since >= WARM_S:
                due += 1
                flows = before is not None and before[0] is child and count > before[1]
                served += flows
                watch.hung[index] = 0 if flows else watch.hung.get(index, 0) + 1
                watch.longest_hung = max(watch.longest_hung, watch.hung[index])
            watch.received[index] = (child, count)
        if due:
            watch.ratios.append(served / due)
        watch.memory_mb.append(round(_memory_mb([bed.supernode, *(bed.hosts[i] for i in bed.plan.publishers)]), 1))
        setting.notify(f"{served} of {due} subscribers receive; {watch.memory_mb[-1]} MB in the processes that stay")


def _memory_mb(children: list[ChildProcess]) -> float:
    """Resident memory of processes; zero where the system does not tell."""
    total_kb = 0
    for child in children:
        try:
            with open(f"/proc/{child.process.pid}/status", encoding="ascii") as status:  # noqa: PTH123  no path, a process
                total_kb += next((int(line.split()[1]) for line in status if line.startswith("VmRSS")), 0)
        except OSError:
            continue
    return total_kb / 1024
