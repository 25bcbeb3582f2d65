"""The trees that this host is part of, towards the subscribers: channels carried, children, and ends of channels."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache

from msgspec import structs

from cubecast.engine.host.announcement import differs
from cubecast.engine.host.config import EngineConfig
from cubecast.engine.host.effects import Effect, Evict, Report, Send, StopPull, StreamEnded
from cubecast.engine.host.neighbourhood import Neighbourhood
from cubecast.engine.host.tree.branch import Branch, Child
from cubecast.engine.host.tree.relatives import relatives_of
from cubecast.engine.protocol.feasibility import FeasibilityDistance
from cubecast.engine.protocol.messages import (
    CARRIED_MAX,
    Carried,
    Ended,
    Heartbeat,
    PathUpdate,
    Relatives,
    Release,
    SubtreeContract,
)
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.ranges import NUMBER_MAX
from cubecast.engine.protocol.records import Compliance, SubscriptionRecord, Tree
from cubecast.texts import one_line
from cubecast.types import ChannelName, HostId


class Downstream:
    """Branches by channel. The engine owns one and passes it messages, ticks and failures."""

    def __init__(
        self,
        neighbourhood: Neighbourhood,
        fan_out: int,
        uplink_bps: float,
        reserve: Mapping[ChannelName, int],
        config: EngineConfig,
    ) -> None:
        self._neighbourhood = neighbourhood
        self._fan_out = fan_out
        self._uplink_bps = uplink_bps
        self._reserve = reserve
        self._config = config.tree
        self._links = config.links
        self.branches: dict[ChannelName, Branch] = {}
        self._feasibility: OrderedDict[ChannelName, FeasibilityDistance] = OrderedDict()
        self.leaving = False
        """This host is about to leave and accepts no more children."""

    # ------------------------------------------------------------------ channels of our own

    def publish(
        self, channel: ChannelName, tree: Tree, source: ChannelName | None = None, publication: int = 0
    ) -> None:
        """Carries a channel of our own, captured here or derived from another one."""
        metrics = PathMetrics(0.0, 0.0, (self._neighbourhood.host,), publication=publication)
        branch = Branch(channel, None, metrics, publishes=True, tree=tree, source=source)
        branch.metrics = self.at_origin(branch, 0, NUMBER_MAX)
        self.branches[channel] = branch

    def at_origin(self, branch: Branch, seqno: int, rate_bps: float) -> PathMetrics:
        """The path to its publisher, this host: no delay, or for a derived channel its source's and the processing's."""
        source = None if branch.source is None else self.branches.get(branch.source)
        if source is None:
            return structs.replace(branch.metrics, seqno=seqno, rate_bps=rate_bps)
        processing_ms, spread_ms = branch.processing_ms
        return structs.replace(
            source.metrics,
            delay_ms=source.metrics.delay_ms + processing_ms,
            spread_ms=source.metrics.spread_ms + spread_ms,
            path=branch.metrics.path,
            publication=branch.metrics.publication,
            seqno=seqno,
            rate_bps=rate_bps,
        )

    def processed(self, channel: ChannelName, delay_ms: float, spread_ms: float) -> None:
        """The processing of a derived channel was measured."""
        branch = self.branches.get(channel)
        if branch is not None and branch.source is not None:
            branch.processing_ms = (delay_ms, spread_ms)

    def finish(self, channel: ChannelName) -> list[Effect]:
        """A channel of our own has ended: children and the local subscriber are notified."""
        branch = self.branches.get(channel)
        if branch is None or not branch.publishes:
            return []
        branch.finished_ticks = 0
        return self._send_ended(branch, Ended(channel, True, self._neighbourhood.host, "finished"))

    # ------------------------------------------------------------------ what this host offers

    def copies(self) -> int:
        """Copies this host sends, over all channels."""
        return sum(len(branch.below.children) for branch in self.branches.values())

    def dependants(self) -> set[HostId]:
        """Children that lose a stream when this host leaves, unless they find another parent."""
        relayed = (b for b in self.branches.values() if not b.publishes and b.finished_ticks is None)
        return {child for branch in relayed for child in branch.below.children}

    def spare(self, channel: ChannelName, promised: int = 0) -> int:
        """Spare fan-out for a channel: of the fan-out less what is reserved for others, and within the uplink.

        Args:
            promised: copies reserved for requests of other hosts that are under way.
        """
        if self.leaving:
            return 0
        reserved = sum(max(0, n - self._children(other)) for other, n in self._reserve.items() if other != channel)
        reservations = sum(len(branch.below.reservations) for branch in self.branches.values())
        spare = max(0, self._fan_out - self.copies() - reservations - promised - reserved)
        branch = self.branches.get(channel)
        if branch is None or not branch.copy_bps or self._uplink_bps >= NUMBER_MAX:
            return spare
        return min(spare, max(0, int(self._uplink_left_bps() // branch.copy_bps) - promised))

    def _children(self, channel: ChannelName) -> int:
        branch = self.branches.get(channel)
        return 0 if branch is None else len(branch.below.children)

    def _uplink_left_bps(self) -> float:
        return self._uplink_bps - sum(b.copy_bps * len(b.below.children) for b in self.branches.values())

    def advertised(self, metrics: PathMetrics, copy_bps: float = 0.0) -> PathMetrics:
        """The path to this host as announced to others: its rate is no more than the uplink has left.

        Args:
            copy_bps: rate of the receiver's own copy, which is sent already.
        """
        if self._uplink_bps >= NUMBER_MAX:
            return metrics
        left_bps = min(metrics.rate_bps, self._uplink_left_bps() + copy_bps)
        return structs.replace(metrics, rate_bps=max(0.0, left_bps))

    def heartbeats(self, promised: int) -> Callable[[int], Heartbeat]:
        """What to announce now: the channels that can be forwarded and the spare fan-out, by the heartbeat's number on a link.

        Of more than CARRIED_MAX channels each heartbeat names as many, and the next one those that follow.

        Args:
            promised: as in `spare`.
        """
        able = [b for b in self.branches.values() if b.fed and b.finished_ticks is None]
        turns = max(1, -(-len(able) // CARRIED_MAX))

        @cache
        def of_turn(turn: int) -> Heartbeat:
            named = able if turns == 1 else (able[turn * CARRIED_MAX :] + able)[:CARRIED_MAX]
            return Heartbeat(
                tuple(Carried(b.channel, self.advertised(b.metrics), self.spare(b.channel, promised)) for b in named)
            )

        return lambda number: of_turn(number % turns)

    def measured(self, channel: ChannelName, compliance: Compliance) -> None:
        """The local subscription's compliance with its contract was measured."""
        branch = self.branches.get(channel)
        if branch is not None:
            branch.compliance = compliance

    def parents(self) -> set[HostId]:
        """The hosts that feed this one."""
        return {branch.upstream for branch in self.branches.values() if branch.upstream is not None}

    def in_use(self) -> set[HostId]:
        """Parents, standbys, children and standby children: the links to them are kept."""
        return self.above().union(
            *(hosts for b in self.branches.values() for hosts in (b.below.children, b.standby.children))
        )

    def above(self) -> set[HostId]:
        """Parents and standbys: those that must hear from this host."""
        hosts = {host for b in self.branches.values() for host in (b.upstream, b.parent.former, b.standby.host)}
        return {host for host in hosts if host is not None}

    def may_pull(self, channel: ChannelName, host: HostId) -> bool:
        """Whether a host is a child for the channel, or this host is its standby."""
        branch = self.branches.get(channel)
        return branch is not None and (host in branch.below.children or host in branch.standby.children)

    def drain_ticks_left(self, branch: Branch) -> int:
        """Ticks until a branch whose channel has ended is gone."""
        return max(1, self._config.drain_ticks - (branch.finished_ticks or 0))

    def has_slot(self, channel: ChannelName, host: HostId) -> bool:
        """Whether another host is a child, or a slot is reserved for it."""
        branch = self.branches.get(channel)
        if branch is None:
            return False
        return host in branch.below.children or (host in branch.below.reservations and not self.leaving)

    # ------------------------------------------------------------------ feasibility

    def feasibility(self, channel: ChannelName) -> FeasibilityDistance:
        """What a new parent for the channel must beat; remembered after the branch is gone."""
        return self._feasibility.get(channel, FeasibilityDistance())

    def forward(self, branch: Branch, metrics: PathMetrics) -> list[Effect]:
        """The path to this host has changed: records the feasibility distance and sends the children an update."""
        branch.metrics = metrics
        passed_on = self.feasibility(branch.channel).passed_on(metrics.seqno, metrics.depth, metrics.publication)
        self._feasibility[branch.channel] = passed_on
        self._feasibility.move_to_end(branch.channel)
        while len(self._feasibility) > self._config.feasibility_max:
            self._feasibility.popitem(last=False)
        return self._send_update(branch)

    def refresh(self, branch: Branch, metrics: PathMetrics) -> list[Effect]:
        """The path to this host was computed again: the children are sent an update only if it has changed by much."""
        branch.metrics = metrics
        known = branch.below.announced
        return self._send_update(branch) if known is None or differs(known, metrics, self._links) else []

    # ------------------------------------------------------------------ children

    def feed(self, branch: Branch, host: HostId, contract: Contract) -> None:
        """Accepts a child, or one that asks again."""
        branch.below.children[host] = Child(contract)
        branch.standby.children.pop(host, None)
        branch.below.reservations.pop(host, None)
        branch.below.relatives.pop(host, None)
        branch.below.announced = None

    def slot_promised_to(self, channel: ChannelName, host: HostId) -> HostId | None:
        """The child whose slot a standby child takes if that child dies; None when that is not agreed."""
        branch = self.branches.get(channel)
        standby_child = None if branch is None else branch.standby.children.get(host)
        if branch is None or standby_child is None or standby_child.parent not in branch.below.children:
            return None
        return standby_child.parent

    def slot_free_for(self, channel: ChannelName, host: HostId) -> HostId | None:
        """The child whose slot a standby child takes now: that child is its parent, and does not answer here either."""
        child = self.slot_promised_to(channel, host)
        dead = child is not None and self._neighbourhood.links.is_unanswered(child, self._config.dead_ticks)
        return child if dead else None

    def on_subtree_contract(self, host: HostId, m: SubtreeContract) -> list[Effect]:
        """A child is alive and sends its subtree contract."""
        branch = self.branches.get(m.channel)
        if branch is None or host not in branch.below.children:
            return []
        branch.below.children[host] = Child(m.contract)
        return []

    def on_release(self, host: HostId, m: Release) -> list[Effect]:
        """A child no longer pulls; if it was displaced for another host its slot is reserved for that one for a while."""
        branch = self.branches.get(m.channel)
        if branch is None:
            return []
        was_standby = branch.standby.children.pop(host, None) is not None
        if branch.below.children.pop(host, None) is None:
            return [Evict(m.channel, host)] if was_standby else []
        if m.slot_for and self.spare(m.channel) > 0:
            branch.below.reservations[m.slot_for] = self._config.reserved_ticks
        return [Evict(m.channel, host), *self.prune(branch)]

    def on_goodbye(self, host: HostId) -> list[Effect]:
        """A host has left: it is no child any more."""
        effects: list[Effect] = []
        for branch in list(self.branches.values()):
            branch.standby.children.pop(host, None)
            if branch.below.children.pop(host, None) is not None:
                effects += [Evict(branch.channel, host), *self.prune(branch)]
        return effects

    # ------------------------------------------------------------------ ends

    def leave_local(self, channel: ChannelName) -> list[Effect]:
        """The local subscriber has left."""
        branch = self.branches.get(channel)
        if branch is None or branch.contract is None:
            return []
        ended = self.report(branch, "ended")
        branch.contract, branch.compliance = None, Compliance()
        return [ended, *self.prune(branch)]

    def prune(self, branch: Branch) -> list[Effect]:
        """Removes a branch that no child and no local subscriber needs."""
        if branch.publishes or branch.below.children or branch.contract is not None:
            return []
        if self.branches.get(branch.channel) is not branch:
            return []
        return self.remove(branch)

    def on_ended(self, host: HostId, m: Ended) -> list[Effect]:
        """The publisher ended the channel."""
        branch = self.branches.get(m.channel)
        if branch is None or branch.upstream != host:
            return []
        branch.finished_ticks = 0
        return [*self._send_ended(branch, m), *self.prune(branch)]

    def give_up(self, branch: Branch, host: HostId, reason: str) -> list[Effect]:
        """No new parent was found: children and the local subscriber are notified, and the branch is removed."""
        return [*self._send_ended(branch, Ended(branch.channel, False, host, one_line(reason))), *self.remove(branch)]

    def _send_ended(self, branch: Branch, ended: Ended) -> list[Effect]:
        effects: list[Effect] = [Send(child, ended) for child in branch.below.children]
        if branch.contract is not None:
            effects.append(StreamEnded(ended.channel, ended.finished, ended.host, ended.reason))
            effects.append(self.report(branch, "ended"))
        return effects

    def remove(self, branch: Branch) -> list[Effect]:
        """Forgets a branch and releases its parents."""
        self.branches.pop(branch.channel, None)
        if branch.finished_ticks is not None:
            self._feasibility.pop(branch.channel, None)  # a later publisher of that name starts anew
        effects = [*self._release_parents(branch), *self._neighbourhood.want_links(("relatives", branch.channel), ())]
        return effects if branch.publishes else [*effects, StopPull(branch.channel, None)]

    def leave(self) -> list[Effect]:
        """Releases all parents; children get Goodbye from the neighbourhood."""
        return [effect for branch in self.branches.values() for effect in self._release_parents(branch)]

    @staticmethod
    def _release_parents(branch: Branch) -> list[Effect]:
        above = {host for host in (branch.upstream, branch.parent.former, branch.standby.host) if host is not None}
        return [Send(host, Release(branch.channel)) for host in sorted(above)]

    # ------------------------------------------------------------------ time

    def tick(self, branch: Branch) -> list[Effect]:
        """Sends path updates and relatives to the children; forgets silent children and ended channels."""
        config = self._config
        if branch.finished_ticks is not None:
            branch.finished_ticks += 1
            if branch.finished_ticks >= config.drain_ticks:
                return self.remove(branch)
        effects: list[Effect] = []
        branch.below.update_ticks += 1
        ended = branch.finished_ticks is not None
        period = (
            config.update_ticks + 1 if ended else branch.media.pauses.update_period(branch.media.quiet_ticks, config)
        )
        due = branch.below.update_ticks >= period  # the children must know that we are alive
        if due or (branch.below.announced is None and branch.below.children):
            effects += self._send_update(branch)
        effects += self._send_relatives(branch)
        branch.ticks += 1
        branch.below.reservations = {host: ticks - 1 for host, ticks in branch.below.reservations.items() if ticks > 1}
        for host, child in list(branch.below.children.items()):
            child.silent_ticks += branch.finished_ticks is None  # after the end children have nothing to send
            if child.silent_ticks >= config.child_ticks:
                del branch.below.children[host]
                effects.append(Evict(branch.channel, host))
        return effects + self.prune(branch)

    def report(self, branch: Branch, state: str) -> Report:
        """The report on the local subscription to the directory."""
        terms, metrics = branch.contract or Contract(0.0), branch.metrics
        return Report(
            SubscriptionRecord(
                branch.channel,
                self._neighbourhood.host,
                terms.bound_ms,
                state,
                metrics.delay_ms,
                metrics.least_bound_ms,
                metrics.path,
                terms.rate_bps,
                terms.loss,
                branch.compliance,
            )
        )

    def _send_update(self, branch: Branch) -> list[Effect]:
        branch.below.update_ticks, branch.below.announced = 0, branch.metrics
        update = PathUpdate(
            branch.channel,
            self.advertised(branch.metrics, branch.copy_bps),
            branch.epoch,
            branch.target,
            flowing=branch.media.flowing_ticks >= self._config.flowing_ticks,
            fed=branch.fed,
            tree=branch.tree,
            pause_ticks=branch.media.pauses.usual_ticks,
        )
        return [Send(child, self._neighbourhood.measuring(child, update)) for child in branch.below.children]

    def _send_relatives(self, branch: Branch) -> list[Effect]:
        """Sends the children their relatives where they have changed, and now and then anyway."""
        branch.below.relatives_in -= 1
        if branch.below.relatives_in <= 0:
            branch.below.relatives_in = self._config.relatives_ticks
            branch.below.relatives.clear()
        now = relatives_of(branch, self._neighbourhood.links)
        changed = [child for child, relatives in now.items() if branch.below.relatives.get(child) != relatives]
        branch.below.relatives = now
        return [Send(child, Relatives(branch.channel, now[child])) for child in changed]
