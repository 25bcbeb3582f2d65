"""What must hold after every event, whatever happens: the laws of the overlay.

- One parent a host and channel; following parents never leads round in a loop.
- A host sends no more copies than it may.
- Two hosts that cannot be dialled are never parent and child.
- Every label is held by exactly one host, in every placement the directory stands by.
- No subscriber is forgotten: whoever asked has its answer, or its search is under way; whose stream died is told.
"""

from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.host import effects as fx
from cubecast.overlay.cube import label_count
from cubecast.simulation.overlay import SimulatedHost, SimulatedOverlay
from cubecast.types import ChannelName, HostId

Parents = dict[HostId, dict[ChannelName, HostId | None]]
"""By host and channel."""


def broken_at(overlay: SimulatedOverlay, here: SimulatedHost, before: Parents) -> list[str]:
    """The laws that a host breaks now, one line each; called after every event it handled.

    Args:
        before: the parents that were found to be in order, kept from call to call: a loop comes about only where a
            parent changes.
    """
    found = []
    copies = 0
    branches = here.engine.branches()
    known = before.get(here.host, {})
    before[here.host] = {branch.channel: branch.upstream for branch in branches}
    for branch in branches:
        copies += len(branch.children)
        changed = branch.upstream is not None and branch.upstream != known.get(branch.channel)
        if changed and _loops(overlay, here.host, branch.channel):
            found.append(f"{here.host}: its parents for {branch.channel} lead round in a loop")
        if here.host in overlay.hidden and branch.upstream in overlay.hidden:
            found.append(f"{here.host}: its parent {branch.upstream} cannot be dialled, nor can it")
    if copies > here.fan_out:
        found.append(f"{here.host}: sends {copies} copies, {here.fan_out} are allowed")
    return found


def _loops(overlay: SimulatedOverlay, start: HostId, channel: ChannelName) -> bool:
    at = overlay.hosts[start].engine.upstream(channel)
    for _ in range(len(overlay.hosts)):
        if at is None or at == start:
            return at == start
        there = overlay.hosts.get(at)
        if there is None or not there.alive:
            return False
        at = there.engine.upstream(channel)
    return True


def broken_labels(directory: DirectoryEngine) -> list[str]:
    """Labels that are not held by exactly one host, in the placements that the directory stands by."""
    held: dict[int, HostId] = {}
    found = []
    for host, member in directory.members.items():
        placement = member.placement
        if placement is None or placement.epoch != directory.epoch:
            found.append(f"{host}: has no place in epoch {directory.epoch}")
            continue
        for label in placement.labels:
            if label in held:
                found.append(f"label {label}: held by {held[label]} and {host}")
            held[label] = host
    missing = label_count(directory.cube) - len(held)
    return found + ([f"{missing} labels are held by nobody"] if missing and directory.members else [])


def forgotten(here: SimulatedHost, channel: ChannelName, asked: int) -> bool:
    """Whether a subscriber that has asked so often got fewer answers and is not looked after any more."""
    answers = [o for o in here.outcomes if o.channel == channel and not isinstance(o, fx.StreamEnded)]
    return len(answers) < asked and not here.engine.searching(channel)


def hangs(overlay: SimulatedOverlay, host: HostId, channel: ChannelName) -> bool:
    """Whether a living subscriber gets nothing and believes that it does."""
    here = overlay.hosts[host]
    believes = bool(here.outcomes) and isinstance(here.outcomes[-1], fx.Admitted)
    return here.alive and believes and not here.engine.searching(channel) and not overlay.flows(host, channel)
