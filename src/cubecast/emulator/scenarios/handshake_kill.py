"""handshake-kill: a host dies in the middle of another's search or right after it, each time at another message.

The subscribers ask one after the other. As soon as the trace shows a certain message between the subscriber and another
host, that host is killed (kill -9). The subscriber must be admitted or refused all the same, and every admitted one whose own
host lives must get all frames of the stream that follows.
"""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

from cubecast.emulator.plan import HOP_OWN_MS, Plan
from cubecast.emulator.processes import CommandProcess, Fields
from cubecast.emulator.scenarios.crowd import shortest_ms
from cubecast.emulator.scenarios.run import Run, Setting, record_delivery, streaming
from cubecast.emulator.testbed import Testbed

SECONDS = 8.0
"""Default length of the stream, s."""
FAN_OUT = 3
"""Copies a host may send: so few that paths have several hops."""
ROOM = (1.2, 3.0)
"""Bounds are between these multiples of the fastest path's delay, so that some need a host which carries nothing yet."""
STEPS = ("attach", "path-request", "path-offer", "commit", "confirm", "kin", "stand-by", "standing-by", "pulse")
"""Kinds of messages after which a host is killed, in the protocol's words, in turn."""
WAIT_S = 4.0
"""Time after the admission in which the message may still come, s: those about standbys come later."""
POLL_S = 0.002
"""Time between two looks at the trace, s."""


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
    rng, outcomes = setting.rng(), dict[str, list[str]]()

    def bounds(plan: Plan) -> tuple[float, ...]:
        least_ms = shortest_ms(setting.network.matrix_ms(), HOP_OWN_MS)
        return tuple(float(least_ms[index] * rng.uniform(*ROOM)) for index in plan.subscribers)

    seconds = setting.seconds or SECONDS
    async with streaming(replace(setting, trace=trace), run, seconds, bounds, fan_out=FAN_OUT) as bed:
        killed: set[CommandProcess] = set()
        for number, index in enumerate(bed.plan.subscribers):
            step, host = STEPS[(setting.seed + number) % len(STEPS)], bed.hosts[index]
            victim = await _subscribe_and_kill(bed, host, step, trace)
            decision = next((event for event in ("admitted", "refused") if event in host.events), "undecided")
            if victim is not None:
                killed.add(bed.hosts[victim])
                outcomes.setdefault(step, []).append(decision)
                await (await bed.start(victim)).wait_for("joined")
            setting.notify(
                f"{host.name}: {decision}; killed at {step}: {victim if victim is None else bed.plan.name(victim)}"
            )
        await bed.stream()
        record_delivery(
            run, [host for host in bed.subscribers if "admitted" in host.events and host not in killed], 0.0
        )
    run.detail["outcomes"] = outcomes
    run.detail["undecided"] = sum(each == "undecided" for decisions in outcomes.values() for each in decisions)
    return run


async def _subscribe_and_kill(bed: Testbed, host: CommandProcess, step: str, trace: Path) -> int | None:
    """Lets a host subscribe, and kills the host at the other end of its first message of a kind; None without one."""
    tail, loop = TraceTail(trace), asyncio.get_running_loop()
    asking = asyncio.ensure_future(bed.subscribe(host))
    try:
        until = float("inf")
        while loop.time() < until:
            for line in tail.lines():
                victim = other_end(line, host.name, step)
                if victim is not None and bed.plan.index(victim) not in bed.plan.publishers:
                    bed.kill(bed.plan.index(victim))
                    return bed.plan.index(victim)
            if asking.done() and until == float("inf"):
                until = loop.time() + WAIT_S
            await asyncio.sleep(POLL_S)
        return None
    finally:
        tail.close()
        await asking


def other_end(line: Fields, subscriber: str, step: str) -> str | None:
    """The host that has exchanged a message of a kind with the subscriber, or on its behalf, by a line of the trace."""
    event = line.get("event")
    if not isinstance(event, dict) or event.get("kind") != "Received":
        return None
    message, at, sender = event["message"], str(line["at"]), str(event["host"])
    if message["kind"] != step:
        return None
    if at == subscriber:
        return sender
    on_behalf = sender == subscriber or message.get("trail", [None])[0] == subscriber
    return at if on_behalf else None
