"""The trees this host is part of, seen downwards: what it carries, for whom, and how that ends.

Who feeds a branch is the business of cubecast.engine.host.tree.upstream.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import structs

from cubecast.engine.host.effects import Effect, Evict, Report, Send, StopPull, StreamEnded
from cubecast.engine.host.neighbourhood import Neighbourhood
from cubecast.engine.protocol.feasibility import FeasibilityDistance
from cubecast.engine.protocol.messages import (
    CARRIED_MAX,
    RELATIVES_MAX,
    Carried,
    Ended,
    Heartbeat,
    PathUpdate,
    Relatives,
    Release,
    SubtreeContract,
)
from cubecast.engine.protocol.path import NUMBER_MAX, Contract, PathMetrics
from cubecast.engine.protocol.records import Compliance, HostRecord, SubscriptionRecord, Tree
from cubecast.types import ORIGIN, ChannelName, HostId, Label

CHILD_TICKS = 50
"""Ticks without a word about the channel after which a child's place is given away."""
DEAD_TICKS = 3
"""A child of which nothing is heard for so long gives its place to its own orphan: it pings us every second tick."""
DRAIN_TICKS = 100
"""After a channel is finished its pull stays open this long for the last frames below."""
UPDATE_TICKS = 2
"""The publisher tells how fresh the channel is every so many ticks, and everyone passes that on at once."""
RELATIVES_TICKS = 20
"""Children are told of their relatives every so many ticks."""
BUSY_TICKS = 15
"""Media that came in so long without a pause is sure to come in below as well."""
FEASIBILITY_MAX = 1024
RATE_S, RATE_GAIN = 2.0, 1 / 4
"""The rate of a channel is measured over so long at least, and smoothed."""


@dataclass(slots=True)
class Child:
    """A host we feed, and what must hold here for everyone below it to have what it asked for."""

    contract: Contract
    quiet_ticks: int = 0


@dataclass(slots=True)
class StandbyChild:
    """A host that we stand by for: its parent, and ticks since it asked."""

    parent: HostId
    quiet_ticks: int = 0


@dataclass(slots=True)
class Branch:
    """A channel this host carries: as publisher, relay, subscriber, or several of them."""

    channel: ChannelName
    upstream: HostId | None
    """The parent; None at the publisher, and while a new one is looked for."""
    metrics: PathMetrics
    publishes: bool = False
    source: ChannelName | None = None
    """What a derived channel of ours is made from."""
    processing_ms: tuple[float, float] = (0.0, 0.0)
    """What its making takes, and how much longer a late frame."""
    children: dict[HostId, Child] = field(default_factory=dict)
    siblings: tuple[HostRecord, ...] = ()
    """Other children of our parent, then its own siblings."""
    standby_children: dict[HostId, StandbyChild] = field(default_factory=dict)
    """Hosts we stand by for."""
    standby: HostId | None = None
    """The host that stands by for us."""
    standby_ready: bool = False
    standby_ticks: int = 0
    """Since it was asked first."""
    contract: Contract | None = None
    """The local subscriber's; None without one."""
    compliance: Compliance = field(default_factory=Compliance)
    """How that has fared."""
    trail: tuple[HostId, ...] = ()
    """The hosts `grant` was handed on by, the subscriber it is for first; empty for our own."""
    grant: str = ""
    finished_ticks: int | None = None
    tree: Tree = Tree.HYBRID
    epoch: int = 0
    target: Label = ORIGIN
    """The publisher's seat, a label of that epoch."""
    former: HostId | None = None
    """The parent before, which feeds us until the new one does."""
    former_ticks: int = 0
    bytes_received: int = -1
    fresh_bytes: int = 0
    """Bytes that came in, or were published, since the rate was measured last."""
    rated_s: float = 0.0
    rate_bps: float = 0.0
    """What one copy of the channel takes; 0 before it was measured."""
    flat_ticks: int = 0
    """Since media came in."""
    busy_ticks: int = 0
    """Since media came in without a pause."""
    stale_ticks: int = 0
    """Since a newer sequence number came in."""
    heard_seqno: int = -1
    held: bool = False
    """No newer sequence number is passed on, so that a new parent can prove to be fresher."""
    orphan_ticks: int = 0
    retry_ticks: int = 0
    """Until the next search for a parent."""
    quiet_ticks: int = 0
    """Since a pulse went out."""
    ticks: int = 0
    failure: str = ""
    """Why the media session to the parent is gone."""
    lost: tuple[HostId, str] | None = None
    """The parent that was lost, and why, while there is no new one."""

    @property
    def fed(self) -> bool:
        """Whether media may come in, or is ours."""
        return self.publishes or self.upstream is not None

    @property
    def wanted(self) -> Contract:
        """What must hold here for everyone here and below to have what it asked for; a bound of NUMBER_MAX is none."""
        wanted = self.contract or Contract(NUMBER_MAX)
        for child in self.children.values():
            wanted = wanted.both(child.contract)
        return wanted

    def count(self, bytes_received: int) -> None:
        """Bytes so far on the session to the parent, or published; they begin anew with every session."""
        if bytes_received > self.bytes_received >= 0:
            self.fresh_bytes += bytes_received - self.bytes_received
        self.bytes_received = bytes_received

    def rate(self, now: float) -> None:
        """Measures what one copy takes, once enough time has gone by."""
        if now - self.rated_s < RATE_S:
            return
        measured_bps = 8 * self.fresh_bytes / (now - self.rated_s)
        if self.rated_s and self.fresh_bytes:
            self.rate_bps += (RATE_GAIN if self.rate_bps else 1.0) * (measured_bps - self.rate_bps)
        self.rated_s, self.fresh_bytes = now, 0


