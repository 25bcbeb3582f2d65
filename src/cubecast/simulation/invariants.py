"""The invariants of the overlay: what must hold after every event.

- A host has one parent per channel, and no chain of parents is a loop.
- A host sends no more copies than its fan-out.
- No two hidden hosts are parent and child.
- Every label is held by exactly one host, in the placements of the directory's epoch.
- Every subscriber that asked has a decision, or the search for a parent is under way.
- A subscriber whose stream died is notified.

The invariants of jobs are in cubecast.simulation.job_invariants.
"""

from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.overlay.cube import label_count
from cubecast.simulation.overlay import SimulatedOverlay
from cubecast.simulation.shells.host import SimulatedHost
from cubecast.simulation.shells.subscribers import LocalSubscriber
from cubecast.types import ChannelName, HostId

Parents = dict[HostId, dict[ChannelName, HostId | None]]
"""Parents by host and channel."""


def broken_at(overlay: SimulatedOverlay, here: SimulatedHost, before: Parents) -> list[str]:
    """The invariants that a host breaks now, one line each; to be called after every event that it handled.

    Args:
        before: the parents that were checked, updated by every call: only a changed parent can close a loop.
    """
    found = []
    copies = 0
    branches = here.engine.branches()
    known = before.get(here.host, {})
    before[here.host] = {branch.channel: branch.upstream for branch in branches}
    for branch in branches:
        copies += len(branch.below.children)
        changed = branch.upstream is not None and branch.upstream != known.get(branch.channel)
        if changed and _loops(overlay, here.host, branch.channel):
            found.append(f"{here.host}: its parents for {branch.channel} form a loop")
        if here.host in overlay.hidden and branch.upstream in overlay.hidden:
            found.append(f"{here.host}: it is hidden, and so is its parent {branch.upstream}")
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
    """Labels that are not held by exactly one host in the directory's placements, one line each."""
    held: dict[int, HostId] = {}
    found = []
    for host in directory.members:
        placement = directory.placement(host)
        if placement.epoch != directory.epoch:
            found.append(f"{host}: has no placement of epoch {directory.epoch}")
            continue
        for label in placement.labels:
            if label in held:
                found.append(f"label {label}: held by {held[label]} and {host}")
            held[label] = host
    missing = label_count(directory.cube) - len(held)
    return found + ([f"{missing} labels are held by no host"] if missing and directory.members else [])


def lacks_decision(here: SimulatedHost, subscriber: LocalSubscriber) -> bool:
    """Whether a subscriber waits for a decision while no search for a parent is under way."""
    return subscriber.unanswered and not here.engine.searching(subscriber.channel)


def lost_without_notice(overlay: SimulatedOverlay, here: SimulatedHost, subscriber: LocalSubscriber) -> bool:
    """Whether a subscriber of a living host was admitted last but gets no media, and no new parent is looked for."""
    channel = subscriber.channel
    admitted = here.alive and subscriber.admitted
    return admitted and not here.engine.searching(channel) and not overlay.flows(here.host, channel)
