"""The trees this host is part of, seen downwards: what it carries, for whom, and how that ends.

Who feeds a branch is the business of cubecast.engine.parents.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from cubecast.engine.effects import Effect, Evict, Report, Send, StopPull, StreamEnded
from cubecast.engine.freshness import Floor
from cubecast.engine.membership import Neighbourhood
from cubecast.engine.messages import (
    CARRIED_MAX,
    KIN_MAX,
    NUMBER_MAX,
    Beat,
    Carried,
    Ended,
    Kin,
    Need,
    Pulse,
    Reach,
    Release,
)
from cubecast.engine.records import SubscriptionRecord, Tree
from cubecast.types import ORIGIN, ChannelName, HostId, Label

CHILD_TICKS = 50
"""Ticks without a word about the channel after which a child's place is given away."""
DRAIN_TICKS = 100
"""After a channel is finished its pull stays open this long for the last frames below."""
PULSE_TICKS = 2
"""The publisher tells how fresh the channel is every so many ticks, and everyone passes that on at once."""
KIN_TICKS = 20
"""Children are told of their relatives every so many ticks."""
BUSY_TICKS = 15
"""Media that came in so long without a pause is sure to come in below as well."""
FLOORS_MAX = 1024


@dataclass(slots=True)
class Child:
    """A host we feed: the channel must reach us within budget_ms for everyone below it to keep its bound."""

    budget_ms: float
    quiet_ticks: int = 0


@dataclass(slots=True)
class Branch:
    """A channel this host carries: as publisher, relay, subscriber, or several of them."""

    channel: ChannelName
    upstream: HostId | None
    """The parent; None at the publisher, and while a new one is looked for."""
    reach: Reach
    publishes: bool = False
    children: dict[HostId, Child] = field(default_factory=dict)
    bound_ms: float | None = None
    """The local subscriber's bound."""
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
    def due_ms(self) -> float:
        """When the channel must be here for everyone here and below to keep its bound; at most NUMBER_MAX."""
        budgets = [child.budget_ms for child in self.children.values()]
        return min([NUMBER_MAX, *budgets, *([] if self.bound_ms is None else [self.bound_ms])])


