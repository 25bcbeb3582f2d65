"""RELAY: other hosts look for a path through this one (PathRequest), or want to be its children (Attach)."""

from cubecast.engine.host.effects import Effect, Push, Send
from cubecast.engine.host.search.machine import Move, Phase
from cubecast.engine.host.search.state import (
    DESCENDANT,
    ENDED_MEANWHILE,
    EXPIRED,
    FULL,
    NOT_CARRIED,
    UNFED,
    Offer,
    Purpose,
    Search,
)
from cubecast.engine.host.search.steps import Kind, SearchSteps
from cubecast.engine.host.tree.branch import Branch
from cubecast.engine.protocol.messages import Attach, Cancel, Commit, Confirm, PathOffer, PathRefusal, PathRequest
from cubecast.engine.protocol.path import PathMetrics
from cubecast.engine.protocol.records import HostRecord
from cubecast.texts import one_line
from cubecast.types import ChannelName, HostId


class RelayRequests(Kind):
    """The requests that other hosts send to this one."""

    def __init__(self, steps: SearchSteps) -> None:
        self._steps = steps

    # ------------------------------------------------------------------ messages

    def on_request(self, host: HostId, m: PathRequest) -> list[Effect]:
        """Another host looks for a channel through this one: offer it if it is carried here, else ask the next hops."""
        steps = self._steps
        if self._is_too_many(host, m.ask):
            return [Send(host, PathRefusal(m.ask, m.channel, "too many requests at once", m.tries))]
        search = Search(Purpose.RELAY, host, m.ask, m.channel, m.contract, m.tries, m.epoch, m.target, m.trail)
        search.feasibility, search.onward, search.offers = m.feasibility, m.onward, True
        steps.searches[host, m.ask] = search
        if steps.admission.full(search):
            search.reason = f"{steps.neighbourhood.host} {FULL}"
            return steps.settle(search)
        branch = steps.downstream.branches.get(search.channel)
        if branch is None and search.onward and not self._is_measured(search.onward[0]):
            search.move(Move.PROBE)  # the directory has asked this host to measure the link
            return []
        if branch is None:
            return steps.advance(search)
        reason = steps.admission.objection(branch, search)
        if not reason:
            return self._offer(search, branch.metrics)
        if steps.admission.is_served(branch) and host not in branch.metrics.path:
            search.move(Move.PARK)  # until a newer sequence number shows that this host is no descendant
            return steps.upstream.request_seqno(branch)
        search.reason = reason
        return steps.settle(search)

    def on_attach(self, host: HostId, m: Attach) -> list[Effect]:
        """Another host that knows this one carries the channel wants to be its child."""
        steps = self._steps
        if self._is_too_many(host, m.ask):
            return [Send(host, PathRefusal(m.ask, m.channel, "too many requests at once", 0))]
        search = Search(Purpose.RELAY, host, m.ask, m.channel, m.contract, 0, trail=m.trail)
        search.feasibility = m.feasibility
        steps.searches[host, m.ask] = search
        branch, mine = steps.downstream.branches.get(m.channel), steps.neighbourhood.host
        if branch is None:
            search.reason = f"{mine} {NOT_CARRIED}"
        elif steps.admission.full(search):
            search.reason = f"{mine} {FULL}"
            parent = steps.downstream.slot_promised_to(m.channel, host)
            if parent is not None:
                search.move(Move.PARK)  # until its parent has not answered here either
                return steps.neighbourhood.ping(parent)
        elif host == branch.upstream or host in branch.metrics.path:
            search.reason = f"{mine} is a descendant of {host}"
        elif branch.finished_ticks is not None:
            search.reason = "the channel is over"
        elif not branch.fed:
            search.reason = f"{mine} {UNFED}"
        else:
            search.move(Move.PARK)
            return self._unpark(search, branch) or steps.upstream.request_seqno(branch)
        return steps.settle(search)

    def _is_too_many(self, host: HostId, ask: int) -> bool:
        searches = self._steps.searches
        return (host, ask) in searches or len(searches) >= self._steps.config.searches_max

    def on_cancel(self, host: HostId, m: Cancel) -> list[Effect]:
        """The requester does not accept the offer, or no longer waits for one."""
        search = self._steps.searches.get((host, m.ask))
        return [] if search is None else self._steps.end(search)

    def on_commit(self, host: HostId, m: Commit) -> list[Effect]:
        """The requester accepts the offer: confirm it if the channel is carried here, or commit to the next hop's offer."""
        steps = self._steps
        search = steps.searches.get((host, m.ask))
        if search is None or search.phase is not Phase.OFFERED:
            return [Send(host, PathRefusal(m.ask, ChannelName(""), EXPIRED, 0))]
        search.move(Move.CHOOSE)
        branch = steps.downstream.branches.get(search.channel)
        if branch is not None:
            search.reason = steps.admission.objection(branch, search)
            return self._answer(search, None) if search.reason else self._confirm(search)
        if search.best is None:
            steps.end(search)
            return [Send(host, PathRefusal(m.ask, search.channel, ENDED_MEANWHILE, 0))]
        return steps.commit(search)

    # ------------------------------------------------------------------ requests that wait

    def on_new_seqno(self, channel: ChannelName) -> list[Effect]:
        """A path update has arrived: hosts that waited for a newer sequence number may become children now."""
        steps = self._steps
        branch = steps.downstream.branches.get(channel)
        effects: list[Effect] = []
        if branch is not None:
            for search in list(steps.searches.values()):
                if search.phase is Phase.PARKED and search.channel == channel and not steps.admission.full(search):
                    effects += self._unpark(search, branch)
        return effects

    def _unpark(self, search: Search, branch: Branch) -> list[Effect]:
        metrics = branch.metrics
        if not branch.fed or not search.feasibility.allows(metrics.seqno, metrics.depth, metrics.publication):
            return []
        search.move(Move.CHOOSE)
        return self._offer(search, metrics) if search.offers else self._confirm(search)

    def tick_parked(self, search: Search) -> list[Effect]:
        """Accepts a parked host once that is possible; refuses it when it has waited long enough."""
        steps = self._steps
        branch = steps.downstream.branches.get(search.channel)
        if branch is not None and not steps.admission.full(search):
            effects = self._unpark(search, branch)
            if effects:
                return effects
        if search.age_ticks < steps.config.park_ticks:
            return []
        mine = steps.neighbourhood.host
        full = steps.admission.full(search)
        search.reason = f"{mine} {FULL}" if full else f"{mine} {DESCENDANT} {search.requester}"
        search.move(Move.CHOOSE)
        return steps.settle(search)

    def tick_probing(self, search: Search) -> list[Effect]:
        """Goes on once the link to the next host of the route is measured, or has had time enough."""
        if not self._is_measured(search.onward[0]) and search.age_ticks < self._steps.config.route_ticks:
            return []
        return self._steps.choose(search)

    def _is_measured(self, host: HostId) -> bool:
        return self._steps.neighbourhood.links.samples(host) >= self._steps.config.probe_samples

    # ------------------------------------------------------------------ the ends of a search

    def settle(self, search: Search) -> list[Effect]:
        """Answers with the best offer, or with a refusal."""
        best = search.best
        if best is not None and self._steps.admission.full(search):  # others may have taken the copies meanwhile
            search.reason, best = f"{self._steps.neighbourhood.host} {FULL}", None
        return self._answer(search, best)

    def fail(self, search: Search) -> list[Effect]:
        """Refuses."""
        return self._answer(search, None)

    def confirmed(self, search: Search, record: HostRecord, metrics: PathMetrics) -> list[Effect]:
        """Makes the host the parent, unless there is one already, and confirms to the requester."""
        steps = self._steps
        if search.channel in steps.downstream.branches:
            return [*steps.decline(record.host, search.channel), *self._confirm(search)]
        branch = Branch(search.channel, None, metrics, trail=search.trail)
        branch.epoch, branch.target = search.epoch, search.target
        return [*steps.upstream.adopt(branch, record, metrics), *self._confirm(search)]

    def _answer(self, search: Search, best: Offer | None) -> list[Effect]:
        """Answers the requester with an offer, or with a refusal."""
        if best is None:
            refusal = PathRefusal(search.ask, search.channel, one_line(search.reason), search.tries)
            return [*self._steps.end(search), Send(search.requester, refusal)]
        return self._offer(search, best.metrics)

    def _offer(self, search: Search, metrics: PathMetrics) -> list[Effect]:
        search.move(Move.OFFER)
        offer = PathOffer(search.ask, search.channel, self._steps.downstream.advertised(metrics), search.tries)
        return [Send(search.requester, offer)]

    def _confirm(self, search: Search) -> list[Effect]:
        """Makes the requester a child, unless others took the last copy meanwhile."""
        steps = self._steps
        if steps.admission.full(search):
            search.reason = f"{steps.neighbourhood.host} {FULL}"
            return self._answer(search, None)
        branch = steps.downstream.branches[search.channel]
        metrics = branch.metrics
        evicted = steps.admission.free_slot(search, branch)
        steps.downstream.feed(branch, search.requester, search.contract)
        advertised = steps.downstream.advertised(metrics, branch.copy_bps)
        confirm = Send(search.requester, Confirm(search.ask, branch.channel, advertised))
        child = steps.neighbourhood.links.record(search.requester)
        push = [Push(branch.channel, child)] if steps.neighbourhood.hidden and child is not None else []
        return [*steps.end(search), *evicted, confirm, *push]
