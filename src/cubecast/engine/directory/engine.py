"""DirectoryEngine: who is in the cube, and which channels exist. The super-node performs its effects.

Seats are handed out at random, as in the slides ("initially, hosts are assigned random node IDs"), unless a host asks
for one that is free. A host that does not refresh its lease is removed; its labels go to the hosts next to it, and
whoever's neighbourhood changed is pushed a new placement.

The shape follows the number of hosts from one M-region to the next, never below the shape it began with: when the cube
is full it grows at once, when a smaller one has been enough for a while it shrinks. Each shape is an epoch, in which
everyone has a seat of its own; streams run between hosts, not labels, so they go on.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from cubecast.engine.directory.delay_table import UNREACHED_MS, DelayTable
from cubecast.engine.directory.events import (
    Advise,
    Answer,
    AskProbes,
    Assign,
    ChannelAnnounced,
    ChannelMissed,
    ChannelWithdrawn,
    DeleteChannel,
    DeleteHost,
    DirectoryEffect,
    DirectoryEvent,
    HostJoined,
    HostLeft,
    HostRefreshed,
    HostSuspected,
    HostTested,
    JobsReported,
    JobUnwanted,
    JobWanted,
    LeaseTick,
    LinksReported,
    PushPlacement,
    RelocationWanted,
    SaveChannel,
    SaveHost,
    SaveShape,
    SubscriptionReported,
)
from cubecast.engine.directory.jobs import JOB_LEASE_S, JobTable, PlacementInputs
from cubecast.engine.directory.placements import Placements
from cubecast.engine.directory.planner import Planner, TreeMember
from cubecast.engine.directory.relocation import DEPTH_DEFAULT, Form, Relocation, Seated
from cubecast.engine.protocol.job_records import Job
from cubecast.engine.protocol.records import (
    FAN_OUT_MAX,
    Advice,
    ChannelRecord,
    HostRecord,
    Placement,
    SubscriptionRecord,
    Tree,
    Verdict,
)
from cubecast.errors import DirectoryError, UsageError
from cubecast.overlay.cube import Cube, label_count, parse_label
from cubecast.overlay.occupancy import free_labels
from cubecast.overlay.region import live_region
from cubecast.overlay.trees.join import join_candidates
from cubecast.types import ChannelName, HostId, Label

LEASE_S = 6.0
SUSPECT_LEASE_S = 3.5
"""A suspected host that does not refresh within this is removed."""
LABELS_LIVE_MAX = 1 << 17
SHRINK_S = 10.0
"""A smaller shape must have been enough for so long."""
CHANNELS_PER_HOST_MAX = 256
SUBSCRIPTIONS_PER_HOST_MAX = 1024
LINKS_PER_HOST_MAX = 256
PROPOSALS = 8
RELOCATE_S = 30.0
"""A subscriber whose stream comes too late is looked at for a better seat this often."""


@dataclass(slots=True)
class Member:
    """A host and what it last told us."""

    record: HostRecord
    lease_until: float
    placement: Placement | None = None
    subscriptions: dict[ChannelName, SubscriptionRecord] = field(default_factory=dict)
    slots: int = 0
    """Extensions it is willing to run for others."""


class DirectoryEngine:
    """The super-node's brain. Pure: the same events at the same times give the same effects."""

    def __init__(
        self,
        cube: Cube,
        rng: np.random.Generator,
        relocation: Form = Form.BREADTH_FIRST,
        relocation_depth: int = DEPTH_DEFAULT,
    ) -> None:
        """A directory that nobody has joined yet.

        Args:
            relocation: whom a subscriber whose bound is not kept may change seats with.
            relocation_depth: hops around the publisher.

        Raises:
            UsageError: the shape is too large.
        """
        if label_count(cube) > LABELS_LIVE_MAX:
            raise UsageError(f"shape {cube} has more than {LABELS_LIVE_MAX} labels; a live overlay takes no larger one")
        self.cube = cube
        self._first_cube = cube
        self._roomy_since = np.inf
        self._rng = rng
        self._version = 0
        self._placements = Placements()
        self.epoch = 0
        self._delay_table = DelayTable()
        self._planner = Planner(self._delay_table, rng)
        self._relocation = Relocation(self._delay_table, relocation, relocation_depth)
        self.jobs = JobTable(self._delay_table)
        self._relocated: dict[HostId, float] = {}
        """When a host was moved, or looked at for that, last."""
        self.members: dict[HostId, Member] = {}
        self.channels: dict[ChannelName, ChannelRecord] = {}

    def restore(
        self, shape: tuple[Cube, int], hosts: Iterable[HostRecord], channels: Iterable[ChannelRecord], now: float
    ) -> None:
        """Takes over what was stored; every host gets a fresh lease to report back in.

        Args:
            shape: the shape when it was stored, and its epoch.
        """
        self.cube, self.epoch = shape
        for record in hosts:
            self.members[record.host] = Member(record, now + LEASE_S)
            self._show(record.host, reachable=record.reachable)
        self.channels = {record.channel: record for record in channels if record.publisher in self.members}
        if self.members:
            self.jobs.settle(now + JOB_LEASE_S)
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
            case HostTested(host, reachable):
                return self._tested(host, reachable=reachable, now=now)
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
            case ChannelAnnounced(host, channel, tree):
                return self._announce(host, channel, tree)
            case ChannelWithdrawn(host, channel):
                if channel in self.channels and self.channels[channel].publisher == host:
                    del self.channels[channel]
                    self._planner.forget(channel)
                    return [DeleteChannel(channel)]
                return []
            case SubscriptionReported(record):
                member = self._member(record.subscriber)
                if len(member.subscriptions) < SUBSCRIPTIONS_PER_HOST_MAX or record.channel in member.subscriptions:
                    member.subscriptions[record.channel] = record
                return []
            case RelocationWanted(host, channel, bound_ms):
                return self._relocate(host, channel, bound_ms, now)
            case LinksReported(host, links_ms):
                known = {
                    other: ms for other, ms in links_ms.items() if other in self.members and 0 <= ms < UNREACHED_MS
                }
                self._delay_table.report(host, dict(list(known.items())[:LINKS_PER_HOST_MAX]), now)
                return []
            case JobWanted(job, at, module):
                self.jobs.want(job, at, module=module, now=now)
                return self._assign(now)
            case JobUnwanted(channel, owner):
                self.jobs.end(channel, owner)
                return self._assign(now)
            case JobsReported(host, slots, reports):
                self._member(host).slots = slots
                self.jobs.report(host, reports, now)
                return self._assign(now)
            case ChannelMissed(host, channel):
                self.jobs.note_missed(host, channel, now)
                return []
            case LeaseTick():
                gone = {h for h, m in self.members.items() if m.lease_until < now}
                effects = [*self._remove(gone, now), *self._shrink(now), *self._assign(now)]
                return [*effects, *self._relocate_violated(now), *self._improve_trees(now)]

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

    def proposals(self, host: HostId, channel: ChannelName) -> tuple[HostRecord, ...]:
        """Hosts that may be the best parents for a newcomer to a channel, the most promising first."""
        record = self.channels.get(channel)
        if record is None or record.tree is not Tree.HYBRID:
            return ()
        group = self._group(record)
        hosts = [each for each in group if each != host and each not in self._delay_table.hidden]
        late_ms = np.array([self._late_ms(each, channel) for each in hosts])
        open_hosts = np.array([group[each].spare > 0 for each in hosts], bool)
        positions = self._delay_table.positions([*hosts, host])
        best = join_candidates(
            np.append(late_ms, np.inf), np.append(open_hosts, False), positions, len(hosts), PROPOSALS
        )
        return tuple(self.members[hosts[int(index)]].record for index in best)

    def _late_ms(self, host: HostId, channel: ChannelName) -> float:
        line = self.members[host].subscriptions.get(channel)
        return 0.0 if line is None or line.promised_ms is None else line.promised_ms

    def _group(self, record: ChannelRecord) -> dict[HostId, TreeMember]:
        """The publisher and the subscribers of a channel, with what a plan needs to know."""
        lines = {
            host: line
            for host, member in self.members.items()
            for line in [member.subscriptions.get(record.channel)]
            if line is not None and line.state == "receiving" and host != record.publisher
        }
        copies = self._copies()
        here = Counter(line.path[-2] for line in lines.values() if len(line.path) > 1)
        bounds = {record.publisher: np.inf} | {host: line.bound_ms for host, line in lines.items()}
        group = {}
        for host, bound_ms in bounds.items():
            fan_out = self.members[host].record.fan_out
            parent = lines[host].path[-2] if host in lines and len(lines[host].path) > 1 else None
            slots = max(0, fan_out - copies[host] + here[host])
            late_ms = self._late_ms(host, record.channel)
            group[host] = TreeMember(parent, bound_ms, slots, max(0, fan_out - copies[host]), late_ms)
        return group

    def _copies(self) -> Counter[HostId]:
        """Copies each host sends, as far as subscribers tell."""
        return Counter(
            line.path[-2]
            for member in self.members.values()
            for line in member.subscriptions.values()
            if line.state == "receiving" and len(line.path) > 1
        )

    def _assign(self, now: float) -> list[DirectoryEffect]:
        """Gives jobs to hosts, and tells those whose jobs changed."""
        for job in self.jobs.waiting(now):
            self.jobs.place(job, self._placement_inputs(job, now), now)
        return [Assign(host, self.jobs.of(host)) for host in sorted(self.jobs.take_changed(now) & self.members.keys())]

    def _placement_inputs(self, job: Job, now: float) -> PlacementInputs:
        copies, source, made = self._copies(), self.channels.get(job.source), self.channels.get(job.channel)
        late_ms: dict[HostId, float] = {}
        if source is not None:
            late_ms = {host: member.late_ms for host, member in self._group(source).items()}
        consumers = {host: np.inf for host in self.jobs.missing(job.channel, now) if host in self.members}
        if made is not None:
            consumers |= {h: member.bound_ms for h, member in self._group(made).items() if h != made.publisher}
        return PlacementInputs(
            {host: member.slots for host, member in self.members.items()},
            {host: max(0, member.record.fan_out - copies[host]) for host, member in self.members.items()},
            late_ms,
            consumers,
        )

    def _improve_trees(self, now: float) -> list[DirectoryEffect]:
        """Advice for hosts whose parents could be better, and questions about delays nobody knows."""
        effects: list[DirectoryEffect] = []
        for channel, record in self.channels.items():
            if record.tree is not Tree.HYBRID:
                continue
            for host, parent in self._planner.advise(channel, self._group(record), now).items():
                effects.append(Advise(host, Advice(channel, self.members[parent].record)))
                if parent in self._delay_table.hidden:  # nobody can dial it: it dials
                    effects.append(AskProbes(parent, (self.members[host].record,)))
        for host, others in self._delay_table.probes(now, self.members).items():
            effects.append(AskProbes(host, tuple(self.members[other].record for other in others)))
        return effects

    def _relocate(self, host: HostId, channel: ChannelName, bound_ms: float, now: float) -> list[DirectoryEffect]:
        """Two hosts change seats at once, or nothing changes."""
        record, member = self.channels.get(channel), self._member(host)
        if record is None or record.tree is Tree.HYBRID:
            return [Answer(Verdict.STAYS)]
        seated = [
            Seated(line.subscriber, self.channels[line.channel].publisher, line.bound_ms, _kept(line))
            for line in self.subscriptions()
            if line.state == "receiving" and line.channel in self.channels
            and self.channels[line.channel].tree is not Tree.HYBRID
        ]  # fmt: skip
        seats = {each: m.record.seat for each, m in self.members.items()}
        fixed = {each.publisher for each in self.channels.values()}
        note_missed = Seated(host, record.publisher, bound_ms, kept=False)
        partner = self._relocation.partner(self.cube, seats, fixed, note_missed, seated)
        if isinstance(partner, Verdict):
            return [Answer(partner)]
        other = self.members[partner]
        member.record, other.record = (
            replace(member.record, seat=other.record.seat), replace(other.record, seat=member.record.seat),
        )  # fmt: skip
        self._relocated[host] = self._relocated[partner] = now
        saved = [SaveHost(member.record), SaveHost(other.record)]
        return [*saved, *self._place(now), Answer(Verdict.MOVED)]

    def _relocate_violated(self, now: float) -> list[DirectoryEffect]:
        """One subscriber a time whose bound was kept once and is not any more."""
        for line in self.subscriptions():
            record = self.channels.get(line.channel)
            if record is None or record.tree is Tree.HYBRID or line.state != "receiving" or _kept(line):
                continue
            if now - self._relocated.get(line.subscriber, -np.inf) >= RELOCATE_S:
                self._relocated[line.subscriber] = now
                return self._relocate(line.subscriber, line.channel, line.bound_ms, now)
        return []

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
        grown = self._grow() if known is None and len(self.members) >= label_count(self.cube) else []
        note_missed = "" if known is not None or grown else event.seat  # a wish was for the shape before
        seat = known.record.seat if known is not None else self._seat(note_missed)
        record = HostRecord(
            event.host, event.address, event.fingerprint, event.key, seat, event.fan_out, event.reachable
        )
        self._show(event.host, reachable=event.reachable)
        self.members[event.host] = Member(record, now + LEASE_S)
        return [*grown, SaveHost(record), *self._place(now)]

    def _tested(self, host: HostId, *, reachable: bool, now: float) -> list[DirectoryEffect]:
        member = self.members.get(host)
        if member is None or member.record.reachable == reachable:
            return []
        member.record = replace(member.record, reachable=reachable)
        self._show(host, reachable=reachable)
        return [SaveHost(member.record), *self._place(now)]

    def _show(self, host: HostId, *, reachable: bool) -> None:
        (self._delay_table.hidden.discard if reachable else self._delay_table.hidden.add)(host)

    def _grow(self) -> list[DirectoryEffect]:
        """The cube is full: the next shape that is best for one host more.

        Raises:
            DirectoryError: a live overlay takes no larger one.
        """
        cube = live_region(len(self.members) + 1)
        if label_count(cube) > LABELS_LIVE_MAX:
            raise DirectoryError(f"the overlay is full: shape {self.cube} seats {label_count(self.cube)} hosts")
        return self._reshape(cube)

    def _shrink(self, now: float) -> list[DirectoryEffect]:
        """A smaller shape, when it has been enough for SHRINK_S."""
        cube = live_region(max(1, len(self.members)))
        if label_count(cube) < label_count(self._first_cube):
            cube = self._first_cube
        if cube == self.cube or label_count(cube) >= label_count(self.cube):
            self._roomy_since = np.inf
            return []
        self._roomy_since = min(self._roomy_since, now)
        if now - self._roomy_since < SHRINK_S:
            return []
        return [*self._reshape(cube), *self._place(now)]

    def _reshape(self, cube: Cube) -> list[DirectoryEffect]:
        """A new epoch: everyone gets a random seat in the new shape; whoever calls places them."""
        self.cube, self.epoch, self._roomy_since = cube, self.epoch + 1, np.inf
        seats = self._rng.permutation(label_count(cube))
        effects: list[DirectoryEffect] = [SaveShape(cube, self.epoch)]
        for member, seat in zip(self.members.values(), seats.tolist(), strict=False):
            member.record = replace(member.record, seat=Label(seat))
            effects.append(SaveHost(member.record))
        for channel, record in list(self.channels.items()):
            seat = self.members[record.publisher].record.seat
            self.channels[channel] = replace(record, seat=seat, epoch=self.epoch)
            effects.append(SaveChannel(self.channels[channel]))
        return effects

    def _seat(self, note_missed: str) -> Label:
        seats = {member.record.seat for member in self.members.values()}
        if note_missed:
            try:
                label = parse_label(self.cube, note_missed)
            except UsageError as error:
                raise DirectoryError(str(error)) from error
            if label in seats:
                raise DirectoryError(f"label {note_missed} is taken; leave --label out to get a free one")
            return label
        free = free_labels(self.cube, seats)
        return free[int(self._rng.integers(len(free)))]

    def _announce(self, host: HostId, channel: ChannelName, tree: Tree) -> list[DirectoryEffect]:
        member = self._member(host)
        known = self.channels.get(channel)
        if known is not None and known.publisher != host:
            raise DirectoryError(
                f"channel {channel!r} is already published by host {known.publisher}; choose another "
                f"name, or wait {LEASE_S:.0f} s if that host has just died"
            )
        if len(self.channels_of(host)) >= CHANNELS_PER_HOST_MAX:
            raise DirectoryError(f"host {host} already publishes {CHANNELS_PER_HOST_MAX} channels")
        record = ChannelRecord(channel, host, member.record.seat, self.epoch, tree)
        self.channels[channel] = record
        return [SaveChannel(record)]

    def _remove(self, gone: set[HostId], now: float) -> list[DirectoryEffect]:
        if not gone:
            return []
        for host in gone:
            del self.members[host]
            self._delay_table.forget(host)
            self.jobs.forget(host)
            self._relocated.pop(host, None)
        ended = [c for c, r in self.channels.items() if r.publisher in gone]
        for channel in ended:
            del self.channels[channel]
            self._planner.forget(channel)
        return [*map(DeleteHost, sorted(gone)), *map(DeleteChannel, ended), *self._place(now)]

    def _place(self, now: float) -> list[DirectoryEffect]:
        """Brings everyone's place up to date, and pushes those that changed."""
        if not self.members:
            return []
        self._version = max(self._version + 1, int(now * 1000))  # rises across restarts too
        records = {host: member.record for host, member in self.members.items()}
        pushes: list[DirectoryEffect] = []
        for host, placement in self._placements.changed(self.cube, self.epoch, self._version, records).items():
            before = self.members[host].placement
            if before is None or replace(before, version=self._version) != placement:
                self.members[host].placement = placement
                pushes.append(PushPlacement(host, placement))
        return pushes


def _kept(line: SubscriptionRecord) -> bool:
    return line.best_ms is None or line.best_ms <= line.bound_ms
