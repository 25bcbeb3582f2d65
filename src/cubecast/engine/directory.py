"""DirectoryEngine: who is in the cube, and which channels exist. The super-node performs its effects.

Seats are handed out at random, as in the slides ("initially, hosts are assigned random node IDs"), unless a host asks
for one that is free. A host that does not refresh its lease is removed; its labels go to the hosts next to it, and
whoever's neighbourhood changed is pushed a new placement.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from cubecast.engine.records import (
    FAN_OUT_MAX,
    ChannelRecord,
    HostRecord,
    Neighbour,
    Placement,
    SubscriptionRecord,
)
from cubecast.errors import DirectoryError, UsageError
from cubecast.overlay.cube import Cube, label_count, neighbours, parse_label
from cubecast.overlay.occupancy import carriers, free_labels
from cubecast.types import ChannelName, HostId, Label

LEASE_S = 6.0
SUSPECT_LEASE_S = 3.5
"""A suspected host that does not refresh within this is removed."""
LABELS_LIVE_MAX = 1 << 17
CHANNELS_PER_HOST_MAX = 256
SUBSCRIPTIONS_PER_HOST_MAX = 1024


@dataclass(frozen=True, slots=True)
class HostJoined:
    """A host asks for a place. `seat` is the label it wishes for, spelled in digits; empty takes a random one."""

    host: HostId
    address: str
    fingerprint: str
    key: str
    fan_out: int
    seat: str = ""


@dataclass(frozen=True, slots=True)
class HostRefreshed:
    """A host is alive."""

    host: HostId


@dataclass(frozen=True, slots=True)
class HostLeft:
    """A host leaves."""

    host: HostId


@dataclass(frozen=True, slots=True)
class HostSuspected:
    """A neighbour says that a host is silent."""

    host: HostId
    by: HostId


@dataclass(frozen=True, slots=True)
class ChannelAnnounced:
    """A host publishes a channel."""

    host: HostId
    channel: ChannelName


@dataclass(frozen=True, slots=True)
class ChannelWithdrawn:
    """A host no longer publishes a channel."""

    host: HostId
    channel: ChannelName


@dataclass(frozen=True, slots=True)
class SubscriptionReported:
    """A host reports a line of its ledger."""

    record: SubscriptionRecord


@dataclass(frozen=True, slots=True)
class LeaseTick:
    """Time to look for expired leases."""


DirectoryEvent: TypeAlias = (
    HostJoined
    | HostRefreshed
    | HostLeft
    | HostSuspected
    | ChannelAnnounced
    | ChannelWithdrawn
    | SubscriptionReported
    | LeaseTick
)


@dataclass(frozen=True, slots=True)
class SaveHost:
    """Make a host's record last."""

    record: HostRecord


@dataclass(frozen=True, slots=True)
class DeleteHost:
    """Forget a host."""

    host: HostId


@dataclass(frozen=True, slots=True)
class SaveChannel:
    """Make a channel last."""

    record: ChannelRecord


@dataclass(frozen=True, slots=True)
class DeleteChannel:
    """Forget a channel."""

    channel: ChannelName


@dataclass(frozen=True, slots=True)
class Push:
    """Tell a host its new place."""

    host: HostId
    placement: Placement


DirectoryEffect: TypeAlias = SaveHost | DeleteHost | SaveChannel | DeleteChannel | Push


@dataclass(slots=True)
class Member:
    """A host and what it last told us."""

    record: HostRecord
    lease_until: float
    placement: Placement | None = None
    subscriptions: dict[ChannelName, SubscriptionRecord] = field(default_factory=dict)


