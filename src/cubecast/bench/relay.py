"""CPU time that a relay spends for each GB it forwards: a `cubecast host` against a bare moq-rs relay in the same run.

A short calibration finds the greatest rate that the bare relay's path carries on this machine. Both relays are then offered
the same share of it, in turn; if a path does not carry that for the whole round, the rate is reduced and the rounds start
again. The bar applies to the ratio of the two best rounds, without what each relay spends when idle: that does not depend on
the rate, so it is a row of its own. Every row names the rate that was offered.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import NamedTuple

import uvloop

from cubecast.bench.relay_paths import (
    Load,
    OpenPath,
    Traffic,
    authentication_us,
    bare_path,
    cubecast_path,
    unsigned_path,
)
from cubecast.bench.rows import Row, failed_row, ratio_row, unjudged_row
from cubecast.errors import CubecastError

BAR = 1.1
"""Maximum CPU time per GB of the cubecast relay, relative to the bare relay."""
SIZES = (1200, 16_384)
"""Frame sizes, bytes."""
ROUNDS = 5
"""Default number of rounds for each frame size."""
SECONDS = 6.0
"""Default duration of the load in a round, s."""
LOAD_SHARE = 0.6
"""Rate offered first, relative to the greatest rate of calibration: a margin for other load on the machine."""
REDUCTION = 0.5
"""Factor by which the offered rate is reduced after a round that lost frames. The cubecast path carries less than the bare
one: its publisher and subscriber are whole hosts in one Python process."""
REDUCTIONS_MAX = 4
"""Maximum number of reductions; then the benchmark fails, since the machine is too busy."""
FIRST_RATE = 100
"""Rate at which calibration starts, frames/s."""
RATE_MAX = 32_000
"""Greatest rate that calibration tries, frames/s."""
SIGNED_BAR = 1.05
"""Maximum CPU time of publisher and subscriber for a signed frame, relative to one without digest and signature."""
SIGNED_RATE = 60
"""Rate at which signed frames are compared, frames/s: video of 8 Mbit/s. At a higher rate more frames share a signature, but
all that is not hashing costs less for each frame, too."""
BISECTIONS = 2
"""Steps of calibration between the last rate that was carried and the first that was not."""
TRIAL_S = 0.7
"""Duration of a load in calibration, s."""
DELIVERED_MIN = 0.999
"""Least share of a load's frames that must arrive for it to count as carried."""
SLOWER_MAX = 1.1
"""Greatest duration of sending, relative to the planned one, at which a load counts as carried; beyond, the sender is the
limit and not the relay."""
BARE = "bare moq-rs relay"
"""Name of the reference in rows."""
OURS = "cubecast relay"
"""Name of the measured relay in rows."""


class RelayCost(NamedTuple):
    """CPU time of a relay in one round; the smaller is the one with less per GB.

    Attributes:
        per_gb_s: for each GB forwarded, s, without `idle_ms`.
        idle_ms: for each second without load, ms.
    """

    per_gb_s: float
    idle_ms: float


