"""HostEngine: one host's whole protocol as handle(event, now) -> effects."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from cubecast.engine.host.effects import Announce, Effect, Leave, ParentChanged, Send, Withdraw
from cubecast.engine.host.events import (
    Advised,
    ChannelNotFound,
    ChannelResolved,
    ContractMeasured,
    Event,
    LeaveRequested,
    LinkDown,
    LinkSampled,
    LinkUp,
    MediaSampled,
    Placed,
    Prepared,
    ProbesWanted,
    ProcessingMeasured,
    PublishFinished,
    PublishRequested,
    Pulled,
    PullFailed,
    Received,
    Relocated,
    ResolveFailed,
    SubscribeRequested,
    Tick,
    UnsubscribeRequested,
)
from cubecast.engine.host.failure_detector import FailureDetector
from cubecast.engine.host.neighbourhood import SAMPLES_READY, TICK_S, Neighbourhood
from cubecast.engine.host.optimise.standby import StandbySelection
from cubecast.engine.host.optimise.switching import ParentSwitching
from cubecast.engine.host.search.candidates import Candidates
from cubecast.engine.host.search.searches import Searches
from cubecast.engine.host.snapshot import BranchView, HostView, LinkView
from cubecast.engine.host.subscriptions import Subscriptions
from cubecast.engine.host.tree.downstream import Branch, Downstream
from cubecast.engine.host.tree.upstream import Upstream
from cubecast.engine.protocol.messages import (
    Attach,
    Cancel,
    Commit,
    Confirm,
    Ended,
    Goodbye,
    Heartbeat,
    Hello,
    Leaving,
    Message,
    PathOffer,
    PathRefusal,
    PathRequest,
    PathUpdate,
    Ping,
    Pong,
    Relatives,
    Release,
    StandbyRequest,
    StandbyStatus,
    SubtreeContract,
)
from cubecast.engine.protocol.path import NUMBER_MAX, PathMetrics
from cubecast.engine.protocol.records import Placement, Tree
from cubecast.overlay.routing import Policy
from cubecast.types import ChannelName, HostId

FOLLOW_TICKS = 2
"""Links to parents are pinged every so many ticks."""
LEAVE_TICKS = 30
"""A host that leaves feeds its children for so long while they look for other parents."""


class HostEngine:
    """The brain of one host. Pure: the same events at the same times give the same effects."""

    def __init__(
        self,
        host: HostId,
        policy: Policy,
        fan_out: int,
        rng: np.random.Generator,
        tick_s: float = TICK_S,
        uplink_bps: float = NUMBER_MAX,
        reserve: Mapping[ChannelName, int] = MappingProxyType({}),
    ) -> None:
        """A host that has joined nothing yet.

        Args:
            fan_out: copies this host may send, over all channels.
            rng: drawn from by the Random policy only.
            uplink_bps: what all copies together may carry.
            reserve: copies kept for channels.
            tick_s: how often Tick comes; everything that is counted in ticks takes so much longer or shorter.
        """
        self.host = host
        self._neighbourhood = Neighbourhood(host)
        self._downstream = Downstream(self._neighbourhood, fan_out, uplink_bps, reserve)
        self._failure_detector = FailureDetector()
        self._upstream = Upstream(self._neighbourhood, self._downstream, self._failure_detector)
        self._candidates = Candidates(self._neighbourhood, self._downstream, self._upstream, policy, rng)
        self._searches = Searches(self._neighbourhood, self._downstream, self._upstream, self._candidates, tick_s)
        self._subscriptions = Subscriptions(self._downstream, self._searches)
        self._standbys = StandbySelection(
            self._neighbourhood, self._downstream, self._candidates, self._searches.admission.promised
        )
        self._switching = ParentSwitching(
            self._neighbourhood, self._upstream, self._candidates, self._searches, self._failure_detector
        )
        self._ticks = 0
        self._leave_ticks: int | None = None

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Takes one event in and says what to do.

        Args:
            now: this host's clock, s since the Unix epoch, never running backwards.
        """
        effects = self._handle(event, now)
        for effect in effects:
            if isinstance(effect, ParentChanged):
                self._switching.note_left(effect.channel, effect.before)
        return effects

    def _handle(self, event: Event, now: float) -> list[Effect]:
        match event:
            case Received(host, message):
                return self._received(host, message, now)
            case Tick(late_ms):
                return self._tick(late_ms, now)
            case LinkSampled(host, rtt_ms, lost, sent):
                self._neighbourhood.sampled(host, rtt_ms, lost, sent)
                return []
            case MediaSampled(channel, host, bytes_received):
                self._upstream.on_media(channel, host, bytes_received)
                return []
            case Placed(placement):
                return self._neighbourhood.place(placement)
            case LinkUp(host):
                return self._neighbourhood.up(host)
            case LinkDown(host):
                self._neighbourhood.down(host)
                return self._searches.on_link_down(host)
            case PublishRequested(channel, tree, source):
                return self._publish(channel, tree, source)
            case ProcessingMeasured(channel, delay_ms, spread_ms):
                self._downstream.processed(channel, delay_ms, spread_ms)
                return []
            case PublishFinished(channel):
                return [Withdraw(channel), *self._downstream.finish(channel)]
            case SubscribeRequested(channel, contract):
                return self._subscriptions.subscribe(channel, contract)
            case ContractMeasured(channel, compliance):
                self._downstream.measured(channel, compliance)
                return []
            case UnsubscribeRequested(channel):
                return self._subscriptions.unsubscribe(channel)
            case ChannelResolved(record, grant, proposals):
                return self._subscriptions.resolved(record, grant, proposals)
            case Relocated(channel, verdict):
                return self._searches.relocated(channel, verdict)
            case Advised(advice):
                return self._switching.on_advice(advice)
            case ProbesWanted(hosts):
                return self._neighbourhood.want_more_links("probes", hosts)
            case ResolveFailed(channel, reason):
                return self._subscriptions.resolve_failed(channel, reason)
            case ChannelNotFound(channel, known):
                return self._subscriptions.not_found(channel, known)
            case Pulled(channel, host):
                return self._upstream.on_pulled(channel, host)
            case Prepared(channel, host):
                return self._standbys.on_prepared(channel, host)
            case PullFailed(channel, host, reason):
                failed = self._standbys.on_failed(channel, host)
                return failed or self._upstream.on_pull_failed(channel, host, reason)
            case LeaveRequested():
                return self._leave()

    @property
    def placement(self) -> Placement | None:
        """Where this host stands; None before the directory answered."""
        return self._neighbourhood.placement

    def may_pull(self, channel: ChannelName, host: HostId) -> bool:
        """Whether a media session for the channel from this host is one we confirmed."""
        return self._downstream.may_pull(channel, host)

    def published(self) -> list[ChannelName]:
        """The channels of our own."""
        return [branch.channel for branch in self._downstream.branches.values() if branch.publishes]

    def publishes(self, channel: ChannelName) -> bool:
        """Whether a channel is our own."""
        branch = self._downstream.branches.get(channel)
        return branch is not None and branch.publishes

    def ends(self, channel: ChannelName) -> bool:
        """Whether a channel of our own is over, but kept for those who have not heard."""
        branch = self._downstream.branches.get(channel)
        return branch is not None and branch.publishes and branch.finished_ticks is not None

    def branches(self) -> list[Branch]:
        """Everything this host carries."""
        return list(self._downstream.branches.values())

    def upstream(self, channel: ChannelName) -> HostId | None:
        """The parent for a channel; None without one."""
        branch = self._downstream.branches.get(channel)
        return None if branch is None else branch.upstream

    def metrics(self, channel: ChannelName) -> PathMetrics | None:
        """How a channel reaches this host; None when it does not."""
        branch = self._downstream.branches.get(channel)
        return None if branch is None else branch.metrics

    def searching(self, channel: ChannelName) -> bool:
        """Whether a parent for a channel is being looked for."""
        return bool(self._searches.own(channel))

    def to_sample(self) -> list[HostId]:
        """The links whose statistics the next tick wants."""
        return self._neighbourhood.to_sample(self._downstream.in_use())

    def links_ms(self) -> dict[HostId, float]:
        """One-way delays of the links that are well measured, ms."""
        return {
            host: link.estimate.one_way_ms
            for host, link in self._neighbourhood.links.items()
            if link.up and link.estimate.samples >= SAMPLES_READY and link.estimate.one_way_ms is not None
        }

    def ready(self) -> bool:
        """Whether every neighbour's link is up and measured."""
        placement = self._neighbourhood.placement
        if placement is None:
            return False
        return all(self._neighbourhood.samples(n.record.host) >= SAMPLES_READY for n in placement.neighbours)

    def view(self) -> HostView:
        """A picture of this host."""
        placement = self._neighbourhood.placement
        labels = () if placement is None else placement.labels
        around = () if placement is None else tuple(sorted({n.record.host for n in placement.neighbours}))
        links = tuple(
            LinkView(host, link.up, link.estimate.one_way_ms, link.estimate.rttvar_ms, link.estimate.loss)
            for host, link in sorted(self._neighbourhood.links.items())
        )
        branches = tuple(
            BranchView(b.channel, b.upstream, tuple(b.children), b.metrics.delay_ms, b.metrics.path, b.contract)
            for _, b in sorted(self._downstream.branches.items())
        )
        return HostView(self.host, labels, around, links, branches)

    def _publish(self, channel: ChannelName, tree: Tree, source: ChannelName | None) -> list[Effect]:
        placement = self._neighbourhood.placement
        if placement is None or channel in self._downstream.branches:
            return []
        self._downstream.publish(channel, tree, source)
        return [Announce(channel, tree)]

    def _leave(self) -> list[Effect]:
        """Children are asked to go first, and fed until they have."""
        self._downstream.leaving, self._leave_ticks = True, LEAVE_TICKS
        children = self._downstream.dependants()
        return [Send(child, Leaving()) for child in sorted(children)] if children else self._go()

    def _go(self) -> list[Effect]:
        self._leave_ticks = None
        return [*self._downstream.leave(), *self._neighbourhood.leave(), Leave()]

    def _tick(self, late_ms: float, now: float) -> list[Effect]:
        heartbeat = self._downstream.heartbeat(self._searches.admission.promised())
        self._failure_detector.tick(late_ms)
        effects, silent = self._neighbourhood.tick(self._downstream.in_use(), heartbeat, now)
        self._neighbourhood.release_measured("probes")
        self._ticks += 1
        if self._ticks % FOLLOW_TICKS == 0:
            effects += self._neighbourhood.follow(self._downstream.parents(), now)
        for host in silent:
            effects += self._searches.on_link_down(host)
        effects += self._searches.tick()
        self._standbys.age()
        for channel, branch in list(self._downstream.branches.items()):
            effects += self._upstream.tick(branch, now)
            if self._downstream.branches.get(channel) is not branch:
                continue
            if branch.finished_ticks is None:
                effects += self._look_up(branch)
            effects += [*self._standbys.tick(branch), *self._downstream.tick(branch)]
        self._switching.forget(set(self._downstream.branches))
        if self._leave_ticks is not None:
            self._leave_ticks -= 1
            if self._leave_ticks <= 0 or not self._downstream.dependants():
                effects += self._go()
        return effects

    def _look_up(self, branch: Branch) -> list[Effect]:
        """Another parent, where there is none, where it leaves, or where a better one is known."""
        if not branch.fed:
            self._neighbourhood.redial_soon()
            return self._searches.repair(branch) if branch.retry_ticks <= 0 else []
        if branch.upstream is not None and self._neighbourhood.is_leaving(branch.upstream):
            return self._searches.escape(branch) if branch.retry_ticks <= 0 else []
        return self._switching.tick(branch)

    def _received(self, host: HostId, message: Message, now: float) -> list[Effect]:
        link = self._neighbourhood.links.get(host)
        if link is None or not link.up:
            return []
        link.silent_ticks = 0
        self._failure_detector.heard(host)
        match message:
            case Hello() | Heartbeat() | Ping() | Pong():
                return self._neighbourhood.heard(host, message, now)
            case PathRequest():
                return self._searches.on_request(host, message)
            case Attach():
                return self._searches.on_attach(host, message)
            case PathOffer():
                return self._searches.on_offer(host, message)
            case PathRefusal():
                return self._searches.on_refusal(host, message)
            case Cancel():
                return self._searches.on_cancel(host, message)
            case Commit():
                return self._searches.on_commit(host, message)
            case Confirm():
                return self._searches.on_confirm(host, message)
            case Release():
                return self._downstream.on_release(host, message)
            case PathUpdate():
                return [*self._upstream.on_path_update(host, message), *self._searches.on_fresh(message.channel)]
            case SubtreeContract():
                return self._downstream.on_subtree_contract(host, message)
            case Relatives():
                return self._upstream.on_relatives(host, message)
            case Ended(finished=finished):
                return (self._downstream if finished else self._upstream).on_ended(host, message)
            case Goodbye():
                effects = [*self._downstream.on_goodbye(host), *self._searches.on_link_down(host)]
                return [
                    *effects,
                    *self._upstream.lose_host(host, "it left the overlay"),
                    *self._neighbourhood.on_goodbye(host),
                ]
            case StandbyRequest():
                return self._standbys.on_standby_request(host, message)
            case StandbyStatus():
                return self._standbys.on_standby_status(host, message)
            case Leaving():
                link.leaving = True
                return []
