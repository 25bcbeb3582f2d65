"""handshake-kill: a host dies in the middle of another's search or right after it, each time at another message.

The subscribers ask one after the other. As soon as the trace shows a message between the subscriber and another host, of a
kind at which no host was killed yet, that host is killed (kill -9); once all kinds could have been met, once more. The
subscriber must be admitted or refused all the same, and every admitted one whose own host lives must get all frames of the
stream that follows.
"""

import asyncio
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from cubecast.emulator.plan import HOP_OWN_MS, Plan, shortest_ms
from cubecast.emulator.processes import CommandProcess, Fields
from cubecast.emulator.scenarios.run import Run, Setting, record_delivery, streaming
from cubecast.emulator.testbed import Testbed

SECONDS = 8.0
"""Default length of the stream, s."""
FAN_OUT = 3
"""Copies a host may send: so few that paths have several hops."""
BOUND_FACTORS = (1.05, 2.0)
"""Bounds are between these multiples of the fastest path's delay, so that some need a host which carries nothing yet."""
STEPS = (
    "attach",
    "path-request",
    "path-offer",
    "commit",
    "confirm",
    "relatives",
    "standby-request",
    "standby-status",
    "path-update",
)
"""Kinds of messages after which a host is killed, in the protocol's words."""
WAIT_S = 4.0
"""Time after the admission in which the message may still come, s: those about standbys come later."""
LEASE_S = 7.0
"""Time after which the super-node has removed the killed host, s, so that one of its name may join: a lease is 6 s."""
POLL_S = 0.002
"""Time between two looks at the trace, s."""


@dataclass(slots=True)
class Kills:
    """What came of the searches in which a host was killed, by the kind of the message, and the number of searches."""

    outcomes: dict[str, list[str]] = field(default_factory=lambda: {step: [] for step in STEPS})
    searches: int = 0

    def is_due(self, kind: str) -> bool:
        """Whether a host is killed at this kind of message: once, and once more when all could have been met."""
        return len(self.outcomes[kind]) <= self.searches // (len(STEPS) + 1)


class TraceTail:
    """Reads a trace while it grows."""

    def __init__(self, path: Path) -> None:
        """From its present end on."""
        self._file = path.open("rb")
        self._file.seek(0, 2)
        self._rest = b""

    def lines(self) -> list[Fields]:
        """The lines that have come since the last call."""
        *whole, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [json.loads(line) for line in whole]

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


async def handshake_kill(setting: Setting) -> Run:
    """Kills one host in the search of each subscriber, and streams afterwards."""
    run, trace = Run(), setting.trace or setting.folder / "trace.jsonl"
    rng, kills = setting.rng(), Kills()

    def bounds(plan: Plan) -> tuple[float, ...]:
        least_ms = shortest_ms(setting.network.matrix_ms(), HOP_OWN_MS)
        return tuple(float(least_ms[index] * rng.uniform(*BOUND_FACTORS)) for index in plan.subscribers)

    seconds = setting.seconds or SECONDS
    async with streaming(replace(setting, trace=trace), run, seconds, bounds, fan_out=FAN_OUT) as bed:
        killed: set[CommandProcess] = set()
        for index in bed.plan.subscribers:
            host = bed.hosts[index]
            kills.searches += 1
            victim, step = await _subscribe_and_kill(bed, host, kills, trace) or (None, "nobody")
            decision = next((event for event in ("admitted", "refused") if event in host.events), "undecided")
            setting.notify(f"{host.name}: {decision}; killed at {step}")
            if victim is not None:
                killed.add(bed.hosts[victim])
                kills.outcomes[step].append(decision)
                await asyncio.sleep(LEASE_S)
                await (await bed.start(victim)).wait_for("joined")
        await bed.stream()
        record_delivery(
            run, [host for host in bed.subscribers if "admitted" in host.events and host not in killed], 0.0
        )
    run.detail["outcomes"] = {step: decisions for step, decisions in kills.outcomes.items() if decisions}
    run.detail["undecided"] = sum(decisions.count("undecided") for decisions in kills.outcomes.values())
    return run


async def _subscribe_and_kill(bed: Testbed, host: CommandProcess, kills: Kills, trace: Path) -> tuple[int, str] | None:
    """Lets a host subscribe, and kills the host at the other end of a message: that host, and the kind of the message."""
    tail, loop = TraceTail(trace), asyncio.get_running_loop()
    asking = asyncio.ensure_future(bed.subscribe(host))
    try:
        until = float("inf")
        while loop.time() < until:
            for line in tail.lines():
                seen = other_end(line, host.name)
                if seen is None:
                    continue
                victim = bed.plan.index(seen[0])
                if victim not in bed.plan.publishers and kills.is_due(seen[1]):
                    bed.kill(victim)
                    return victim, seen[1]
            if asking.done() and until == float("inf"):
                until = loop.time() + WAIT_S
            await asyncio.sleep(POLL_S)
        return None
    finally:
        tail.close()
        await asking


def other_end(line: Fields, subscriber: str) -> tuple[str, str] | None:
    """The host that has exchanged a message of STEPS with the subscriber, or on its behalf, by a line of the trace; its kind."""
    event = line.get("event")
    if not isinstance(event, dict) or event.get("kind") != "Received":
        return None
    message, at, sender = event["message"], str(line["at"]), str(event["host"])
    kind = message["kind"]
    if kind not in STEPS:
        return None
    if at == subscriber:
        return sender, kind
    on_behalf = sender == subscriber or message.get("trail", [None])[0] == subscriber
    return (at, kind) if on_behalf else None
