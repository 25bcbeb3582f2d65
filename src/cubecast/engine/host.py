"""HostEngine: one host's whole protocol as handle(event, now) -> effects."""

import numpy as np

from cubecast.engine.branches import Branches
from cubecast.engine.effects import Announce, Effect, Leave, Withdraw
from cubecast.engine.events import (
    ChannelNotFound,
    ChannelResolved,
    Event,
    LeaveRequested,
    LinkDown,
    LinkSampled,
    LinkUp,
    MediaSampled,
    Placed,
    PublishFinished,
    PublishRequested,
    PullFailed,
    Received,
    ResolveFailed,
    SubscribeRequested,
    Tick,
    UnsubscribeRequested,
)
from cubecast.engine.membership import Neighbourhood
from cubecast.engine.messages import (
    Cancel,
    Commit,
    Confirm,
    Ended,
    Goodbye,
    PathOffer,
    PathRefusal,
    PathRequest,
    Ping,
    Pong,
    Release,
)
from cubecast.engine.records import Placement
from cubecast.engine.snapshot import BranchView, HostView, LinkView
from cubecast.engine.subscriptions import Subscriptions
from cubecast.overlay.routing import Policy
from cubecast.types import ChannelName, HostId

SAMPLES_READY = 4
"""Samples of every link before its cost is worth a promise."""


class HostEngine:
    """The brain of one host. Pure: the same events at the same times give the same effects."""

    def __init__(self, host: HostId, policy: Policy, fan_out: int, rng: np.random.Generator) -> None:
        """A host that has joined nothing yet.

        Args:
            fan_out: copies this host may send, over all channels.
            rng: drawn from by the Random policy only.
        """
        self.host = host
        self._around = Neighbourhood(host)
        self._branches = Branches(self._around)
        self._searches = Subscriptions(self._around, self._branches, policy, fan_out, rng)

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Takes one event in and says what to do.

        Args:
            now: this host's clock, s since the Unix epoch, never running backwards.
        """
        match event:
            case Received(host, message):
                return self._received(host, message, now)
            case Tick():
                return self._tick(now)
            case LinkSampled(host, rtt_ms, lost, sent):
                link = self._around.links.get(host)
                if link is not None and link.up:
                    link.estimate.sample(rtt_ms, lost, sent)
                return []
            case MediaSampled(channel, bytes_received):
                self._branches.on_media(channel, bytes_received)
                return []
            case Placed(placement):
                return self._around.place(placement)
            case LinkUp(host):
                return self._around.up(host)
            case LinkDown(host):
                self._around.down(host)
                return self._searches.on_link_down(host)
            case PublishRequested(channel):
                return self._publish(channel)
            case PublishFinished(channel):
                return [Withdraw(channel), *self._branches.finish(channel)]
            case SubscribeRequested(channel, bound_ms):
                return self._searches.subscribe(channel, bound_ms)
            case UnsubscribeRequested(channel):
                return self._searches.unsubscribe(channel)
            case ChannelResolved(record, grant):
                return self._searches.resolved(record, grant)
            case ResolveFailed(channel, reason):
                return self._searches.resolve_failed(channel, reason)
            case ChannelNotFound(channel, known):
                return self._searches.not_found(channel, known)
            case PullFailed(channel, host, reason):
                return self._branches.on_pull_failed(channel, host, reason)
            case LeaveRequested():
                return [*self._branches.leave(), *self._around.leave(), Leave()]

    @property
    def placement(self) -> Placement | None:
        """Where this host stands; None before the directory answered."""
        return self._around.placement

    def may_pull(self, channel: ChannelName, host: HostId) -> bool:
        """Whether a media session for the channel from this host is one we confirmed."""
        return self._branches.may_pull(channel, host)

    def ready(self) -> bool:
        """Whether every neighbour's link is up and measured."""
        placement = self._around.placement
        if placement is None:
            return False
        return all(self._around.samples(n.record.host) >= SAMPLES_READY for n in placement.neighbours)

    def view(self) -> HostView:
        """A picture of this host."""
        placement = self._around.placement
        labels = () if placement is None else placement.labels
        around = () if placement is None else tuple(sorted({n.record.host for n in placement.neighbours}))
        links = tuple(
            LinkView(host, link.up, link.estimate.one_way_ms, link.estimate.rttvar_ms, link.estimate.loss)
            for host, link in sorted(self._around.links.items())
        )
        branches = tuple(
            BranchView(b.channel, b.upstream, tuple(b.children), b.reach.delay_ms, b.reach.path, b.bound_ms)
            for _, b in sorted(self._branches.carried.items())
        )
        return HostView(self.host, labels, around, links, branches)

    def _publish(self, channel: ChannelName) -> list[Effect]:
        placement = self._around.placement
        if placement is None or channel in self._branches.carried:
            return []
        self._branches.publish(channel, placement.seat)
        return [Announce(channel)]

    def _tick(self, now: float) -> list[Effect]:
        effects, silent = self._around.tick(self._branches.in_use(), now)
        for host in silent:
            effects += self._searches.on_link_down(host)
        return [*effects, *self._searches.tick(), *self._branches.tick()]

    def _received(self, host: HostId, message: object, now: float) -> list[Effect]:
        link = self._around.links.get(host)
        if link is None or not link.up:
            return []
        link.silent_ticks = 0
        match message:
            case Ping() | Pong():
                return self._around.heard(host, message, now)
            case PathRequest():
                return self._searches.on_request(host, message)
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
                return self._branches.on_release(host, message)
            case Ended():
                return self._branches.on_ended(host, message)
            case Goodbye():
                return [*self._branches.on_goodbye(host), *self._searches.on_link_down(host)]
            case _:
                return []