class DirectoryEngine:
    """The super-node's brain. Pure: the same events at the same times give the same effects."""

    def __init__(self, cube: Cube, rng: np.random.Generator) -> None:
        if label_count(cube) > LABELS_LIVE_MAX:
            raise UsageError(f"shape {cube} has more than {LABELS_LIVE_MAX} labels; a live overlay takes no larger one")
        self.cube = cube
        self._rng = rng
        self._version = 0
        self.epoch = 0
        self.members: dict[HostId, Member] = {}
        self.channels: dict[ChannelName, ChannelRecord] = {}

    def restore(self, hosts: Iterable[HostRecord], channels: Iterable[ChannelRecord], now: float) -> None:
        """Takes over what was stored; every host gets a fresh lease to report back in."""
        for record in hosts:
            self.members[record.host] = Member(record, now + LEASE_S)
        self.channels = {record.channel: record for record in channels if record.publisher in self.members}
        self._place(now)

    def handle(self, event: DirectoryEvent, now: float) -> list[DirectoryEffect]:
        """Takes one event in and says what to do.

        Args:
            now: the super-node's clock, s since the Unix epoch.

        Raises:
            DirectoryError: the request is refused; `str` is the reason for the user.
        """
        match event:
            case HostJoined():
                return self._join(event, now)
            case HostRefreshed(host):
                self._member(host).lease_until = now + LEASE_S
                return []
            case HostLeft(host):
                return self._remove({host} & self.members.keys(), now)
            case HostSuspected(host, by):
                if host in self.members and self._are_neighbours(host, by):
                    member = self.members[host]
                    member.lease_until = min(member.lease_until, now + SUSPECT_LEASE_S)
                return []
            case ChannelAnnounced(host, channel):
                return self._announce(host, channel)
            case ChannelWithdrawn(host, channel):
                if channel in self.channels and self.channels[channel].publisher == host:
                    del self.channels[channel]
                    return [DeleteChannel(channel)]
                return []
            case SubscriptionReported(record):
                member = self._member(record.subscriber)
                if len(member.subscriptions) < SUBSCRIPTIONS_PER_HOST_MAX or record.channel in member.subscriptions:
                    member.subscriptions[record.channel] = record
                return []
            case LeaseTick():
                return self._remove({h for h, m in self.members.items() if m.lease_until < now}, now)

    def placement(self, host: HostId) -> Placement:
        """Where a host stands.

        Raises:
            DirectoryError: the host has not joined, or was removed.
        """
        placement = self._member(host).placement
        if placement is None:
            raise DirectoryError(f"host {host} has no place yet; join again")
        return placement

    def subscriptions(self) -> list[SubscriptionRecord]:
        """The ledger: every subscription reported by hosts that are here."""
        return [record for member in self.members.values() for record in member.subscriptions.values()]

    def channels_of(self, host: HostId) -> tuple[ChannelName, ...]:
        """What a host publishes."""
        return tuple(c for c, r in self.channels.items() if r.publisher == host)

    def _are_neighbours(self, host: HostId, by: HostId) -> bool:
        placement = self.members[host].placement
        return placement is not None and any(n.record.host == by for n in placement.neighbours)

    def _member(self, host: HostId) -> Member:
        if host not in self.members:
            raise DirectoryError(f"host {host} has not joined, or was silent too long; join again")
        return self.members[host]

    def _join(self, event: HostJoined, now: float) -> list[DirectoryEffect]:
        if not 0 <= event.fan_out <= FAN_OUT_MAX:
            raise DirectoryError(f"fan-out {event.fan_out} is outside 0..{FAN_OUT_MAX}")
        known = self.members.get(event.host)
        if known is not None and known.record.key != event.key:
            raise DirectoryError(
                f"the name {event.host} is taken by a host at {known.record.address}; choose another with --name, "
                f"or wait {LEASE_S:.0f} s if that host has just died"
            )
        for member in self.members.values():
            if member.record.address == event.address and member.record.host != event.host:
                raise DirectoryError(
                    f"address {event.address} already belongs to host {member.record.host}; choose another port"
                )
        wish = "" if known is not None else event.seat
        seat = known.record.seat if known is not None else self._seat(wish)
        record = HostRecord(event.host, event.address, event.fingerprint, event.key, seat, event.fan_out)
        self.members[event.host] = Member(record, now + LEASE_S)
        return [SaveHost(record), *self._place(now)]

    def _seat(self, wish: str) -> Label:
        seats = {member.record.seat for member in self.members.values()}
        if len(seats) >= label_count(self.cube):
            raise DirectoryError(
                f"the overlay is full: shape {self.cube} seats {label_count(self.cube)} hosts; "
                f"start the super-node with a larger --expect or --shape"
            )
        if wish:
            try:
                label = parse_label(self.cube, wish)
            except UsageError as error:
                raise DirectoryError(str(error)) from error
            if label in seats:
                raise DirectoryError(f"label {wish} is taken; leave --label out to get a free one")
            return label
        free = free_labels(self.cube, seats)
        return free[int(self._rng.integers(len(free)))]

    def _announce(self, host: HostId, channel: ChannelName) -> list[DirectoryEffect]:
        member = self._member(host)
        known = self.channels.get(channel)
        if known is not None and known.publisher != host:
            raise DirectoryError(
                f"channel {channel!r} is already published by host {known.publisher}; choose another "
                f"name, or wait {LEASE_S:.0f} s if that host has just died"
            )
        if len(self.channels_of(host)) >= CHANNELS_PER_HOST_MAX:
            raise DirectoryError(f"host {host} already publishes {CHANNELS_PER_HOST_MAX} channels")
        record = ChannelRecord(channel, host, member.record.seat, self.epoch)
        self.channels[channel] = record
        return [SaveChannel(record)]

    def _remove(self, gone: set[HostId], now: float) -> list[DirectoryEffect]:
        if not gone:
            return []
        for host in gone:
            del self.members[host]
        ended = [c for c, r in self.channels.items() if r.publisher in gone]
        for channel in ended:
            del self.channels[channel]
        return [*map(DeleteHost, sorted(gone)), *map(DeleteChannel, ended), *self._place(now)]

    def _place(self, now: float) -> list[DirectoryEffect]:
        """Works everyone's place out anew, and pushes those that changed."""
        if not self.members:
            return []
        self._version = max(self._version + 1, int(now * 1000))  # rises across restarts too
        by_seat = {member.record.seat: member.record for member in self.members.values()}
        carrier = {label: by_seat[seat] for label, seat in carriers(self.cube, by_seat).items()}
        held: dict[HostId, list[Label]] = {host: [] for host in self.members}
        for label in sorted(carrier):
            held[carrier[label].host].append(label)
        pushes: list[DirectoryEffect] = []
        for host, labels in held.items():
            member = self.members[host]
            around = {
                near: Neighbour(near, carrier[near])
                for label in labels
                for near in neighbours(self.cube, label)
                if carrier[near].host != host
            }
            beside = tuple(around[label] for label in sorted(around))
            placement = Placement(
                self._version,
                self.epoch,
                self.cube.radix,
                self.cube.dimensions,
                member.record.seat,
                tuple(labels),
                beside,
            )
            before = member.placement
            if before is None or replace(before, version=self._version) != placement:
                member.placement = placement
                pushes.append(Push(host, placement))
        return pushes
