"""Requests of other hosts: over the cube through this one (PathRequest), or to be fed by it (Attach)."""

from cubecast.engine.host.effects import Effect, Send
from cubecast.engine.host.search.state import UNFED, Phase, Purpose, Search
from cubecast.engine.host.search.steps import SearchSteps
from cubecast.engine.host.tree.branch import Branch
from cubecast.engine.protocol.messages import Attach, Cancel, Commit, PathRefusal, PathRequest
from cubecast.types import ChannelName, HostId


class RelayRequests:
    """Handles the requests that other hosts send to this one."""

    def __init__(self, steps: SearchSteps) -> None:
        self._steps = steps

    def on_request(self, host: HostId, m: PathRequest) -> list[Effect]:
        """Another host looks for a channel through this one: offer it if it is carried here, else ask the next hops."""
        steps = self._steps
        if self._is_too_many(host, m.ask):
            return [Send(host, PathRefusal(m.ask, m.channel, "too many requests at once", m.tries))]
        search = Search(Purpose.RELAY, host, m.ask, m.channel, m.contract, m.tries, m.epoch, m.target, m.trail, m.grant)
        search.feasibility, search.onward = m.feasibility, m.onward
        steps.searches[host, m.ask] = search
        if steps.admission.full(search):
            search.reason = f"{steps.neighbourhood.host} is full"
            return steps.settle(search)
        branch = steps.downstream.branches.get(search.channel)
        if branch is None:
            return steps.advance(search)
        reason = steps.admission.objection(branch, search)
        if reason:
            search.reason = reason
            return steps.settle(search)
        return steps.offer(search, branch.metrics)

    def on_attach(self, host: HostId, m: Attach) -> list[Effect]:
        """Another host that knows this one carries the channel wants to be its child."""
        steps = self._steps
        if self._is_too_many(host, m.ask):
            return [Send(host, PathRefusal(m.ask, m.channel, "too many requests at once", 0))]
        search = Search(Purpose.RELAY, host, m.ask, m.channel, m.contract, 0, trail=m.trail, grant=m.grant)
        search.feasibility, search.phase = m.feasibility, Phase.PARKED
        steps.searches[host, m.ask] = search
        branch, mine = steps.downstream.branches.get(m.channel), steps.neighbourhood.host
        if branch is None:
            search.reason = f"{mine} does not carry the channel"
        elif steps.admission.full(search):
            search.reason = f"{mine} is full"
            if steps.downstream.slot_promised_to(m.channel, host) is not None:
                return []  # parked until its parent is silent here too
        elif host == branch.upstream or host in branch.metrics.path:
            search.reason = f"{mine} is a descendant of {host}"
        elif branch.finished_ticks is not None:
            search.reason = "the channel is over"
        elif not branch.fed:
            search.reason = f"{mine} {UNFED}"
        else:
            return self._unpark(search, branch)
        return steps.settle(search)

    def _is_too_many(self, host: HostId, ask: int) -> bool:
        searches = self._steps.searches
        return (host, ask) in searches or len(searches) >= self._steps.config.searches_max

    def on_new_seqno(self, channel: ChannelName) -> list[Effect]:
        """A path update has arrived: hosts that waited for a newer sequence number may become children now."""
        steps = self._steps
        branch = steps.downstream.branches.get(channel)
        effects: list[Effect] = []
        if branch is not None:
            for search in list(steps.searches.values()):
                if search.phase is Phase.PARKED and search.channel == channel:
                    effects += self._unpark(search, branch)
        return effects

    def _unpark(self, search: Search, branch: Branch) -> list[Effect]:
        feasible = search.feasibility.allows(branch.metrics.seqno, branch.metrics.depth)
        return self._steps.grant(search) if branch.fed and feasible else []

    def on_cancel(self, host: HostId, m: Cancel) -> list[Effect]:
        """The asker does not accept the offer, or no longer waits for one."""
        search = self._steps.searches.get((host, m.ask))
        return [] if search is None else self._steps.abandon(search)

    def on_commit(self, host: HostId, m: Commit) -> list[Effect]:
        """The asker accepts the offer: confirm it if the channel is carried here, or commit to the next hop's offer."""
        steps = self._steps
        search = steps.searches.get((host, m.ask))
        if search is None or search.phase is not Phase.OFFERED:
            return [Send(host, PathRefusal(m.ask, ChannelName(""), "the offer has expired", 0))]
        branch = steps.downstream.branches.get(search.channel)
        if branch is not None:
            search.reason = steps.admission.objection(branch, search)
            return steps.answer(search, None) if search.reason else steps.grant(search)
        if search.best is None:
            steps.drop(search)
            return [Send(host, PathRefusal(m.ask, search.channel, "the stream ended meanwhile", 0))]
        search.phase, search.age_ticks = Phase.COMMITTING, 0
        return [Send(search.best.host, Commit(search.best.ask))]

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
        search.reason = f"{mine} is full" if full else f"{mine} may be a descendant of {search.asker}"
        return steps.settle(search)
