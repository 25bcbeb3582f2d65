"""HostEngine: one host's whole protocol as handle(event, now) -> effects. Passes each event to its components."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from cubecast.engine.host.config import DEFAULT, EngineConfig
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
    MediaRejected,
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
    RequestRejected,
    ResolveFailed,
    RoutesFound,
    SubscribeRequested,
    Tick,
    UnsubscribeRequested,
)
from cubecast.engine.host.failure_detector import FailureDetector
from cubecast.engine.host.neighbourhood import Neighbourhood
from cubecast.engine.host.optimise.standby import StandbySelection
from cubecast.engine.host.optimise.switching import ParentSwitching
from cubecast.engine.host.search.candidates import Candidates
from cubecast.engine.host.search.machine import IllegalMove
from cubecast.engine.host.search.searches import Searches
from cubecast.engine.host.snapshot import BranchView, ConsideredView, HostView, LinkView
from cubecast.engine.host.tree.branch import Branch
from cubecast.engine.host.tree.downstream import Downstream
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
    SeqnoRequest,
    StandbyRequest,
    StandbyStatus,
    SubtreeContract,
)
from cubecast.engine.protocol.path import PathMetrics
from cubecast.engine.protocol.ranges import NUMBER_MAX
from cubecast.engine.protocol.records import Placement, Tree
from cubecast.overlay.routing import Policy
from cubecast.types import ChannelName, HostId


class HostEngine:
    """One host's protocol. Pure: the same events at the same times give the same effects."""

    def __init__(
        self,
        host: HostId,
        policy: Policy,
        fan_out: int,
        rng: np.random.Generator,
        config: EngineConfig = DEFAULT,
        uplink_bps: float = NUMBER_MAX,
        reserve: Mapping[ChannelName, int] = MappingProxyType({}),
        on_illegal_move: Callable[[IllegalMove], None] | None = None,
    ) -> None:
        """A host that has not joined yet.

        Args:
            fan_out: copies this host may send, over all channels.
            rng: drawn from by the Random policy only.
            config: tunables; config.tick_s is the period of Tick.
            uplink_bps: greatest rate of all copies together.
            reserve: copies reserved for channels.
            on_illegal_move: called instead of raising IllegalMove, which is a fault of the engine; it then ends the searches
                concerned and goes on.
        """
        self.host = host
        self._on_illegal_move = on_illegal_move
        self._config = config
        self._neighbourhood = near = Neighbourhood(host, config)
        self._downstream = down = Downstream(near, fan_out, uplink_bps, reserve, config)
        self._failure_detector = FailureDetector(config.failure)
        self._upstream = up = Upstream(near, down, self._failure_detector, config)
        self._candidates = Candidates(near, down, up, policy, rng, config)
        self._searches = Searches(near, down, up, self._candidates, config)
        self._admission = self._searches.steps.admission
        self._standbys = StandbySelection(near, down, self._candidates, self._admission.promised, config)
        self._switching = ParentSwitching(near, up, self._candidates, self._searches, self._failure_detector, config)
        self._leave_ticks: int | None = None
        """Ticks until this host leaves even if children have no other parent yet; None unless it is about to leave."""

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Handles one event and returns the effects to perform, in order.

        Args:
            now: this host's clock, s since the Unix epoch, never running backwards.

        Raises:
            IllegalMove: a fault of the engine, unless `on_illegal_move` was given.
        """
        self._neighbourhood.now = now
        try:
            effects = self._handle(event, now)
        except IllegalMove as fault:
            if self._on_illegal_move is None:
                raise
            self._on_illegal_move(fault)
            effects = self._searches.end_undecided()
        for effect in effects:
            if isinstance(effect, ParentChanged):
                self._switching.on_parent_changed(effect.channel, effect.before)
        return effects

    def _handle(self, event: Event, now: float) -> list[Effect]:
        match event:
            case Received(host, message):
                return self._received(host, message)
            case RequestRejected(host, message, reason):
                if isinstance(message, StandbyRequest):
                    return [Send(host, StandbyStatus(message.channel, ready=False))]
                return [Send(host, PathRefusal(message.ask, message.channel, reason, 0))]
            case Tick(late_ms):
                return self._tick(late_ms, now)
            case LinkSampled() | MediaSampled() | ProcessingMeasured() | ContractMeasured():
                return self._record(event)
            case Placed(placement):
                return self._neighbourhood.on_placement(placement)
            case LinkUp(host):
                return self._neighbourhood.on_link_up(host)
            case LinkDown(host):
                self._neighbourhood.on_link_down(host)
                return self._searches.answers.on_link_down(host)
            case PublishRequested(channel, tree, source):
                return self._publish(channel, tree, source, now)
            case PublishFinished(channel):
                return [Withdraw(channel), *self._downstream.finish(channel)]
            case SubscribeRequested(channel, contract):
                return self._searches.joins.subscribe(channel, contract)
            case UnsubscribeRequested(channel):
                return self._searches.joins.unsubscribe(channel)
            case ChannelResolved(record, proposals):
                return self._searches.joins.on_resolved(record, proposals)
            case RoutesFound(channel, answer):
                return self._searches.joins.on_routes(channel, answer)
            case Relocated(channel, verdict):
                return self._searches.joins.on_relocated(channel, verdict)
            case Advised(advice):
                return self._switching.on_advice(advice)
            case ProbesWanted(hosts):
                return self._neighbourhood.want_more_links("probes", hosts)
            case ResolveFailed(channel, reason):
                return self._searches.joins.on_resolve_failed(channel, reason)
            case ChannelNotFound(channel, known):
                return self._searches.joins.on_not_found(channel, known)
            case Pulled(channel, host):
                return self._upstream.on_pulled(channel, host)
            case Prepared(channel, host):
                return self._standbys.on_prepared(channel, host)
            case PullFailed(channel, host, reason):
                return self._standbys.on_failed(channel, host) or self._upstream.on_pull_failed(channel, host, reason)
            case MediaRejected(channel, parent, fault):
                return self._upstream.on_media_rejected(channel, parent, fault)
            case LeaveRequested():
                return self._leave()

    def _record(self, event: LinkSampled | MediaSampled | ProcessingMeasured | ContractMeasured) -> list[Effect]:
        """Records a measurement of the shell; decisions that depend on it are made at the next tick."""
        match event:
            case LinkSampled(host, rtt_ms, lost, sent):
                self._neighbourhood.links.sampled(host, rtt_ms, lost, sent)
            case MediaSampled(channel, host, bytes_received):
                self._upstream.on_media(channel, host, bytes_received)
            case ProcessingMeasured(channel, delay_ms, spread_ms):
                self._downstream.processed(channel, delay_ms, spread_ms)
            case ContractMeasured(channel, compliance):
                self._downstream.measured(channel, compliance)
        return []

    @property
    def placement(self) -> Placement | None:
        """This host's position in the cube; None before the directory answered."""
        return self._neighbourhood.placement

    def may_pull(self, channel: ChannelName, host: HostId) -> bool:
        """Whether a host may open a media session for a channel: it is a child, or this host is its standby."""
        return self._downstream.may_pull(channel, host)

    def key(self, host: HostId) -> str | None:
        """The public key of a host that there is a link to, hex; None while its record is unknown."""
        record = self._neighbourhood.links.record(host)
        return None if record is None else record.key

    def published(self) -> list[ChannelName]:
        """The channels that this host publishes."""
        return [branch.channel for branch in self._downstream.branches.values() if branch.publishes]

    def publishes(self, channel: ChannelName) -> bool:
        """Whether this host publishes a channel."""
        branch = self._downstream.branches.get(channel)
        return branch is not None and branch.publishes

    def is_ending(self, channel: ChannelName) -> bool:
        """Whether a channel may be free to publish soon: published here and over, or carried without a parent.

        The first is kept for children that do not have it all yet, the second until a repair succeeds or is given up.
        """
        branch = self._downstream.branches.get(channel)
        if branch is None:
            return False
        return branch.finished_ticks is not None if branch.publishes else not branch.fed

    def branches(self) -> list[Branch]:
        """The channels that this host carries."""
        return list(self._downstream.branches.values())

    def upstream(self, channel: ChannelName) -> HostId | None:
        """The parent for a channel; None without one."""
        branch = self._downstream.branches.get(channel)
        return None if branch is None else branch.upstream

    def metrics(self, channel: ChannelName) -> PathMetrics | None:
        """The path of a channel to this host; None when it is not carried."""
        branch = self._downstream.branches.get(channel)
        return None if branch is None else branch.metrics

    def searching(self, channel: ChannelName) -> bool:
        """Whether a search for a parent is under way for a channel."""
        return bool(self._searches.steps.own(channel))

    def to_sample(self) -> list[HostId]:
        """The links whose transport statistics are wanted before the next tick."""
        return self._neighbourhood.links.to_sample(self._downstream.in_use())

    def links_ms(self) -> dict[HostId, float]:
        """One-way delays of the links with enough samples, ms."""
        return {
            host: link.estimate.one_way_ms
            for host, link in self._neighbourhood.links.items()
            if link.up
            and link.estimate.samples >= self._config.links.samples_ready
            and link.estimate.one_way_ms is not None
        }

    def ready(self) -> bool:
        """Whether the links to all neighbours in the cube are up and measured."""
        placement = self._neighbourhood.placement
        return placement is not None and all(
            self._neighbourhood.links.samples(n.record.host) >= self._config.links.samples_ready
            for n in placement.neighbours
        )

    def view(self) -> HostView:
        """A snapshot for status lines, metrics and tests."""
        placement = self._neighbourhood.placement
        labels = () if placement is None else placement.labels
        around = () if placement is None else tuple(sorted({n.record.host for n in placement.neighbours}))
        links = tuple(
            LinkView(host, link.up, link.estimate.one_way_ms, link.estimate.rttvar_ms, link.estimate.loss)
            for host, link in sorted(self._neighbourhood.links.items())
        )
        branches = tuple(
            BranchView(b.channel, b.upstream, tuple(b.below.children), b.metrics.delay_ms, b.metrics.path, b.contract)
            for _, b in sorted(self._downstream.branches.items())
        )
        return HostView(self.host, labels, around, links, branches)

    def considered(self, channel: ChannelName) -> tuple[ConsideredView, ...]:
        """The hosts that could be parents for a channel, best first."""
        return self._candidates.considered(channel)

    def _publish(self, channel: ChannelName, tree: Tree, source: ChannelName | None, now: float) -> list[Effect]:
        placement = self._neighbourhood.placement
        if placement is None or channel in self._downstream.branches:
            return []
        publication = 0 if source is not None else int(now * 1000)
        self._downstream.publish(channel, tree, source, publication)
        return [Announce(channel, tree)]

    def _leave(self) -> list[Effect]:
        """Children are asked to find other parents first, and fed until they have."""
        self._downstream.leaving, self._leave_ticks = True, self._config.tree.leave_ticks
        children = self._downstream.dependants()
        return [Send(child, Leaving()) for child in sorted(children)] if children else self._leave_now()

    def _leave_now(self) -> list[Effect]:
        self._leave_ticks = None
        return [*self._downstream.leave(), *self._neighbourhood.leave(), Leave()]

    def _tick(self, late_ms: float, now: float) -> list[Effect]:
        heartbeat = self._downstream.heartbeats(self._admission.promised())
        self._failure_detector.tick(late_ms)
        effects, silent = self._neighbourhood.tick(self._downstream.above(), self._downstream.in_use(), heartbeat)
        self._neighbourhood.drop_measured("probes")
        effects += self._neighbourhood.follow(self._downstream.parents())
        for host in silent:
            effects += self._searches.answers.on_link_down(host)
        effects += self._searches.tick()
        self._standbys.age()
        for channel, branch in list(self._downstream.branches.items()):
            effects += self._upstream.tick(branch, now)
            if self._downstream.branches.get(channel) is not branch:
                continue
            if branch.finished_ticks is None:
                effects += self._look_for_parent(branch)
            effects += [*self._standbys.tick(branch), *self._downstream.tick(branch)]
        self._switching.forget(set(self._downstream.branches))
        if self._leave_ticks is not None:
            self._leave_ticks -= 1
            if self._leave_ticks <= 0 or not self._downstream.dependants():
                effects += self._leave_now()
        return effects

    def _look_for_parent(self, branch: Branch) -> list[Effect]:
        """Looks for another parent where there is none, where it leaves, or where a better one is known."""
        if not branch.fed:
            self._neighbourhood.redial_soon()
            return self._searches.repairs.begin(branch) if branch.lost.retry_ticks <= 0 else []
        if branch.upstream is not None and self._neighbourhood.links.is_leaving(branch.upstream):
            return self._searches.changes.escape(branch) if branch.lost.retry_ticks <= 0 else []
        return self._switching.tick(branch)

    def _received(self, host: HostId, message: Message) -> list[Effect]:
        if not self._neighbourhood.on_message(host):
            return []
        self._failure_detector.on_message(host)
        match message:
            case Hello() | Heartbeat() | Ping() | Pong():
                return self._neighbourhood.on_link_message(host, message)
            case PathRequest():
                return self._searches.relay.on_request(host, message)
            case Attach():
                return self._searches.relay.on_attach(host, message)
            case PathOffer():
                return self._searches.answers.on_offer(host, message)
            case PathRefusal():
                return self._searches.answers.on_refusal(host, message)
            case Cancel():
                return self._searches.relay.on_cancel(host, message)
            case Commit():
                return self._searches.relay.on_commit(host, message)
            case Confirm():
                return self._searches.answers.on_confirm(host, message)
            case Release():
                return self._downstream.on_release(host, message)
            case PathUpdate():
                self._neighbourhood.on_exchange(host, message)
                return [
                    *self._upstream.on_path_update(host, message),
                    *self._searches.relay.on_new_seqno(message.channel),
                ]
            case SubtreeContract():
                return self._downstream.on_subtree_contract(host, message)
            case SeqnoRequest():
                return self._upstream.on_seqno_request(host, message)
            case Relatives():
                return self._upstream.on_relatives(host, message)
            case Ended(finished=finished):
                return (self._downstream if finished else self._upstream).on_ended(host, message)
            case Goodbye():
                effects = [*self._downstream.on_goodbye(host), *self._searches.answers.on_link_down(host)]
                effects += self._upstream.lose_host(host, "it left the overlay")
                return effects + self._neighbourhood.on_goodbye(host)
            case StandbyRequest():
                return self._standbys.on_standby_request(host, message)
            case StandbyStatus():
                return self._standbys.on_standby_status(host, message)
            case Leaving():
                self._neighbourhood.links[host].leaving = True
                return []
