"""Seats and the shape of the cube: hosts join, refresh, change seats and are removed, the cube grows and shrinks.

Seats are assigned at random, as in the slides ("initially, hosts are assigned random node IDs"), unless a host requests
a label that is free. The shape follows the number of hosts over the M-regions, never below the shape it began with. Each
shape is an epoch, in which every host has a new seat; seats are spare after each change, so that changes are seldom.
"""

from collections.abc import Iterable
from dataclasses import replace
from math import ceil

import numpy as np

from cubecast.engine.directory.config import LeaseConfig, ShapeConfig
from cubecast.engine.directory.cube.leases import Leases
from cubecast.engine.directory.cube.placements import Placements
from cubecast.engine.directory.delay_table import DelayTable
from cubecast.engine.directory.events import DirectoryEffect, HostJoined, PushPlacement, SaveHost, SaveShape
from cubecast.engine.directory.state import DirectoryState, Member
from cubecast.engine.protocol.records import FAN_OUT_MAX, HostRecord, Placement
from cubecast.errors import DirectoryError, UsageError
from cubecast.overlay.cube import Cube, label_count, parse_label
from cubecast.overlay.region import live_region
from cubecast.types import HostId, Label


class Seats:
    """Assigns seats. After a change of members or seats the caller pushes the new placements with `place`."""

    def __init__(
        self,
        state: DirectoryState,
        delay_table: DelayTable,
        rng: np.random.Generator,
        lease: LeaseConfig,
        shape: ShapeConfig,
    ) -> None:
        """Assigns seats of the state's cube.

        Raises:
            UsageError: the shape is too large.
        """
        if label_count(state.cube) > shape.labels_max:
            raise UsageError(
                f"shape {state.cube} has more than {shape.labels_max} labels, the maximum of a live overlay"
            )
        self._state = state
        self._delay_table = delay_table
        self._rng = rng
        self._lease = lease
        self._shape = shape
        self._first_cube = state.cube
        self._too_large_since = np.inf
        """Since when a smaller shape would be enough, s; infinite while none would."""
        self._version = 0
        self._placements = Placements(state.cube)
        self._leases = Leases()
        self._host_of_address: dict[str, HostId] = {}
        """Of the hosts that can be dialled: an address that was only named belongs to nobody."""
        self._joins = 0
        """Number of joins of hosts that were no members."""

    # ------------------------------------------------------------------ members

    def restore(self, cube: Cube, epoch: int, hosts: Iterable[HostRecord], now: float) -> None:
        """Restores the stored shape and hosts; each host gets a fresh lease."""
        self._state.cube, self._state.epoch = cube, epoch
        for stored in hosts:
            record = stored if stored.reachable else self._state.sign(self._state.published(stored))
            self._add(record, stored.address, now)
        self._placements = Placements(cube, epoch, [member.record for member in self._state.members.values()])

    def check_join(self, event: HostJoined) -> None:
        """Checks that a host may join under its name and address.

        Raises:
            DirectoryError: it may not; `str` is the reason for the user.
        """
        if not 0 <= event.fan_out <= FAN_OUT_MAX:
            raise DirectoryError(f"fan-out {event.fan_out} is outside 0..{FAN_OUT_MAX}")
        known = self._state.members.get(event.host)
        if known is not None and known.record.key != event.key:
            raise DirectoryError(
                f"the name {event.host} is taken by another host; choose another with --name, "
                f"or wait {self._lease.lease_s:.0f} s if that host has just died"
            )
        owner = self.host_at(event.address)
        if event.reachable and owner not in (None, event.host):
            raise DirectoryError(f"address {event.address} already belongs to host {owner}; choose another port")

    def host_at(self, address: str) -> HostId | None:
        """The host that can be dialled at an address; None if there is none."""
        return self._host_of_address.get(address)

    def is_full_for(self, host: HostId) -> bool:
        """Whether the cube must grow before a host can join; a member keeps the seat it has."""
        return host not in self._state.members and len(self._state.members) >= label_count(self._state.cube)

    def join(self, event: HostJoined, now: float, *, grown: bool) -> list[DirectoryEffect]:
        """Adds a host, or renews a member's record.

        Args:
            grown: whether the cube has just grown for it; the requested label was one of the shape before.

        Raises:
            DirectoryError: the requested label does not exist or is taken.
        """
        known = self._state.members.get(event.host)
        requested_label = "" if grown else event.requested_label
        seat = self._free_seat(requested_label) if known is None else known.record.seat
        before = HostRecord(HostId(""), "", "", "", seat) if known is None else known.record
        record = self._state.published(
            replace(
                before,
                host=event.host,
                address=event.address,
                fingerprint=event.fingerprint,
                key=event.key,
                fan_out=event.fan_out,
                reachable=event.reachable,
            )
        )
        is_stored = known is not None and known.record == record and known.address == event.address
        if record != before:
            version = max(int(now * 1000), before.version)  # rises across restarts too
            record = self._state.renewed(replace(record, version=version))
        self._add(record, event.address, now)
        self._placements.put(record)
        return [] if is_stored else [self._save(record.host)]

    def _save(self, host: HostId) -> SaveHost:
        member = self._state.members[host]
        return SaveHost(replace(member.record, address=member.address))

    def _add(self, record: HostRecord, address: str, now: float) -> None:
        known = self._state.members.get(record.host)
        if known is None:
            self._joins += 1
        else:
            self._host_of_address.pop(known.record.address, None)
            self._state.forget_subscriptions(record.host)
        if record.reachable:
            self._host_of_address[address] = record.host
        self._state.members[record.host] = Member(record, address, self._joins if known is None else known.number)
        self._leases.renew(record.host, now + self._lease.lease_s)
        self._delay_table.set_reachable(record.host, reachable=record.reachable)

    def remove(self, host: HostId) -> None:
        """Removes a member."""
        self._state.forget_subscriptions(host)
        record = self._state.members.pop(host).record
        self._host_of_address.pop(record.address, None)
        self._leases.end(host)
        self._placements.remove(host)
        self._delay_table.forget(host)

    def set_reachable(self, host: HostId, *, reachable: bool, now: float) -> list[DirectoryEffect]:
        """Records the result of a dial-back; placements change with it.

        An address has one certificate: the host whose certificate was found there last is the one that is there.
        """
        member = self._state.members.get(host)
        if member is None or member.record.reachable == reachable:
            return []
        saved: list[DirectoryEffect] = []
        if reachable:
            former = self.host_at(member.address)
            saved = [] if former is None else [self._set_reachable(former, reachable=False)]
        return [*saved, self._set_reachable(host, reachable=reachable), *self.place(now)]

    def _set_reachable(self, host: HostId, *, reachable: bool) -> SaveHost:
        member = self._state.members[host]
        if reachable:
            self._host_of_address[member.address] = host
        else:
            self._host_of_address.pop(member.address, None)
        record = replace(member.record, address=member.address, reachable=reachable)
        member.record = self._state.renewed(self._state.published(record))
        self._delay_table.set_reachable(host, reachable=reachable)
        self._placements.put(member.record)
        return self._save(host)

    def refresh(self, host: HostId, now: float) -> None:
        """Renews a lease.

        Raises:
            DirectoryError: the host has not joined, or was removed.
        """
        self._state.member(host)
        self._leases.renew(host, now + self._lease.lease_s)

    def suspect(self, host: HostId, by: HostId, now: float) -> None:
        """Shortens the lease of a host that a neighbour reports as silent; other hosts' reports are ignored."""
        if host in self._state.members and any(near.record.host == by for near in self.placement(host).neighbours):
            self._leases.shorten(host, now + self._lease.suspect_lease_s)

    def expired(self, now: float) -> set[HostId]:
        """Hosts whose leases have ended."""
        return self._leases.expired(now)

    def swap(self, a: HostId, b: HostId, now: float) -> list[DirectoryEffect]:
        """Two hosts change seats, in one transaction of the store."""
        first, second = self._state.members[a], self._state.members[b]
        first_seat, second_seat = first.record.seat, second.record.seat
        first.record = self._state.seated(first.record, second_seat)
        second.record = self._state.seated(second.record, first_seat)
        self._placements.swap(first.record, second.record)
        return [self._save(a), self._save(b), *self.place(now)]

    def _free_seat(self, requested_label: str) -> Label:
        """The requested label, or a random free one.

        Raises:
            DirectoryError: the requested label does not exist or is taken.
        """
        if requested_label:
            try:
                label = parse_label(self._state.cube, requested_label)
            except UsageError as error:
                raise DirectoryError(str(error)) from error
            if self._placements.is_seat(label):
                raise DirectoryError(f"label {requested_label} is taken; leave --label out to get a free one")
            return label
        return self._placements.free(int(self._rng.integers(self._placements.free_count)))

    # ------------------------------------------------------------------ the shape

    def grow(self) -> list[DirectoryEffect]:
        """Changes to the shape that is best for one host more, with spare seats if a live overlay may be so large.

        Raises:
            DirectoryError: it would have more labels than a live overlay may have.
        """
        hosts = len(self._state.members) + 1
        cube = self._with_spare_seats(hosts)
        if label_count(cube) > self._shape.labels_max:
            cube = live_region(hosts)
        if label_count(cube) > self._shape.labels_max:
            raise DirectoryError(
                f"the overlay is full: shape {self._state.cube} seats {label_count(self._state.cube)} hosts"
            )
        return self._change_shape(cube)

    def shrink(self, now: float) -> list[DirectoryEffect]:
        """Changes to a smaller shape that has been enough for `shrink_after_s`; without effects otherwise.

        The first shape is enough if it has a seat for each host, another one if it has spare seats too.
        """
        hosts = len(self._state.members)
        cube = self._first_cube if hosts <= label_count(self._first_cube) else self._with_spare_seats(hosts)
        if label_count(cube) >= label_count(self._state.cube):
            self._too_large_since = np.inf
            return []
        self._too_large_since = min(self._too_large_since, now)
        if now - self._too_large_since < self._shape.shrink_after_s:
            return []
        return self._change_shape(cube)

    def _with_spare_seats(self, hosts: int) -> Cube:
        """The shape that is best for some hosts and those that the spare seats are for."""
        return live_region(ceil(hosts * (1 + self._shape.spare_share)))

    def _change_shape(self, cube: Cube) -> list[DirectoryEffect]:
        """Begins an epoch: every host gets a random seat in the new shape."""
        state = self._state
        state.cube, state.epoch, self._too_large_since = cube, state.epoch + 1, np.inf
        seats = self._rng.permutation(label_count(cube))
        effects: list[DirectoryEffect] = [SaveShape(cube, state.epoch)]
        for (host, member), seat in zip(state.members.items(), seats.tolist(), strict=False):
            member.record = self._state.seated(member.record, Label(seat))
            effects.append(self._save(host))
        self._placements = Placements(cube, state.epoch, [member.record for member in state.members.values()])
        return effects

    # ------------------------------------------------------------------ placements

    def place(self, now: float) -> list[DirectoryEffect]:
        """Pushes to the hosts whose placements may have changed."""
        if not self._state.members:
            return []
        self._version = max(self._version + 1, int(now * 1000))  # rises across restarts too
        return list(map(PushPlacement, self._placements.mark_changed(self._version)))

    def placement(self, host: HostId) -> Placement:
        """A member's placement, computed now if it was marked as changed."""
        return self._placements.placement(host)
