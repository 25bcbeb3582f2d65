"""churn: a host joins or crashes every few seconds while three channels are streamed."""

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np

from cubecast.emulator.processes import CommandProcess, ProcessDied
from cubecast.emulator.scenarios.run import Run, Setting, changes_after, record_delivery, streaming
from cubecast.emulator.testbed import Testbed

BOUND_MS = 3_000.0
"""Bound of every subscriber, ms."""
PUBLISHERS = 3
"""Number of hosts that publish; they never crash."""
SECONDS = 600.0
"""Default duration of the churn."""
TAIL_S = 20.0
"""Seconds of the stream after the churn."""
SUMMARY_S = 5.0
"""Seconds that subscribers have to report their summaries after the publishers have finished."""
EVERY_S = 5.0
"""Seconds from one join or crash to the next."""
AWAY_S = 12.0
"""Least time in seconds from a host's crash to its restart; its lease has expired by then."""
DOWN_ONE_IN = 3
"""When one host in this many is down, the next event is a restart."""
LIVING_MIN = 2
"""Least number of living hosts besides the publishers."""
JOIN_S = 30.0
"""Seconds that a restarted host has to join."""
LINKS_S = 1.0
"""Seconds between joining and subscribing, in which the host measures its links."""
SAMPLE_S = 10.0
"""Seconds between two samples of what subscribers receive."""
WARM_S = 8.0
"""Seconds after its admission at which a subscriber is expected to receive."""


@dataclass(slots=True)
class Watch:
    """Observations of the hosts over time.

    Attributes:
        admitted_s: when each subscriber was first seen admitted, s since the Unix epoch.
        received: each subscriber's process and frame count at the last sample.
        stuck: number of successive samples in which a subscriber received nothing.
        ratios: share of the expected subscribers that received, one for each sample.
        memory_mb: resident memory of the super-node and the publishers, one for each sample.
        longest_stuck: the greatest value of `stuck`.
    """

    admitted_s: dict[int, float] = field(default_factory=dict)
    received: dict[int, tuple[CommandProcess, int]] = field(default_factory=dict)
    stuck: dict[int, int] = field(default_factory=dict)
    ratios: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    longest_stuck: int = 0


async def churn(setting: Setting) -> Run:
    """Every living subscriber should keep receiving, no process should be left, and memory should not grow."""
    rng, run, watch = setting.rng(), Run(), Watch()
    seconds = setting.seconds or SECONDS
    died: dict[int, float] = {}
    events = {"joins": 0, "crashes": 0}
    async with streaming(setting, run, seconds + TAIL_S, BOUND_MS, publishers=PUBLISHERS) as bed:
        await bed.subscribe_all()
        began_s = time.time()
        for index in bed.plan.publishers:
            bed.hosts[index].press_enter()
        async with asyncio.TaskGroup() as tasks:
            sampling = tasks.create_task(_sample(bed, watch, setting))
            while time.time() - began_s < seconds:
                await asyncio.sleep(EVERY_S)
                back = [index for index, at_s in died.items() if time.time() - at_s >= AWAY_S]
                if back and (rng.random() < 0.5 or len(died) >= len(bed.hosts) // DOWN_ONE_IN):
                    index = back[int(rng.integers(len(back)))]
                    del died[index]
                    events["joins"] += 1
                    tasks.create_task(_restart(bed, index))
                else:
                    living = [i for i, c in bed.hosts.items() if not c.ended and i not in bed.plan.publishers]
                    if len(living) <= LIVING_MIN:
                        continue
                    victim = living[int(rng.integers(len(living)))]
                    died[victim] = time.time()
                    events["crashes"] += 1
                    bed.kill(victim)
            sampling.cancel()
        up = [bed.hosts[index] for index in bed.plan.subscribers if index not in died]
        survivors = [host for host in up if not host.ended and "admitted" in host.events]
        for index in bed.plan.publishers:
            await bed.hosts[index].wait_for("finished")
        await asyncio.sleep(SUMMARY_S)
        record_delivery(run, survivors, began_s)
        run.switches = len(changes_after(bed, began_s))
        run.success_ratio = float(np.mean(watch.ratios)) if watch.ratios else None
        run.detail |= {
            **events,
            "success_over_time": [round(ratio, 3) for ratio in watch.ratios],
            "memory_mb": watch.memory_mb,
            "longest_hung_s": watch.longest_stuck * SAMPLE_S,
        }
    return run


async def _restart(bed: Testbed, index: int) -> None:
    host = await bed.start(index)
    if index in bed.plan.subscribers:
        try:
            async with asyncio.timeout(JOIN_S):
                await host.wait_for("joined")
                await asyncio.sleep(LINKS_S)
        except (ProcessDied, TimeoutError):
            return
        await bed.subscribe(host)


async def _sample(bed: Testbed, watch: Watch, setting: Setting) -> None:
    """Records at each sample which of the expected subscribers have received frames since the one before."""
    while True:
        await asyncio.sleep(SAMPLE_S)
        now, due, served = time.time(), 0, 0
        for index in bed.plan.subscribers:
            host = bed.hosts[index]
            before = watch.received.get(index)
            frames = host.status.get("frames")
            count = int(frames["received"]) if isinstance(frames, dict) else 0
            if before is None or before[0] is not host:
                watch.admitted_s.pop(index, None)
            if host.ended or "admitted" not in host.events:
                continue
            since = watch.admitted_s.setdefault(index, now)
            if now - since >= WARM_S:
                due += 1
                flows = before is not None and before[0] is host and count > before[1]
                served += flows
                watch.stuck[index] = 0 if flows else watch.stuck.get(index, 0) + 1
                watch.longest_stuck = max(watch.longest_stuck, watch.stuck[index])
            watch.received[index] = (host, count)
        if due:
            watch.ratios.append(served / due)
        watch.memory_mb.append(round(_memory_mb([bed.supernode, *(bed.hosts[i] for i in bed.plan.publishers)]), 1))
        setting.notify(
            f"{served} of {due} subscribers receive; super-node and publishers take {watch.memory_mb[-1]} MB"
        )


def _memory_mb(processes: list[CommandProcess]) -> float:
    """Resident memory of the processes, MB; those whose memory cannot be read count as 0."""
    total_kb = 0
    for process in processes:
        try:
            with open(f"/proc/{process.process.pid}/status", encoding="ascii") as status:  # noqa: PTH123  a process, not a file
                total_kb += next((int(line.split()[1]) for line in status if line.startswith("VmRSS")), 0)
        except OSError:
            continue
    return total_kb / 1024
