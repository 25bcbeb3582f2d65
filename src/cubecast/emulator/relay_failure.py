"""Chooses a relay and kills it while a stream runs, and observes how the hosts it fed recover."""

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from cubecast.emulator.delivery_tree import children_of, is_descendant, relays_of
from cubecast.emulator.processes import CommandProcess
from cubecast.emulator.testbed import Testbed

STREAMS_S = 2.0
"""Time for which the stream runs before the relay is killed, s."""
RECEIVING_S = 10.0
"""Longest wait for all admitted subscribers to receive their first frames, s."""
RECOVER_S = 10.0
"""Longest wait for the children of a killed relay to receive again, s; a host gives up a channel after 10 s without a
parent (docs/decisions/0010)."""
POLL_S = 0.1
"""Time between two checks of the hosts' reports, s; they report every 0.5 s."""


@dataclass(slots=True)
class RelayFailure:
    """The delivery tree before and after the kill of a relay; hosts are indices of the plan.

    Attributes:
        before: the parent of each host before the kill, or in a run without one.
        after: the same once the children of the killed relay have recovered, or RECOVER_S after the kill.
        killed: the killed relay; None if no host was killed.
        killed_s: when it was killed, s since the Unix epoch.
        children: the hosts it fed directly.
        recovered: those of them that have another parent and receive again.
        reason: why no relay was killed although one should have been; empty otherwise.
    """

    before: dict[int, int] = field(default_factory=dict)
    after: dict[int, int] = field(default_factory=dict)
    killed: int | None = None
    killed_s: float = 0.0
    children: list[int] = field(default_factory=list)
    recovered: list[int] = field(default_factory=list)
    reason: str = ""

    def interrupted(self, host: int) -> bool:
        """Whether a host received over the killed relay, directly or not."""
        return self.killed is not None and is_descendant(self.before, host, self.killed)


async def observe_tree(bed: Testbed, failure: RelayFailure) -> None:
    """Records the delivery tree once all admitted subscribers receive; call it while the bed streams."""
    began_s = time.time()
    admitted = [host for host in bed.subscribers if "receiving" in host.events]
    while time.time() - began_s < RECEIVING_S and not bed.publisher.ended and "finished" not in bed.publisher.events:
        if time.time() - began_s >= STREAMS_S and all(frames_received(host) for host in admitted):
            break
        await asyncio.sleep(POLL_S)
    failure.before = bed.parents()


def busiest_relay(parents: Mapping[int, int], publishers: Collection[int], receivers: Collection[int]) -> int | None:
    """The relay with the most receivers among its descendants; of several, one that is no receiver itself, if any.

    Returns:
        None if the publishers feed all receivers themselves.
    """

    def fed(relay: int) -> int:
        return sum(is_descendant(parents, receiver, relay) for receiver in receivers)

    relays = [relay for relay in relays_of(parents, publishers) if fed(relay)]
    return max(relays, key=lambda relay: (fed(relay), relay not in receivers, -relay), default=None)


async def kill_busiest_relay(bed: Testbed, failure: RelayFailure) -> None:
    """Kills the relay that feeds the most subscribers, and waits until its children have recovered, RECOVER_S at most.

    Call it after `observe_tree`, while the bed streams. If nothing can be killed, `failure.reason` says why.
    """
    plan = bed.plan
    if "finished" in bed.publisher.events or bed.publisher.ended:
        failure.reason = "the stream ended before a relay could be killed; give a longer --clip"
        return
    receivers = [i for i in plan.subscribers if "receiving" in bed.hosts[i].events and not bed.hosts[i].ended]
    relay = busiest_relay(failure.before, plan.publishers, receivers)
    if relay is None:
        failure.reason = (
            f"no host relays: {plan.name(0)} feeds all subscribers itself; give more --subscribers or another --seed"
        )
        return
    failure.killed, failure.children = relay, children_of(failure.before, relay)
    counts = {child: frames_received(bed.hosts[child]) for child in failure.children}
    failure.killed_s = time.time()
    bed.kill(relay)
    while time.time() - failure.killed_s < RECOVER_S:
        failure.after = bed.parents()
        failure.recovered = [child for child in failure.children if _receives_again(bed, failure, child, counts[child])]
        if failure.recovered == failure.children and bed.hosts[relay].ended:
            return
        await asyncio.sleep(POLL_S)


def frames_received(host: CommandProcess) -> int:
    """Frames that a subscriber has received so far; 0 for other hosts."""
    frames = (host.events.get("summary") or host.status).get("frames")
    return int(frames["received"]) if isinstance(frames, dict) else 0


def _receives_again(bed: Testbed, failure: RelayFailure, child: int, count: int) -> bool:
    """Whether a host is connected to the publisher without the killed relay, and, if it subscribes, has new frames."""
    if bed.hosts[child].ended or failure.killed is None or is_descendant(failure.after, child, failure.killed):
        return False
    connected = any(is_descendant(failure.after, child, publisher) for publisher in bed.plan.publishers)
    subscribes = "receiving" in bed.hosts[child].events
    return connected and (not subscribes or frames_received(bed.hosts[child]) > count)
