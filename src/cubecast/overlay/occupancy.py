"""Incomplete occupation: m hosts on M >= m labels, so that some hosts carry several labels.

Each host has a seat, the label it holds itself. Every label that is not a seat is carried by the host whose seat is the
nearest in hops; of several nearest seats, the first one in ascending order from the label, modulo M, carries it. The
rule depends on the seats alone, so all hosts compute the same carriers, and a join or leave moves labels only to or
from the host that joins or leaves.
"""

from collections.abc import Iterable, Iterator, Mapping

from cubecast.errors import UsageError
from cubecast.overlay.cube import Cube, label_count, neighbours
from cubecast.types import HostId, Label


def carriers(cube: Cube, seats: Iterable[int]) -> dict[Label, Label]:
    """For every label of the cube, the seat of the host that carries it.

    Raises:
        UsageError: no seat, or a seat outside the cube.
    """
    total = label_count(cube)
    return {
        label: near[0] if len(near) == 1 else first_ascending(label, near, total)
        for found in nearest_seats(cube, seats)
        for label, near in found.items()
    }


def nearest_seats(cube: Cube, seats: Iterable[int]) -> Iterator[dict[Label, tuple[Label, ...]]]:
    """All nearest seats of every label, first of the labels at 0 hops from them, which are the seats, then at 1, 2, ..

    Breadth-first search from all seats at once, one hop per round. A seat that is nearest to a label is also nearest to
    every label on a shortest path between the two, so none is missed.

    Raises:
        UsageError: no seat, or a seat outside the cube.
    """
    total = label_count(cube)
    taken = sorted(set(seats))
    if not taken or taken[0] < 0 or taken[-1] >= total:
        raise UsageError(f"seats {taken[:3]} are not labels of shape {cube}")
    found: dict[Label, tuple[Label, ...]] = {Label(seat): (Label(seat),) for seat in taken}
    nearest = dict(found)
    yield found
    missing = [Label(label) for label in range(total) if label not in nearest]
    while missing:
        if len(missing) < len(found):  # search from the smaller side: fewer neighbours to look up
            seen = ((label, near) for label in missing for near in neighbours(cube, label) if near in nearest)
        else:
            seen = ((near, label) for label in found for near in neighbours(cube, label) if near not in nearest)
        reached: dict[Label, set[Label]] = {}
        for label, near in seen:
            reached.setdefault(label, set()).update(nearest[near])
        found = {label: tuple(near) for label, near in reached.items()}
        nearest |= found
        yield found
        missing = [label for label in missing if label not in reached]


def first_ascending(label: Label, seats: tuple[Label, ...], total: int) -> Label:
    """The first of some seats in ascending order from a label, modulo the number of labels."""
    return min(seats, key=lambda seat: (seat - label) % total)


def labels_of(cube: Cube, seats: Mapping[HostId, Label]) -> dict[HostId, list[Label]]:
    """The labels that each host carries, its seat included, in ascending order.

    Args:
        seats: the seat of each host; no two hosts have the same.
    """
    by_seat = {seat: host for host, seat in seats.items()}
    held: dict[HostId, list[Label]] = {host: [] for host in seats}
    for label, seat in sorted(carriers(cube, by_seat).items()):
        held[by_seat[seat]].append(label)
    return held


def free_labels(cube: Cube, seats: Iterable[int]) -> list[Label]:
    """The labels that are not a seat: first those carried by the hosts with most labels, then in ascending order."""
    taken = set(seats)
    if not taken:
        return [Label(label) for label in range(label_count(cube))]
    owner = carriers(cube, taken)
    load: dict[Label, int] = {}
    for seat in owner.values():
        load[seat] = load.get(seat, 0) + 1
    return sorted((label for label in owner if label not in taken), key=lambda label: (-load[owner[label]], label))
