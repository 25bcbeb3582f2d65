"""Answers to a search: offers, refusals, confirmations, and links that break while it waits."""

from cubecast.engine.host.effects import Effect, Send
from cubecast.engine.host.search.machine import Move, Phase
from cubecast.engine.host.search.state import DESCENDANT, SILENT, Offer, Purpose, Search
from cubecast.engine.host.search.steps import SearchSteps
from cubecast.engine.protocol.messages import Cancel, Confirm, PathOffer, PathRefusal
from cubecast.engine.protocol.path import PathMetrics
from cubecast.types import HostId

BACK = "leads back here"
SHUNNED = "leads over a host from which media came that is not the publisher's"


class SearchAnswers:
    """Handles the answers to requests that this host sent."""

    def __init__(self, steps: SearchSteps) -> None:
        self._steps = steps

    def on_offer(self, host: HostId, m: PathOffer) -> list[Effect]:
        """A next hop found a path: it is kept if it is better than the best so far."""
        steps = self._steps
        search = steps.asked.get(m.ask)
        if search is None or search.asked != (host, m.ask) or search.phase is not Phase.REQUESTING:
            return [Send(host, Cancel(m.ask))]
        search.move(Move.CHOOSE)
        search.asked, search.tries = None, min(search.tries, m.tries)
        metrics = steps.upstream.metrics_through(host, m.metrics)
        if metrics is None or steps.upstream.shuns(search.channel, m.metrics.path):
            search.reason = f"the path through {host} " + (BACK if metrics is None else SHUNNED)
            steps.asked.pop(m.ask, None)
            return [Send(host, Cancel(m.ask)), *steps.advance(search)]
        effects: list[Effect] = []
        offer = worse = Offer(host, m.ask, metrics)
        rank = search.contract.rank
        if search.best is None or rank(metrics) < rank(search.best.metrics):
            search.best, worse = offer, search.best or offer
        if worse is not search.best:
            steps.asked.pop(worse.ask, None)
            effects.append(Send(worse.host, Cancel(worse.ask)))
        kept = search.contract.kept_by(search.best.metrics)
        return effects + (steps.settle(search) if kept else steps.advance(search))

    def on_refusal(self, host: HostId, m: PathRefusal) -> list[Effect]:
        """A host found nothing, or its offer is gone."""
        steps = self._steps
        search = steps.asked.get(m.ask)
        if search is None:
            return []
        if search.phase is Phase.COMMITTING and search.best is not None and search.best.host == host:
            return self._offer_is_gone(search, m.reason)
        if search.asked != (host, m.ask):
            return []
        steps.asked.pop(m.ask, None)
        search.asked = None
        search.note(m.reason)
        if search.phase is Phase.ATTACHING or m.reason.startswith(f"{host} "):
            search.declined[host] = m.reason
        if search.phase is Phase.REQUESTING:
            search.tries = min(search.tries, m.tries)
        else:
            steps.neighbourhood.links.drop_channel(host, search.channel)
        return steps.choose(search)

    def _offer_is_gone(self, search: Search, reason: str) -> list[Effect]:
        """The best offer is no longer held: the tree has changed meanwhile, so next hops are asked again."""
        steps = self._steps
        assert search.best is not None, "the caller checked"
        steps.asked.pop(search.best.ask, None)
        search.note(reason)
        search.best = None
        if search.purpose is Purpose.RELAY:
            search.move(Move.CHOOSE)
            return steps.settle(search)
        search.over_cube = search.routes is not None  # the other routes are still to be asked
        return steps.choose(search)

    def on_confirm(self, host: HostId, m: Confirm) -> list[Effect]:
        """A host accepts us as a child: adopt it as the parent, or decline if it is not suitable."""
        steps = self._steps
        search, record = steps.asked.get(m.ask), steps.neighbourhood.links.record(host)
        if search is None:
            return steps.decline(host, m.channel)
        attached = search.phase is Phase.ATTACHING and search.asked == (host, m.ask)
        if not attached and not _commits_to(search, host):
            return steps.decline(host, m.channel)
        search.move(Move.CHOOSE)
        steps.asked.pop(m.ask, None)
        search.asked = search.best = None
        metrics = steps.upstream.metrics_through(host, m.metrics)
        reason = self._objection(search, host, m.metrics, metrics)
        if record is None or metrics is None or reason:
            search.note(reason or f"{host} has not sent its record yet")
            onward = steps.advance(search) if attached else steps.settle(search)
            return [*steps.decline(host, m.channel), *onward]
        return steps.kinds[search.purpose].confirmed(search, record, metrics)

    def _objection(self, search: Search, host: HostId, there: PathMetrics, metrics: PathMetrics | None) -> str:
        """Why a host that confirmed cannot be the parent; empty when it can."""
        steps = self._steps
        if metrics is None:
            return f"the path through {host} {BACK}"
        if steps.upstream.shuns(search.channel, there.path):
            return f"the path through {host} {SHUNNED}"
        branch = steps.downstream.branches.get(search.channel)
        if branch is not None and there.publication != branch.metrics.publication:
            return f"{host} carries another stream of that name"
        if not steps.downstream.feasibility(search.channel).allows(there.seqno, there.depth, there.publication):
            return f"{host} {DESCENDANT} {steps.neighbourhood.host}"
        return steps.kinds[search.purpose].objection(search, host, metrics)

    def on_link_down(self, host: HostId) -> list[Effect]:
        """Searches that wait for this host continue without it; its own requests are dropped."""
        steps = self._steps
        effects: list[Effect] = []
        for search in list(steps.searches.values()):
            effects += steps.end(search) if search.requester == host else self.on_silent(search, host)
        return effects

    def on_silent(self, search: Search, host: HostId) -> list[Effect]:
        """A search continues without this host, if it waits for it or holds an offer of it."""
        steps = self._steps
        if search.asked is not None and search.asked[0] == host:
            refusal = PathRefusal(search.asked[1], search.channel, f"{host} {SILENT}", search.tries)
            return self.on_refusal(host, refusal)
        if not _commits_to(search, host, phase=None):
            return []
        assert search.best is not None, "it commits to an offer"
        ask, search.best = search.best.ask, None
        steps.asked.pop(ask, None)
        search.note(f"{host} {SILENT}")
        if search.phase is not Phase.COMMITTING:
            return []
        search.move(Move.CHOOSE)
        return steps.settle(search)


def _commits_to(search: Search, host: HostId, phase: Phase | None = Phase.COMMITTING) -> bool:
    """Whether a search holds an offer of a host, in a phase; None for any."""
    return search.best is not None and search.best.host == host and phase in (None, search.phase)
