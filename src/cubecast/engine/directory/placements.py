"""Everyone's place in the cube: the labels each host carries, and its neighbours.

A host that comes or goes changes the places near its seat only, so the rest is left as it was.
"""

from collections.abc import Mapping

from cubecast.engine.protocol.records import HostRecord, Neighbour, Placement
from cubecast.overlay.cube import Cube, neighbours
from cubecast.overlay.occupancy import carriers
from cubecast.types import HostId, Label


class Placements:
    """The places of all hosts, kept up with who is there. The directory engine owns one."""

    def __init__(self) -> None:
        """Nobody is there."""
        self._cube: Cube | None = None
        self._epoch = -1
        self._carrier: dict[Label, HostRecord] = {}
        """Who carries a label."""

    def changed(
        self, cube: Cube, epoch: int, version: int, records: Mapping[HostId, HostRecord]
    ) -> dict[HostId, Placement]:
        """The places that may not be what they were at the last call.

        Args:
            version: of the places that come out.
            records: everyone who is there, each with a seat of its own.
        """
        by_seat = {record.seat: record for record in records.values()}
        carrier = {label: by_seat[seat] for label, seat in carriers(cube, by_seat).items()}
        before = self._carrier if (cube, epoch) == (self._cube, self._epoch) else {}
        self._cube, self._epoch, self._carrier = cube, epoch, carrier
        moved = [label for label, record in carrier.items() if before.get(label) is not record]
        touched = {near for label in moved for near in (label, *neighbours(cube, label))}
        hosts = {carrier[label].host for label in touched}
        hosts |= {before[label].host for label in moved if label in before}  # they have lost it
        hidden = {
            host for host, record in records.items() if not record.reachable
        }  # who carries their links may change
        held: dict[HostId, list[Label]] = {host: [] for host in records if host in hosts or host in hidden}
        for label in sorted(carrier):
            labels = held.get(carrier[label].host)
            if labels is not None:
                labels.append(label)
        reachable = [record for record in records.values() if record.reachable]
        anyone = min(reachable, key=lambda record: record.host, default=None)
        return {
            host: Placement(
                version,
                epoch,
                cube.radix,
                cube.dimensions,
                records[host],
                tuple(labels),
                self._neighbours_of(records[host], labels, anyone),
            )
            for host, labels in held.items()
        }

    def _neighbours_of(
        self, record: HostRecord, labels: list[Label], anyone: HostRecord | None
    ) -> tuple[Neighbour, ...]:
        assert self._cube is not None, "the caller placed them"
        carrier = self._carrier
        around = {
            near: Neighbour(near, carrier[near], self._via(record, carrier[near], anyone))
            for label in labels
            for near in neighbours(self._cube, label)
            if carrier[near].host != record.host
        }
        return tuple(around[label] for label in sorted(around))

    def _via(self, a: HostRecord, b: HostRecord, anyone: HostRecord | None) -> HostRecord | None:
        """Who carries what goes between two neighbours that cannot be dialled: the same for both, near them in the cube."""
        if a.reachable or b.reachable:
            return None
        assert self._cube is not None, "the caller placed them"
        beside = {near for each in (a, b) for near in neighbours(self._cube, each.seat)}
        near = [self._carrier[label] for label in beside if self._carrier[label].reachable]
        return min(near, key=lambda record: record.host, default=anyone)
