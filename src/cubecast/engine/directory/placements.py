"""Placements of all hosts in the cube: the labels each host carries, and its neighbours.

A host that joins or leaves changes only the placements near its seat, so only those are computed anew.
"""

from collections.abc import Mapping

from cubecast.engine.protocol.records import HostRecord, Neighbour, Placement
from cubecast.overlay.cube import Cube, neighbours
from cubecast.overlay.occupancy import carriers
from cubecast.types import HostId, Label


class Placements:
    """Computes which placements change as hosts join, leave and change seats. `Seats` owns one."""

    def __init__(self) -> None:
        """Starts without hosts."""
        self._cube: Cube | None = None
        self._epoch = -1
        self._carrier: dict[Label, HostRecord] = {}
        """The host that carries each label."""

    def changed(
        self, cube: Cube, epoch: int, version: int, records: Mapping[HostId, HostRecord]
    ) -> dict[HostId, Placement]:
        """The placements that may differ from those of the last call.

        Args:
            version: of the returned placements.
            records: all hosts, each with a seat of its own.
        """
        by_seat = {record.seat: record for record in records.values()}
        carrier = {label: by_seat[seat] for label, seat in carriers(cube, by_seat).items()}
        before = self._carrier if (cube, epoch) == (self._cube, self._epoch) else {}
        self._cube, self._epoch, self._carrier = cube, epoch, carrier
        moved = [label for label, record in carrier.items() if before.get(label) is not record]
        touched = {near for label in moved for near in (label, *neighbours(cube, label))}
        hosts = {carrier[label].host for label in touched}
        hosts |= {before[label].host for label in moved if label in before}  # they no longer carry it
        # Which host carries the messages between two hidden neighbours may change with any host.
        hidden = {host for host, record in records.items() if not record.reachable}
        labels_of: dict[HostId, list[Label]] = {host: [] for host in records if host in hosts or host in hidden}
        for label in sorted(carrier):
            labels = labels_of.get(carrier[label].host)
            if labels is not None:
                labels.append(label)
        reachable = [record for record in records.values() if record.reachable]
        fallback = min(reachable, key=lambda record: record.host, default=None)
        return {
            host: Placement(
                version,
                epoch,
                cube.radix,
                cube.dimensions,
                records[host],
                tuple(labels),
                self._neighbours_of(records[host], labels, fallback),
            )
            for host, labels in labels_of.items()
        }

    def _neighbours_of(
        self, record: HostRecord, labels: list[Label], fallback: HostRecord | None
    ) -> tuple[Neighbour, ...]:
        assert self._cube is not None, "`changed` sets it"
        carrier = self._carrier
        around = {
            near: Neighbour(near, carrier[near], self._via(record, carrier[near], fallback))
            for label in labels
            for near in neighbours(self._cube, label)
            if carrier[near].host != record.host
        }
        return tuple(around[label] for label in sorted(around))

    def _via(self, a: HostRecord, b: HostRecord, fallback: HostRecord | None) -> HostRecord | None:
        """The host that relays between two hidden neighbours: the same for both, and near them in the cube if possible."""
        if a.reachable or b.reachable:
            return None
        assert self._cube is not None, "`changed` sets it"
        beside = {near for each in (a, b) for near in neighbours(self._cube, each.seat)}
        near = [self._carrier[label] for label in beside if self._carrier[label].reachable]
        return min(near, key=lambda record: record.host, default=fallback)
