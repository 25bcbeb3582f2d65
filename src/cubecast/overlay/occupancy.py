"""Incomplete occupation: m hosts on M >= m labels, so that some hosts carry several labels.

Each host has one label of its own (its seat). Every label without a host is carried by the host whose seat is nearest
in the cube; ties go to the first seat going up from the label, around modulo M. The rule is a pure function of the
seats, so every observer computes the same carriers and a join or a leave moves labels near that seat only.
"""

from collections.abc import Iterable, Mapping

from cubecast.errors import UsageError
from cubecast.overlay.cube import Cube, label_count, neighbours
from cubecast.types import HostId, Label


def carriers(cube: Cube, seats: Iterable[int]) -> dict[Label, Label]:
    """For every label of the cube, the seat that carries it.

    Grows from all seats at once, one hop a round, keeping every nearest seat of a label: a seat nearest to a label is
    nearest to the label before it on a shortest path as well, so no nearest seat is missed.

    Raises:
        UsageError: no seat, or a seat outside the cube.
    """
    total = label_count(cube)
    taken = sorted(set(seats))
    if not taken or taken[0] < 0 or taken[-1] >= total:
        raise UsageError(f"seats {taken[:3]} do not lie on shape {cube}")
    nearest: dict[Label, tuple[Label, ...]] = {Label(seat): (Label(seat),) for seat in taken}
    missing = [Label(label) for label in range(total) if label not in nearest]
    frontier = list(nearest)
    while missing:
        if len(missing) < len(frontier):  # whoever is missing looks around, or those found last do: what is less work
            seen = ((label, near) for label in missing for near in neighbours(cube, label) if near in nearest)
        else:
            seen = ((near, label) for label in frontier for near in neighbours(cube, label) if near not in nearest)
        reached: dict[Label, set[Label]] = {}
        for label, near in seen:
            reached.setdefault(label, set()).update(nearest[near])
        nearest |= {label: tuple(near) for label, near in reached.items()}
        frontier = list(reached)
        missing = [label for label in missing if label not in reached]
    return {
        label: near[0] if len(near) == 1 else _first_going_up(label, near, total) for label, near in nearest.items()
    }


def _first_going_up(label: Label, seats: tuple[Label, ...], total: int) -> Label:
    return min(seats, key=lambda seat: (seat - label) % total)


def labels_of(cube: Cube, seats: Mapping[HostId, Label]) -> dict[HostId, list[Label]]:
    """Each host's labels in rising order, its seat among them.

    Args:
        seats: the seat of each host, no two alike.
    """
    by_seat = {seat: host for host, seat in seats.items()}
    held: dict[HostId, list[Label]] = {host: [] for host in seats}
    for label, seat in sorted(carriers(cube, by_seat).items()):
        held[by_seat[seat]].append(label)
    return held


def free_labels(cube: Cube, seats: Iterable[int]) -> list[Label]:
    """Labels that are nobody's seat, those of the most loaded hosts first, then in rising order."""
    taken = set(seats)
    if not taken:
        return [Label(label) for label in range(label_count(cube))]
    owner = carriers(cube, taken)
    load: dict[Label, int] = {}
    for seat in owner.values():
        load[seat] = load.get(seat, 0) + 1
    return sorted((label for label in owner if label not in taken), key=lambda label: (-load[owner[label]], label))
