"""Placements of all hosts in the cube: the labels each host carries, and its neighbours.

A host that joins or leaves changes only the placements near its seat, so only those are visited. They are marked, and
computed when they are read: one that changes several times before it is read is computed once.
"""

from collections.abc import Iterable
from heapq import heappop, heappush

from cubecast.engine.protocol.records import HostRecord, Neighbour, Placement
from cubecast.overlay.carriers import NO_SEAT, Carriers
from cubecast.overlay.cube import Cube, label_count, neighbours
from cubecast.types import HostId, Label


class Placements:
    """Follows hosts that join, leave and change seats, and computes the placements that are read. `Seats` owns one."""

    def __init__(self, cube: Cube, epoch: int = 0, records: Iterable[HostRecord] = ()) -> None:
        """Begins an epoch; visits every label once.

        Args:
            records: the hosts, each with a seat of its own.
        """
        self._cube, self._epoch = cube, epoch
        self._records = {record.host: record for record in records}
        self._host_at = {record.seat: record.host for record in self._records.values()}
        self._carriers = Carriers(cube, self._host_at)
        self._beside: dict[Label, Neighbour] = {}
        """Each label with its carrier, as the hosts beside it see it: one object for all of them."""
        self._carried_by = [HostId("")] * label_count(cube)
        """The host that carries each label; empty before the first host."""
        self._around: dict[Label, tuple[Label, ...]] = {}
        """The labels beside those of a seat, in ascending order; looked up when a placement is computed first."""
        self._moved: dict[Label, None] = {}
        """Labels whose carrier, or its record, has changed since `mark_changed` was called; a dict, as its order is defined."""
        self._touched: dict[HostId, None] = dict.fromkeys(self._records)
        """Other hosts to be marked: all at first, those that no longer carry such a label, and those that have joined again."""
        self._known: dict[HostId, Placement] = {}
        """The last placement of each host that was computed."""
        self._marked: dict[HostId, int] = {}
        """Hosts whose placement may differ from the last one, with the version that it has if it does."""
        self._hidden = {record.host for record in self._records.values() if not record.reachable}
        self._reachable: list[HostId] = []
        """A heap of hosts; all that can be dialled are in it, and some that have left or are hidden."""
        self._queued: set[HostId] = set()
        """The hosts in `_reachable`."""
        self._fallback: HostRecord | None = None
        """The host that relays between hidden neighbours without a reachable host near them."""
        self._on_fallback: set[HostId] = set()
        """Hosts with such a neighbour."""
        for record in self._records.values():
            self._queue(record)
            self._mark(self._carriers.labels(record.seat), record)
        self._moved.clear()  # all hosts are touched

    # ------------------------------------------------------------------ changes

    def put(self, record: HostRecord) -> None:
        """Adds a host on a free label, or renews the record of one that keeps its seat."""
        self._touched[record.host] = None
        if self._records.get(record.host) == record:
            return
        if not self._carriers.is_seat(record.seat):
            for before in set(self._carriers.add(record.seat).values()) - {NO_SEAT}:
                self._touched[self._host_at[before]] = None
                self._around.pop(before, None)
        self._store(record)

    def swap(self, first: HostRecord, second: HostRecord) -> None:
        """Two hosts have changed seats; the records are their new ones."""
        self._store(first)
        self._store(second)

    def remove(self, host: HostId) -> None:
        """Removes a host."""
        record = self._records.pop(host)
        self._hidden.discard(host)
        self._touched.pop(host, None)
        self._known.pop(host, None)
        self._marked.pop(host, None)
        self._on_fallback.discard(host)
        del self._host_at[record.seat]
        self._around.pop(record.seat, None)
        for label, seat in self._carriers.remove(record.seat).items():
            if seat == NO_SEAT:
                self._beside.pop(label, None)
                self._moved.pop(label, None)
            else:
                self._around.pop(seat, None)
                self._mark((label,), self._records[self._host_at[seat]])

    def _store(self, record: HostRecord) -> None:
        self._records[record.host] = record
        self._host_at[record.seat] = record.host
        (self._hidden.discard if record.reachable else self._hidden.add)(record.host)
        self._queue(record)
        self._mark(self._carriers.labels(record.seat), record)

    def _mark(self, labels: Iterable[Label], record: HostRecord) -> None:
        for label in labels:
            self._beside[label] = Neighbour(label, record)
            self._carried_by[label] = record.host
            self._moved[label] = None

    def _queue(self, record: HostRecord) -> None:
        if record.reachable and record.host not in self._queued:
            self._queued.add(record.host)
            heappush(self._reachable, record.host)

    # ------------------------------------------------------------------ free labels

    @property
    def free_count(self) -> int:
        """The number of labels that are not a seat."""
        return self._carriers.free_count

    def free(self, index: int) -> Label:
        """A free label by its index, as in `Carriers`."""
        return self._carriers.free(index)

    def is_seat(self, label: Label) -> bool:
        """Whether a label is a host's seat."""
        return self._carriers.is_seat(label)

    # ------------------------------------------------------------------ placements

    def mark_changed(self, version: int) -> list[HostId]:
        """Marks the hosts whose placements may have changed since the last call.

        Args:
            version: of those that have; above that of the last call.

        Returns:
            These hosts, each once, in an order that depends on the changes alone.
        """
        hosts, carrier = self._touched, self._carried_by.__getitem__
        for label in self._moved:
            hosts[carrier(label)] = None
            hosts |= dict.fromkeys(map(carrier, neighbours(self._cube, label)))
        if self._hidden:
            hosts |= dict.fromkeys(sorted(self._with_other_relays()))
        self._moved, self._touched = {}, {}
        self._marked |= dict.fromkeys(hosts, version)
        return list(hosts)

    def placement(self, host: HostId) -> Placement:
        """A host's placement as of the last `mark_changed`; the same as before, version included, if nothing in it changed."""
        version, known = self._marked.pop(host, None), self._known.get(host)
        if version is not None:
            found = self._computed(host, version)
            if known is None or not known.says_the_same(found):
                self._known[host] = found
        return self._known[host]

    def _computed(self, host: HostId, version: int) -> Placement:
        record = self._records[host]
        labels = tuple(self._carriers.labels(record.seat))
        return Placement(
            version,
            self._epoch,
            self._cube.radix,
            self._cube.dimensions,
            record,
            labels,
            self._neighbours_of(record, labels),
        )

    def _neighbours_of(self, record: HostRecord, labels: tuple[Label, ...]) -> tuple[Neighbour, ...]:
        around = self._around.get(record.seat)
        if around is None:
            found = {near for label in labels for near in neighbours(self._cube, label)}
            around = self._around[record.seat] = tuple(sorted(found.difference(labels)))
        beside = tuple(map(self._beside.__getitem__, around))
        self._on_fallback.discard(record.host)
        if record.reachable:
            return beside
        return tuple(
            near if near.record.reachable else Neighbour(near.label, near.record, self._via(record, near.record))
            for near in beside
        )

    def _via(self, a: HostRecord, b: HostRecord) -> HostRecord | None:
        """The host that relays between two hidden neighbours: the same for both, and near them in the cube if possible."""
        beside = {near for each in (a, b) for near in neighbours(self._cube, each.seat)}
        near = [record for label in beside if (record := self._beside[label].record).reachable]
        if near:
            return min(near, key=lambda record: record.host)
        self._on_fallback.add(a.host)
        return self._fallback

    def _with_other_relays(self) -> set[HostId]:
        """Hidden hosts for which another host may carry the messages to a hidden neighbour now."""
        near_seats = {
            host
            for label in self._moved
            for near in neighbours(self._cube, label)
            if (host := self._host_at.get(near)) in self._hidden and host is not None
        }
        found = set(near_seats)
        for host in near_seats:
            for label in self._carriers.labels(self._records[host].seat):
                found.update(self._beside[near].record.host for near in neighbours(self._cube, label))
        found &= self._hidden
        fallback = self._first_reachable()
        if fallback is not self._fallback:
            self._fallback = fallback
            found |= self._on_fallback
        return found

    def _first_reachable(self) -> HostRecord | None:
        """The host with the lowest name of those that can be dialled."""
        while self._reachable:
            record = self._records.get(self._reachable[0])
            if record is not None and record.reachable:
                return record
            self._queued.discard(heappop(self._reachable))
        return None
