"""crowd: all subscribers ask at the same moment, with bounds around what is possible; who is admitted, and how soon?

About a third of the bounds are below what any path can keep, so they must be refused. The others are above it, and must be
admitted where one tree keeps all of them: that is decided by building one, hosts without a subscription relaying too.
"""

import asyncio
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass

import numpy as np

from cubecast.emulator.plan import HOP_OWN_MS, Plan, shortest_ms
from cubecast.emulator.processes import CommandProcess, Fields
from cubecast.emulator.scenarios.run import Run, Setting, changes_after, record_delivery, streaming
from cubecast.types import Floats

SECONDS = 200.0
"""Default length of the stream, s."""
CALM_S = 120.0
"""From this time after the subscriptions on, no host should change its parent, s."""
LOOK_S = 3.0
"""Time before the end of the stream at which changes are counted, s."""
REFUSED_SHARE = (0.4, 0.8)
"""A bound that no path keeps is between these shares of the fastest path's delay."""
ADMITTED_SHARE = (1.3, 2.5)
"""One that a path keeps is between these multiples of the fastest path's delay, each hop with HOP_OWN_MS."""
IMPOSSIBLE = 1 / 3
"""Share of the subscribers whose bound no path keeps."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the exact search says about a crowd: the bound of each subscriber by index, ms, and who must be admitted.

    Attributes:
        admitted: None for a subscriber about whom nothing is said, since there may be too few copies for all.
    """

    bounds_ms: Mapping[int, float]
    admitted: Mapping[int, bool | None]


async def crowd(setting: Setting) -> Run:
    """Subscribes all at once, streams, and compares the decisions with the exact search."""
    run = Run()
    seconds = setting.seconds or SECONDS
    expected: dict[str, Expected] = {}

    def bounds(plan: Plan) -> tuple[float, ...]:
        expected["crowd"] = expect(setting.network.matrix_ms(), plan, setting.rng())
        return tuple(expected["crowd"].bounds_ms[index] for index in plan.subscribers)

    async with streaming(setting, run, seconds, bounds) as bed:
        asked_at = time.time()
        decided_s = await asyncio.gather(*(_decided_s(host, bed.subscribe(host)) for host in bed.subscribers))
        admitted = [host for host in bed.subscribers if "admitted" in host.events]

        async def look() -> None:
            await asyncio.sleep(seconds - LOOK_S)
            late = changes_after(bed, asked_at + CALM_S)
            minutes = (time.time() - asked_at - CALM_S) / 60
            run.detail["switches_per_minute"] = len(late) / minutes if minutes > 0 else None

        await bed.stream(look)
        record_delivery(run, admitted, 0.0)
        run.switches = len(changes_after(bed, asked_at))
        run.detail |= _judge(bed.hosts, expected["crowd"])
        run.detail["decided_s"] = sorted(round(each, 2) for each in decided_s)
    setting.notify(
        f"{run.detail['right']} of {run.detail['judged']} decisions as the exact search says; {len(admitted)} admitted; "
        f"the last decision after {max(decided_s):.1f} s"
    )
    return run


async def _decided_s(host: CommandProcess, subscribed: Awaitable[None]) -> float:
    """How long a host takes to be admitted or refused, s."""
    began = time.monotonic()
    asking = asyncio.ensure_future(subscribed)
    try:
        await host.wait_for("admitted", "refused")
        return time.monotonic() - began
    finally:
        await asking


def expect(delay_ms: Floats, plan: Plan, rng: np.random.Generator) -> Expected:
    """Draws the bounds of a crowd, and says who must be admitted.

    Args:
        delay_ms: one-way delays of the network, shape (m, m).
    """
    fastest_ms, least_ms = shortest_ms(delay_ms, 0.0), shortest_ms(delay_ms, HOP_OWN_MS)
    impossible = set(rng.permutation(plan.subscribers)[: round(IMPOSSIBLE * len(plan.subscribers))].tolist())
    bounds_ms: dict[int, float] = {}
    for index in plan.subscribers:
        share, base_ms = (
            (REFUSED_SHARE, fastest_ms[index]) if index in impossible else (ADMITTED_SHARE, least_ms[index])
        )
        bounds_ms[index] = float(base_ms * rng.uniform(*share))
    wanted = {index: ms for index, ms in bounds_ms.items() if index not in impossible}
    fits = has_tree(delay_ms, wanted, plan.fan_out)
    return Expected(bounds_ms, {i: False if i in impossible else (True if fits else None) for i in plan.subscribers})


def has_tree(delay_ms: Floats, bounds_ms: Mapping[int, float], fan_out: int) -> bool:
    """Whether a tree from host 0 keeps all bounds: tried by adding subscribers one by one, the tightest bound first.

    No answer of "no" is certain: another order might find one.

    Args:
        bounds_ms: by subscriber, with HOP_OWN_MS for each hop.
    """
    reached_ms, copies = {0: 0.0}, dict.fromkeys(range(len(delay_ms)), fan_out)
    for index in sorted(bounds_ms, key=lambda each: bounds_ms[each]):
        if index in reached_ms and reached_ms[index] <= bounds_ms[index]:
            continue
        found = _path(delay_ms, index, reached_ms, copies)
        if index in reached_ms or found is None or found[0] > bounds_ms[index]:
            return False
        before = found[1]
        for host, parent in before:
            reached_ms[host] = reached_ms[parent] + float(delay_ms[parent, host]) + HOP_OWN_MS
            copies[parent] -= 1
    return True


def _path(
    delay_ms: Floats, target: int, reached_ms: Mapping[int, float], copies: Mapping[int, int]
) -> tuple[float, list[tuple[int, int]]] | None:
    """The fastest path from the tree to a host: its delay, ms, and the links to add, from the tree on; None without any."""
    best_ms, parent, done = dict(reached_ms), dict[int, int](), set[int]()
    while open_hosts := best_ms.keys() - done:
        host = min(open_hosts, key=lambda each: best_ms[each])
        done.add(host)
        if host == target:
            links = []
            while host in parent:
                links.append((host, parent[host]))
                host = parent[host]
            return best_ms[target], links[::-1]
        if copies[host] <= 0:
            continue
        for other in range(len(delay_ms)):
            path_ms = best_ms[host] + float(delay_ms[host, other]) + HOP_OWN_MS
            if other not in reached_ms and path_ms < best_ms.get(other, np.inf):
                best_ms[other], parent[other] = path_ms, host
    return None


def _judge(hosts: Mapping[int, CommandProcess], expected: Expected) -> Fields:
    """Which decisions are as expected."""
    wrong, judged = [], 0
    for index, admit in expected.admitted.items():
        host = hosts[index]
        if admit is None:
            continue
        judged += 1
        decision = next((event for event in ("admitted", "refused") if event in host.events), "undecided")
        if decision != ("admitted" if admit else "refused"):
            reason = host.events.get("refused", {}).get("reason", "")
            wrong.append(f"{host.name}: {decision} with {expected.bounds_ms[index]:.1f} ms {reason}".rstrip())
    return {"judged": judged, "right": judged - len(wrong), "wrong": wrong}