class Downstream:
    """Branches by channel. The engine owns one and passes it messages, ticks and failures."""

    def __init__(
        self, neighbourhood: Neighbourhood, fan_out: int, uplink_bps: float, reserve: Mapping[ChannelName, int]
    ) -> None:
        self._neighbourhood = neighbourhood
        self._fan_out = fan_out
        self._uplink_bps = uplink_bps
        self._reserve = reserve
        self.branches: dict[ChannelName, Branch] = {}
        self._feasibility: OrderedDict[ChannelName, FeasibilityDistance] = OrderedDict()
        self._heartbeat_from = 0
        self.leaving = False
        """This host is about to leave: it takes no more children."""

    def publish(self, channel: ChannelName, tree: Tree, source: ChannelName | None = None) -> None:
        """Carries a channel of our own, captured here or made from another one."""
        metrics = PathMetrics(0.0, 0.0, (self._neighbourhood.host,))
        branch = Branch(channel, None, metrics, publishes=True, tree=tree, source=source)
        branch.metrics = self.at_origin(branch, 0, NUMBER_MAX)
        self.branches[channel] = branch

    def at_origin(self, branch: Branch, seqno: int, rate_bps: float) -> PathMetrics:
        """How a channel of our own reaches us: at once, or as late as what it is made from, and its making."""
        source = None if branch.source is None else self.branches.get(branch.source)
        if source is None:
            return structs.replace(branch.metrics, seqno=seqno, rate_bps=rate_bps)
        processing_ms, spread_ms = branch.processing_ms
        return structs.replace(
            source.metrics,
            delay_ms=source.metrics.delay_ms + processing_ms,
            spread_ms=source.metrics.spread_ms + spread_ms,
            path=branch.metrics.path,
            seqno=seqno,
            rate_bps=rate_bps,
        )

    def processed(self, channel: ChannelName, delay_ms: float, spread_ms: float) -> None:
        """What making a derived channel takes."""
        branch = self.branches.get(channel)
        if branch is not None and branch.source is not None:
            branch.processing_ms = (delay_ms, spread_ms)

    def finish(self, channel: ChannelName) -> list[Effect]:
        """A channel of our own is over: tells the tree."""
        branch = self.branches.get(channel)
        if branch is None or not branch.publishes:
            return []
        branch.finished_ticks = 0
        ended = Ended(channel, finished=True, host=self._neighbourhood.host, reason="finished")
        effects: list[Effect] = [Send(child, ended) for child in branch.children]
        if branch.contract is not None:
            effects += [StreamEnded(channel, finished=True, host=ended.host, reason=ended.reason)]
            effects += [self.report(branch, "ended")]
        return effects

    # ------------------------------------------------------------------ what others may know

    def copies(self) -> int:
        """Copies this host sends, over all channels."""
        return sum(len(branch.children) for branch in self.branches.values())

    def dependants(self) -> set[HostId]:
        """Children that lose a stream when this host goes, unless they find another parent."""
        relayed = (b for b in self.branches.values() if not b.publishes and b.finished_ticks is None)
        return {child for branch in relayed for child in branch.children}

    def spare(self, channel: ChannelName, promised: int = 0) -> int:
        """Copies left for a channel: of the fan-out, what is not kept for others, and no more than the uplink takes.

        Args:
            promised: copies that offers in flight may take.
        """
        if self.leaving:
            return 0
        kept = sum(max(0, n - self._fed(other)) for other, n in self._reserve.items() if other != channel)
        left = max(0, self._fan_out - self.copies() - promised - kept)
        branch = self.branches.get(channel)
        if branch is None or not branch.rate_bps or self._uplink_bps >= NUMBER_MAX:
            return left
        return min(left, max(0, int(self._room_bps() // branch.rate_bps) - promised))

    def _fed(self, channel: ChannelName) -> int:
        branch = self.branches.get(channel)
        return 0 if branch is None else len(branch.children)

    def _room_bps(self) -> float:
        """What is left of the uplink."""
        return self._uplink_bps - sum(b.rate_bps * len(b.children) for b in self.branches.values())

    def advertised(self, metrics: PathMetrics, copy_bps: float = 0.0) -> PathMetrics:
        """How a channel reaches us, as others are told: with no more rate than the uplink has left.

        Args:
            copy_bps: what the copy that is told of takes already.
        """
        if self._uplink_bps >= NUMBER_MAX:
            return metrics
        return structs.replace(metrics, rate_bps=max(0.0, min(metrics.rate_bps, self._room_bps() + copy_bps)))

    def heartbeat(self, promised: int) -> Heartbeat:
        """What a heartbeat tells: of the channels that can be passed on, as many as it takes, and the copies left."""
        able = [b for b in self.branches.values() if b.fed and b.finished_ticks is None]
        if len(able) > CARRIED_MAX:
            self._heartbeat_from = (self._heartbeat_from + CARRIED_MAX) % len(able)
            able = (able[self._heartbeat_from :] + able)[:CARRIED_MAX]
        return Heartbeat(
            tuple(Carried(b.channel, self.advertised(b.metrics), self.spare(b.channel, promised)) for b in able)
        )

    def measured(self, channel: ChannelName, compliance: Compliance) -> None:
        """How the local subscription has fared."""
        branch = self.branches.get(channel)
        if branch is not None:
            branch.compliance = compliance

    def parents(self) -> set[HostId]:
        """The hosts that feed us."""
        return {branch.upstream for branch in self.branches.values() if branch.upstream is not None}

    def in_use(self) -> set[HostId]:
        """Parents, standbys, children, and those we stand by for: their links are kept."""
        parents = {host for b in self.branches.values() for host in (b.upstream, b.former, b.standby)}
        below = [hosts for b in self.branches.values() for hosts in (b.children, b.standby_children)]
        return {p for p in parents if p is not None}.union(*below)

    def may_pull(self, channel: ChannelName, host: HostId) -> bool:
        """Whether we confirmed a branch to this host, or stand by for it."""
        branch = self.branches.get(channel)
        return branch is not None and (host in branch.children or host in branch.standby_children)

    def is_child(self, channel: ChannelName, host: HostId) -> bool:
        """Whether we feed a host."""
        branch = self.branches.get(channel)
        return branch is not None and host in branch.children

    # ------------------------------------------------------------------ freshness

    def feasibility(self, channel: ChannelName) -> FeasibilityDistance:
        """What a new parent for the channel must be fresher than; remembered after the branch is gone."""
        return self._feasibility.get(channel, FeasibilityDistance())

    def pass_on(self, branch: Branch, metrics: PathMetrics) -> list[Effect]:
        """How the channel reaches us has changed: remembers the floor and tells the children."""
        branch.metrics = metrics
        self._feasibility[branch.channel] = self.feasibility(branch.channel).passed_on(metrics.seqno, metrics.depth)
        self._feasibility.move_to_end(branch.channel)
        while len(self._feasibility) > FEASIBILITY_MAX:
            self._feasibility.popitem(last=False)
        return self._send_path_update(branch)

    # ------------------------------------------------------------------ children

    def feed(self, branch: Branch, host: HostId, contract: Contract) -> None:
        """Takes a child, or hears of a child that asks again."""
        branch.children[host] = Child(contract)
        branch.standby_children.pop(host, None)
        branch.ticks = 0  # tells the relatives soon

    def slot_promised_to(self, channel: ChannelName, host: HostId) -> HostId | None:
        """The child whose place is a ward's when it dies."""
        branch = self.branches.get(channel)
        standby_child = None if branch is None else branch.standby_children.get(host)
        return (
            standby_child.parent
            if branch is not None and standby_child is not None and standby_child.parent in branch.children
            else None
        )

    def slot_free_for(self, channel: ChannelName, host: HostId) -> HostId | None:
        """The child whose place is a ward's now: it is dead, says the ward, and we have not heard of it either."""
        child = self.slot_promised_to(channel, host)
        return child if child is not None and self._neighbourhood.is_silent(child, DEAD_TICKS) else None

    def on_subtree_contract(self, host: HostId, m: SubtreeContract) -> list[Effect]:
        """A child lives, and says what it needs."""
        branch = self.branches.get(m.channel)
        if branch is None or host not in branch.children:
            return []
        branch.children[host] = Child(m.contract)
        return []

    def on_release(self, host: HostId, m: Release) -> list[Effect]:
        """A child no longer pulls."""
        branch = self.branches.get(m.channel)
        if branch is None:
            return []
        standby_child = branch.standby_children.pop(host, None) is not None
        if branch.children.pop(host, None) is None:
            return [Evict(m.channel, host)] if standby_child else []
        return [Evict(m.channel, host), *self.prune(branch)]

    def on_goodbye(self, host: HostId) -> list[Effect]:
        """A host has left: it is no child any more."""
        effects: list[Effect] = []
        for branch in list(self.branches.values()):
            branch.standby_children.pop(host, None)
            if branch.children.pop(host, None) is not None:
                effects += [Evict(branch.channel, host), *self.prune(branch)]
        return effects

    # ------------------------------------------------------------------ ends

    def leave_local(self, channel: ChannelName) -> list[Effect]:
        """The local subscriber is gone."""
        branch = self.branches.get(channel)
        if branch is None or branch.contract is None:
            return []
        ended = self.report(branch, "ended")
        branch.contract, branch.compliance = None, Compliance()
        return [ended, *self.prune(branch)]

    def prune(self, branch: Branch) -> list[Effect]:
        """Releases a branch that nobody here needs any more."""
        if branch.publishes or branch.children or branch.contract is not None:
            return []
        if self.branches.get(branch.channel) is not branch:
            return []
        return self.remove(branch)

    def on_ended(self, host: HostId, m: Ended) -> list[Effect]:
        """The channel was finished by its publisher."""
        branch = self.branches.get(m.channel)
        if branch is None or branch.upstream != host:
            return []
        branch.finished_ticks = 0
        effects: list[Effect] = [Send(child, m) for child in branch.children]
        if branch.contract is not None:
            effects.append(StreamEnded(m.channel, finished=True, host=m.host, reason=m.reason))
            effects.append(self.report(branch, "ended"))
        return effects + self.prune(branch)

    def give_up(self, branch: Branch, host: HostId, reason: str) -> list[Effect]:
        """No parent is to be had: tells everyone below."""
        ended = Ended(branch.channel, finished=False, host=host, reason=reason)
        effects: list[Effect] = [Send(child, ended) for child in branch.children]
        if branch.contract is not None:
            effects.append(StreamEnded(branch.channel, finished=False, host=host, reason=reason))
            effects.append(self.report(branch, "ended"))
        return effects + self.remove(branch)

    def remove(self, branch: Branch) -> list[Effect]:
        """Forgets a branch, and tells its parents."""
        self.branches.pop(branch.channel, None)
        if branch.finished_ticks is not None:
            self._feasibility.pop(branch.channel, None)  # whoever publishes it again begins anew
        effects = [*self._released(branch), *self._neighbourhood.want_links(branch.channel, ())]
        return effects if branch.publishes else [*effects, StopPull(branch.channel, None)]

    def leave(self) -> list[Effect]:
        """Gives up everything, telling parents; children hear our goodbye."""
        return [effect for branch in self.branches.values() for effect in self._released(branch)]

    @staticmethod
    def _released(branch: Branch) -> list[Effect]:
        above = {host for host in (branch.upstream, branch.former, branch.standby) if host is not None}
        return [Send(host, Release(branch.channel)) for host in sorted(above)]

    # ------------------------------------------------------------------ time

    def tick(self, branch: Branch) -> list[Effect]:
        """Pulses and relatives for the children; silent children and finished channels are forgotten."""
        if branch.finished_ticks is not None:
            branch.finished_ticks += 1
            if branch.finished_ticks >= DRAIN_TICKS:
                return self.remove(branch)
        effects: list[Effect] = []
        branch.quiet_ticks += 1
        if branch.quiet_ticks > UPDATE_TICKS:  # nothing to pass on: the children should know that we live
            effects += self._send_path_update(branch)
        if branch.ticks % RELATIVES_TICKS == 1:
            effects += self._send_relatives(branch)
        branch.ticks += 1
        for host, child in list(branch.children.items()):
            child.quiet_ticks += branch.finished_ticks is None  # after the end children have nothing to say
            if child.quiet_ticks >= CHILD_TICKS:
                del branch.children[host]
                effects.append(Evict(branch.channel, host))
        return effects + self.prune(branch)

    def report(self, branch: Branch, state: str) -> Report:
        """The ledger's line of the local subscription."""
        terms, host, metrics = branch.contract or Contract(0.0), self._neighbourhood.host, branch.metrics
        record = SubscriptionRecord(
            branch.channel, host, terms.bound_ms, state, metrics.delay_ms, metrics.least_bound_ms, metrics.path,
            terms.rate_bps, terms.loss, branch.compliance,
        )  # fmt: skip
        return Report(record)

    def _send_path_update(self, branch: Branch) -> list[Effect]:
        branch.quiet_ticks = 0
        busy = branch.busy_ticks >= BUSY_TICKS
        update = PathUpdate(
            branch.channel,
            self.advertised(branch.metrics, branch.rate_bps),
            branch.epoch,
            branch.target,
            flowing=busy,
            fed=branch.fed,
            tree=branch.tree,
        )
        return [Send(child, update) for child in branch.children]

    def _send_relatives(self, branch: Branch) -> list[Effect]:
        """Tells each child its grandparent, then its uncles, who go on when we do not, then its siblings."""
        above = None if branch.upstream is None else self._neighbourhood.record(branch.upstream)
        records = {child: self._neighbourhood.record(child) for child in branch.children}
        effects: list[Effect] = []
        for child in branch.children:
            siblings = [record for host, record in records.items() if host != child and record is not None]
            uncles = [record for record in branch.siblings if record.host != child]
            relatives = ([] if above is None else [above]) + uncles + siblings
            effects.append(Send(child, Relatives(branch.channel, tuple(relatives[:RELATIVES_MAX]))))
        return effects