class Branches:
    """Branches by channel. The engine owns one and passes it messages, ticks and failures."""

    def __init__(self, neighbourhood: Neighbourhood, fan_out: int) -> None:
        self._around = neighbourhood
        self._fan_out = fan_out
        self.carried: dict[ChannelName, Branch] = {}
        self._floors: OrderedDict[ChannelName, Floor] = OrderedDict()
        self._beat_from = 0
        self.leaving = False
        """This host is about to leave: it takes no more children."""

    def publish(self, channel: ChannelName, tree: Tree) -> None:
        """Carries a channel of our own."""
        reach = Reach(0.0, 0.0, (self._around.host,))
        self.carried[channel] = Branch(channel, None, reach, publishes=True, tree=tree)

    def finish(self, channel: ChannelName) -> list[Effect]:
        """A channel of our own is over: tells the tree."""
        branch = self.carried.get(channel)
        if branch is None or not branch.publishes:
            return []
        branch.finished_ticks = 0
        ended = Ended(channel, finished=True, host=self._around.host, reason="finished")
        return [Send(child, ended) for child in branch.children]

    # ------------------------------------------------------------------ what others may know

    def copies(self) -> int:
        """Copies this host sends, over all channels."""
        return sum(len(branch.children) for branch in self.carried.values())

    def dependants(self) -> set[HostId]:
        """Children that lose a stream when this host goes, unless they find another parent."""
        relayed = (b for b in self.carried.values() if not b.publishes and b.finished_ticks is None)
        return {child for branch in relayed for child in branch.children}

    def spare(self, reserved: int = 0) -> int:
        """Copies left."""
        return 0 if self.leaving else max(0, self._fan_out - self.copies() - reserved)

    def beat(self, reserved: int) -> Beat:
        """What a heartbeat tells: copies left and, of the channels that can be passed on, as many as it takes."""
        spare = self.spare(reserved)
        able = [b for b in self.carried.values() if b.fed and b.finished_ticks is None]
        if len(able) > CARRIED_MAX:
            self._beat_from = (self._beat_from + CARRIED_MAX) % len(able)
            able = (able[self._beat_from :] + able)[:CARRIED_MAX]
        return Beat(spare, tuple(Carried(branch.channel, branch.reach) for branch in able))

    def parents(self) -> set[HostId]:
        """The hosts that feed us."""
        return {branch.upstream for branch in self.carried.values() if branch.upstream is not None}

    def in_use(self) -> set[HostId]:
        """Parents and children: their links are kept."""
        parents = {b.upstream for b in self.carried.values()} | {b.former for b in self.carried.values()}
        return {p for p in parents if p is not None}.union(*(branch.children for branch in self.carried.values()))

    def may_pull(self, channel: ChannelName, host: HostId) -> bool:
        """Whether we confirmed a branch to this host."""
        branch = self.carried.get(channel)
        return branch is not None and host in branch.children

    # ------------------------------------------------------------------ freshness

    def floor(self, channel: ChannelName) -> Floor:
        """What a new parent for the channel must be fresher than; remembered after the branch is gone."""
        return self._floors.get(channel, Floor())

    def pass_on(self, branch: Branch, reach: Reach) -> list[Effect]:
        """How the channel reaches us has changed: remembers the floor and tells the children."""
        branch.reach = reach
        self._floors[branch.channel] = self.floor(branch.channel).passed_on(reach.seqno, reach.depth)
        self._floors.move_to_end(branch.channel)
        while len(self._floors) > FLOORS_MAX:
            self._floors.popitem(last=False)
        return self._pulse(branch)

    # ------------------------------------------------------------------ children

    def feed(self, branch: Branch, host: HostId, budget_ms: float) -> None:
        """Takes a child, or hears of a child that asks again."""
        branch.children[host] = Child(budget_ms)
        branch.ticks = 0  # tells the relatives soon

    def on_need(self, host: HostId, m: Need) -> list[Effect]:
        """A child lives, and says what it needs."""
        branch = self.carried.get(m.channel)
        if branch is None or host not in branch.children:
            return []
        branch.children[host] = Child(m.budget_ms)
        return []

    def on_release(self, host: HostId, m: Release) -> list[Effect]:
        """A child no longer pulls."""
        branch = self.carried.get(m.channel)
        if branch is None or branch.children.pop(host, None) is None:
            return []
        return [Evict(m.channel, host), *self.prune(branch)]

    def on_goodbye(self, host: HostId) -> list[Effect]:
        """A host has left: it is no child any more."""
        effects: list[Effect] = []
        for branch in list(self.carried.values()):
            if branch.children.pop(host, None) is not None:
                effects += [Evict(branch.channel, host), *self.prune(branch)]
        return effects

    # ------------------------------------------------------------------ ends

    def leave_local(self, channel: ChannelName) -> list[Effect]:
        """The local subscriber is gone."""
        branch = self.carried.get(channel)
        if branch is None or branch.bound_ms is None:
            return []
        ended = self.ledger(branch, "ended")
        branch.bound_ms = None
        return [ended, *self.prune(branch)]

    def prune(self, branch: Branch) -> list[Effect]:
        """Releases a branch that nobody here needs any more."""
        if branch.publishes or branch.children or branch.bound_ms is not None:
            return []
        if self.carried.get(branch.channel) is not branch:
            return []
        return self.remove(branch)

    def on_ended(self, host: HostId, m: Ended) -> list[Effect]:
        """The channel was finished by its publisher."""
        branch = self.carried.get(m.channel)
        if branch is None or branch.upstream != host:
            return []
        branch.finished_ticks = 0
        effects: list[Effect] = [Send(child, m) for child in branch.children]
        if branch.bound_ms is not None:
            effects.append(StreamEnded(m.channel, finished=True, host=m.host, reason=m.reason))
            effects.append(self.ledger(branch, "ended"))
        return effects + self.prune(branch)

    def give_up(self, branch: Branch, host: HostId, reason: str) -> list[Effect]:
        """No parent is to be had: tells everyone below."""
        ended = Ended(branch.channel, finished=False, host=host, reason=reason)
        effects: list[Effect] = [Send(child, ended) for child in branch.children]
        if branch.bound_ms is not None:
            effects.append(StreamEnded(branch.channel, finished=False, host=host, reason=reason))
            effects.append(self.ledger(branch, "ended"))
        return effects + self.remove(branch)

    def remove(self, branch: Branch) -> list[Effect]:
        """Forgets a branch, and tells its parents."""
        self.carried.pop(branch.channel, None)
        if branch.finished_ticks is not None:
            self._floors.pop(branch.channel, None)  # whoever publishes it again begins anew
        effects = [*self._released(branch), *self._around.wish(branch.channel, ())]
        return effects if branch.publishes else [*effects, StopPull(branch.channel, None)]

    def leave(self) -> list[Effect]:
        """Gives up everything, telling parents; children hear our goodbye."""
        return [effect for branch in self.carried.values() for effect in self._released(branch)]

    @staticmethod
    def _released(branch: Branch) -> list[Effect]:
        above = {host for host in (branch.upstream, branch.former) if host is not None}
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
        if branch.quiet_ticks > PULSE_TICKS:  # nothing to pass on: the children should know that we live
            effects += self._pulse(branch)
        if branch.ticks % KIN_TICKS == 1:
            effects += self._tell_kin(branch)
        branch.ticks += 1
        for host, child in list(branch.children.items()):
            child.quiet_ticks += branch.finished_ticks is None  # after the end children have nothing to say
            if child.quiet_ticks >= CHILD_TICKS:
                del branch.children[host]
                effects.append(Evict(branch.channel, host))
        return effects + self.prune(branch)

    def ledger(self, branch: Branch, state: str) -> Report:
        """The ledger's line of the local subscription."""
        bound_ms = 0.0 if branch.bound_ms is None else branch.bound_ms
        host, reach = self._around.host, branch.reach
        return Report(SubscriptionRecord(branch.channel, host, bound_ms, state, reach.delay_ms, None, reach.path))

    def _pulse(self, branch: Branch) -> list[Effect]:
        branch.quiet_ticks = 0
        busy = branch.busy_ticks >= BUSY_TICKS
        pulse = Pulse(
            branch.channel, branch.reach, branch.epoch, branch.target, flowing=busy, fed=branch.fed, tree=branch.tree
        )
        return [Send(child, pulse) for child in branch.children]

    def _tell_kin(self, branch: Branch) -> list[Effect]:
        """Tells each child its grandparent and its siblings."""
        above = None if branch.upstream is None else self._around.record(branch.upstream)
        records = {child: self._around.record(child) for child in branch.children}
        effects: list[Effect] = []
        for child in branch.children:
            siblings = [record for host, record in records.items() if host != child and record is not None]
            kin = ([] if above is None else [above]) + siblings
            effects.append(Send(child, Kin(branch.channel, tuple(kin[:KIN_MAX]))))
        return effects
