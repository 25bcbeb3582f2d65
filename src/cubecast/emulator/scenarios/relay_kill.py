"""relay-kill: kill -9 of a host that feeds others, in the middle of the stream."""

import asyncio
import time

from cubecast.emulator.delivery_tree import children_of, is_descendant
from cubecast.emulator.scenarios.run import Run, Setting, changes_after, draw_relay, record_delivery, streaming

BOUND_MS = 2_000.0
"""Bound of every subscriber, ms."""
SECONDS = 7.0
"""Default length of the stream."""
KILL_AT_S = (2.0, 4.0)
"""Range from which the time of the kill is drawn, seconds after the start of the stream."""
FAN_OUT = 3
"""Number of copies a host may send, small enough that the publisher cannot feed all subscribers itself."""


async def relay_kill(setting: Setting) -> Run:
    """Kills a relay drawn from the seed; no other admitted subscriber should lose a frame."""
    rng, run = setting.rng(), Run()
    async with streaming(setting, run, setting.seconds or SECONDS, BOUND_MS, fan_out=FAN_OUT) as bed:
        plan = bed.plan
        await bed.subscribe_all()
        await bed.settle()  # while the tree is still changing some hosts have no standby (docs/decisions/0010)
        killed_s, victim = 0.0, 0
        affected: set[str] = set()

        async def kill() -> None:
            nonlocal killed_s, victim, affected
            await asyncio.sleep(float(rng.uniform(*KILL_AT_S)))
            victim = draw_relay(bed, rng)
            parents = bed.parents()
            fed = [plan.name(child) for child in children_of(parents, victim)]
            affected = {plan.name(host) for host in parents if is_descendant(parents, host, victim)}
            setting.notify(f"kill -9 of {plan.name(victim)}, which feeds {', '.join(fed)}")
            slowest_ms = round(_slowest_rtt_ms(setting, parents), 1)
            run.detail |= {"killed": plan.name(victim), "fed": fed, "slowest_rtt_ms": slowest_ms}
            killed_s = time.time()
            bed.kill(victim)

        await bed.stream(kill)
        survivors = [c for c in bed.subscribers if "receiving" in c.events and c is not bed.hosts.get(victim)]
        record_delivery(run, survivors, killed_s, affected)
        changes = changes_after(bed, killed_s)
        run.switches = len(changes)
        run.detail["changes"] = changes
    return run


def _slowest_rtt_ms(setting: Setting, parents: dict[int, int]) -> float:
    """The round-trip time of the slowest link of the tree as it was when the relay was killed, ms."""
    matrix = setting.network.matrix_ms()
    return max((2 * float(matrix[child, parent]) for child, parent in parents.items()), default=0.0)
