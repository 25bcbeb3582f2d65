"""Carriers of labels that are kept up to date as seats are taken and given up: the rule of `occupancy`, computed locally.

If a seat is nearest to a label, it is nearest to every label on a shortest path between the two. So the labels that a
seat may carry are found by a breadth-first search from it that stops where another seat is nearer. A change of one seat
visits these labels and those beside them, however many there are in all.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from cubecast.overlay.cube import Cube, label_count, neighbours
from cubecast.overlay.occupancy import first_ascending, nearest_seats
from cubecast.types import Label

NO_SEAT = Label(-1)
"""Stands for the carrier of a label while there is no seat at all."""


class Carriers:
    """The seats of a cube, the seat that carries each label, and the labels that are free."""

    def __init__(self, cube: Cube, seats: Iterable[int] = ()) -> None:
        """Visits every label once.

        Raises:
            UsageError: a seat is outside the cube.
        """
        self._cube = cube
        self._total = label_count(cube)
        self._restart(seats)

    def _restart(self, seats: Iterable[int]) -> None:
        self._nearest: list[tuple[Label, ...]] = [()] * self._total
        """All nearest seats of each label; empty while there is no seat."""
        self._hops: list[int] = [0] * self._total
        """The distance of each label to its nearest seats, hops."""
        self._carrier: list[Label] = [NO_SEAT] * self._total
        self._labels: dict[Label, list[Label]] = {Label(seat): [] for seat in seats}
        """The labels that each seat carries, in ascending order."""
        self._free: dict[int, list[Label]] = {}
        """Labels that are not a seat, in ascending order, by how many labels their carrier has."""
        if not self._labels:
            self._free[0] = [Label(label) for label in range(self._total)]
            return
        for hops, found in enumerate(nearest_seats(self._cube, self._labels)):
            for label, near in found.items():
                self._nearest[label], self._hops[label] = near, hops
                seat = near[0] if len(near) == 1 else first_ascending(label, near, self._total)
                self._carrier[label] = seat
                self._labels[seat].append(label)
        for seat, labels in self._labels.items():
            labels.sort()
            self._free.setdefault(len(labels), []).extend(label for label in labels if label != seat)
        for free in self._free.values():
            free.sort()

    # ------------------------------------------------------------------ changes

    def add(self, seat: Label) -> dict[Label, Label]:
        """Takes a free label as a seat.

        Returns:
            The labels it carries now, and the seat that carried each of them before, or NO_SEAT.
        """
        if not self._labels:
            self._restart((seat,))
            return dict.fromkeys(self._labels[seat], NO_SEAT)
        moved: dict[Label, Label] = {}
        frontier, hops = {seat}, 0
        while frontier:
            for label in frontier:
                before = self._carrier[label]
                if hops < self._hops[label]:
                    self._nearest[label], self._hops[label] = (seat,), hops
                    moved[label] = before
                else:
                    self._nearest[label] = (*self._nearest[label], seat)
                    if (seat - label) % self._total < (before - label) % self._total:
                        moved[label] = before
            frontier = self._farther(frontier, hops)
            hops += 1
        self._remove_free(seat, self.load(seat))
        self._labels[seat] = []
        self._move(dict.fromkeys(moved, seat))
        return moved

    def _farther(self, labels: set[Label], hops: int) -> set[Label]:
        """The labels beside these that are farther than so many hops from their nearest seats."""
        all_hops = self._hops
        return {near for label in labels for near in neighbours(self._cube, label) if all_hops[near] > hops}

    def remove(self, seat: Label) -> dict[Label, Label]:
        """Gives up a seat.

        Returns:
            The labels it carried, and the seat that carries each of them now, or NO_SEAT.
        """
        if len(self._labels) == 1:
            alone = self._labels[seat]
            self._restart(())
            return dict.fromkeys(alone, NO_SEAT)
        lost: set[Label] = set()
        frontier, hops = {seat}, 0
        while frontier:
            for label in frontier:
                self._nearest[label] = tuple(near for near in self._nearest[label] if near != seat)
                if not self._nearest[label]:
                    lost.add(label)
            frontier = {label for label in self._farther(frontier, hops) if seat in self._nearest[label]}
            hops += 1
        self._find_nearest(lost)
        moved = {label: first_ascending(label, self._nearest[label], self._total) for label in self._labels[seat]}
        self._move(moved)
        del self._labels[seat]
        insort(self._free.setdefault(self.load(seat), []), seat)
        return moved

    def _find_nearest(self, lost: set[Label]) -> None:
        """Finds the nearest seats of labels that have none any more, from the labels around them inwards."""
        around = [
            (1 + min(beyond), label)
            for label in lost
            if (beyond := [self._hops[near] for near in neighbours(self._cube, label) if near not in lost])
        ]
        heapify(around)
        while around:
            hops, label = heappop(around)
            if label not in lost:
                continue
            lost.remove(label)
            beside = neighbours(self._cube, label)
            found = {
                seat: None
                for near in beside
                if near not in lost and self._hops[near] == hops - 1
                for seat in self._nearest[near]
            }
            self._nearest[label], self._hops[label] = tuple(found), hops
            for near in beside:
                if near in lost:
                    heappush(around, (hops + 1, near))

    def _move(self, moved: dict[Label, Label]) -> None:
        """Gives labels to other seats; where that changes a seat's number of labels, its free labels change place."""
        changed = {*moved.values(), *(self._carrier[label] for label in moved)}
        for seat in changed:
            labels = self._labels[seat]
            for label in labels:
                if label not in self._labels:
                    self._remove_free(label, len(labels))
        for label, seat in moved.items():
            before = self._labels[self._carrier[label]]
            del before[bisect_left(before, label)]
            insort(self._labels[seat], label)
            self._carrier[label] = seat
        for seat in changed:
            labels = self._labels[seat]
            for label in labels:
                if label not in self._labels:
                    insort(self._free.setdefault(len(labels), []), label)

    def _remove_free(self, label: Label, load: int) -> None:
        free = self._free[load]
        del free[bisect_left(free, label)]
        if not free:
            del self._free[load]

    # ------------------------------------------------------------------ queries

    def carrier(self, label: Label) -> Label:
        """The seat that carries a label."""
        return self._carrier[label]

    def is_seat(self, label: Label) -> bool:
        """Whether a label is a seat."""
        return label in self._labels

    def labels(self, seat: Label) -> list[Label]:
        """The labels that a seat carries, in ascending order; not to be changed."""
        return self._labels[seat]

    def load(self, label: Label) -> int:
        """How many labels the carrier of a label has."""
        return len(self._labels[self._carrier[label]])

    @property
    def free_count(self) -> int:
        """The number of labels that are not a seat."""
        return self._total - len(self._labels)

    def free(self, index: int) -> Label:
        """A label that is not a seat, by its index in the order of `occupancy.free_labels`."""
        for load in sorted(self._free, reverse=True):
            labels = self._free[load]
            if index < len(labels):
                return labels[index]
            index -= len(labels)
        raise IndexError(index)
