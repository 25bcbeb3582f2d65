"""relay-kill: kill -9 of a host that feeds others, in the middle of the stream."""

import asyncio
import time

from cubecast.emulator.scenarios.run import Run, Setting, a_relay, changes_after, delivered, streaming

BOUND_MS = 2_000.0
SECONDS = 7.0
KILL_AT_S = (2.0, 4.0)
FAN_OUT = 3
"""Copies a host sends: few, so that the publisher cannot feed everyone itself."""


async def relay_kill(setting: Setting) -> Run:
    """Kills a relay drawn from the seed; whoever is admitted and lives should miss no frame."""
    rng, run = setting.rng(), Run()
    async with streaming(setting, run, setting.seconds or SECONDS, BOUND_MS, fan_out=FAN_OUT) as bed:
        plan = bed.plan
        await bed.subscribe_all()
        await bed.settle()  # while a tree is still being built some have no standby yet (docs/decisions/0010)
        killed_s, victim = 0.0, 0
        hit: set[str] = set()

        async def kill() -> None:
            nonlocal killed_s, victim, hit
            await asyncio.sleep(float(rng.uniform(*KILL_AT_S)))
            victim = a_relay(bed, rng)
            parents = bed.parents()
            fed = sorted(plan.name(child) for child, parent in parents.items() if parent == victim)
            hit = {plan.name(host) for host in parents if _hangs_on(parents, host, victim)}
            setting.notify(f"kill -9 of {plan.name(victim)}, which feeds {', '.join(fed)}")
            slowest_ms = round(_slowest_rtt_ms(setting, parents), 1)
            run.detail |= {"killed": plan.name(victim), "fed": fed, "slowest_rtt_ms": slowest_ms}
            killed_s = time.time()
            bed.kill(victim)

        await bed.stream(kill)
        served = [c for c in bed.subscribers if "receiving" in c.events and c is not bed.hosts.get(victim)]
        delivered(run, served, killed_s, hit)
        changes = changes_after(bed, killed_s)
        run.switches = len(changes)
        run.detail["changes"] = changes
    return run


def _hangs_on(parents: dict[int, int], host: int, top: int) -> bool:
    for _ in range(len(parents)):
        host = parents.get(host, -1)
        if host == top:
            return True
    return False


def _slowest_rtt_ms(setting: Setting, parents: dict[int, int]) -> float:
    """The round trip of the slowest link of the tree, as it was when the relay was killed."""
    matrix = setting.network.matrix_ms()
    return max((2 * float(matrix[child, parent]) for child, parent in parents.items()), default=0.0)