def measure(rounds: int = ROUNDS, seconds: float = SECONDS) -> list[Row]:
    """For each frame size, a row for the CPU time per GB and one for the idle relays; then the cost of signed frames."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        rows = [row for size in SIZES for row in runner.run(_compare(size, rounds, seconds))]
        return [*rows, runner.run(_signed(rounds, seconds))]


async def _signed(rounds: int, seconds: float) -> Row:
    """CPU time of publisher and subscriber for a frame with digest, signatures and checks, against one without.

    The whole difference is a few per cent, less than two loads differ on a busy machine; so what is added is measured alone.
    """
    size, bare_us, added_us = max(SIZES), inf, inf
    name = f"publisher and subscriber, signed frames of {size} B at {SIGNED_RATE}/s"
    for number in range(rounds):
        load = await _offer(unsigned_path, size, SIGNED_RATE, seconds)
        if not is_carried(load, seconds):
            return failed_row(name, CubecastError("frames are lost; leave the machine idle for this"))
        bare_us = min(bare_us, 1e6 * load.relay_cpu_s / load.delivered)
        added_us = min(added_us, authentication_us(size, SIGNED_RATE))
        print(f"round {number + 1} of {rounds}: {bare_us:.0f} and {added_us:.1f} CPU us a frame", file=sys.stderr)
    return ratio_row(name, bare_us + added_us, "CPU us/frame", "unsigned", bare_us, SIGNED_BAR)


async def bisected(carried: int, lost: int, carries: Callable[[int], Awaitable[bool]]) -> int:
    """The greatest rate, frames/s, between one that is carried and one that is not, after BISECTIONS trials."""
    for _ in range(BISECTIONS):
        middle = (carried + lost) // 2
        if await carries(middle):
            carried = middle
        else:
            lost = middle
    return carried


def is_carried(load: Load, planned_s: float) -> bool:
    """Whether a load arrived in full and was sent on time, within the margins."""
    return load.delivered >= DELIVERED_MIN * load.sent and load.seconds <= SLOWER_MAX * planned_s


async def _compare(size: int, rounds: int, seconds: float) -> list[Row]:
    bare_rate = await _bare_rate(size)
    if not bare_rate:
        error = CubecastError(f"the {BARE} loses frames at {FIRST_RATE}/s already; leave the machine idle for this")
        return [failed_row(f"{OURS}, {size} B frames", error)]
    for reductions in range(REDUCTIONS_MAX + 1):
        rate = round(LOAD_SHARE * bare_rate * REDUCTION**reductions)
        costs = await _costs(size, rate, rounds, seconds)
        if costs is not None:
            share = f"{100 * rate / bare_rate:.0f} % of the {bare_rate}/s that the bare relay carries"
            name = f"{OURS}, {size} B frames at {rate}/s ({share})"
            ours, bare = min(costs[OURS]), min(costs[BARE])
            return [
                ratio_row(name, ours.per_gb_s, "CPU s/GB", BARE, bare.per_gb_s, BAR),
                unjudged_row(
                    f"{OURS}, idle in the same round",
                    round(ours.idle_ms, 2),
                    "CPU ms/s",
                    f"{BARE} ({bare.idle_ms:.2f} CPU ms/s)",
                    round(ours.idle_ms / max(bare.idle_ms, 0.01), 2),
                ),
            ]
    error = CubecastError(f"frames are lost even at {rate}/s; leave the machine idle for this")
    return [failed_row(f"{OURS}, {size} B frames", error)]


async def _costs(size: int, rate: int, rounds: int, seconds: float) -> dict[str, list[RelayCost]] | None:
    """The cost of each relay in each round; the relays alternate in going first. None if frames were lost."""
    costs: dict[str, list[RelayCost]] = {BARE: [], OURS: []}
    order = [(BARE, bare_path), (OURS, cubecast_path)]
    for number in range(rounds):
        for relay, open_path in order if number % 2 == 0 else reversed(order):
            load = await _offer(open_path, size, rate, seconds)
            if not is_carried(load, seconds):
                print(
                    f"{relay}, {size} B at {rate}/s: {load.delivered} of {load.sent} frames delivered, sent in "
                    f"{load.seconds:.1f} s instead of {seconds:.1f} s; this rate is given up",
                    file=sys.stderr,
                )
                return None
            costs[relay].append(RelayCost(load.relay_cpu_s / (load.delivered * size / 1e9), 1000 * load.idle_share))
        latest = ", ".join(f"{relay} {spent[-1].per_gb_s:.2f} CPU s/GB" for relay, spent in costs.items())
        print(f"round {number + 1} of {rounds}, {size} B at {rate}/s: {latest}", file=sys.stderr)
    return costs


async def _bare_rate(size: int) -> int:
    """The greatest rate that the bare relay's path carries, frames/s: doubled from FIRST_RATE, then bisected.

    Returns 0 if not even FIRST_RATE is carried. A failed trial's frames may still arrive, so the next trial needs a new path.
    """
    carried, rate = 0, FIRST_RATE
    try:
        async with _traffic(bare_path, size) as traffic:
            while rate <= RATE_MAX and is_carried(await traffic.offer(rate, TRIAL_S), TRIAL_S):
                carried, rate = rate, 2 * rate
    except* CubecastError:
        pass  # the path broke: the rate is not carried

    async def carries(rate: int) -> bool:
        return is_carried(await _offer(bare_path, size, rate, TRIAL_S), TRIAL_S)

    return await bisected(carried, rate, carries) if 0 < carried < RATE_MAX else carried


async def _offer(open_path: OpenPath, size: int, rate: int, seconds: float) -> Load:
    """Offers a load to a new path; if the path breaks, nothing counts as delivered."""
    try:
        async with _traffic(open_path, size) as traffic:
            load = await traffic.offer(rate, seconds)
    except* CubecastError:
        load = Load(round(rate * seconds), 0, seconds, 0.0, 0.0)
    return load


@asynccontextmanager
async def _traffic(open_path: OpenPath, size: int) -> AsyncIterator[Traffic]:
    async with open_path() as path, asyncio.TaskGroup() as group:
        traffic = Traffic(path, size)
        await traffic.start(group)
        yield traffic
        traffic.stop()
