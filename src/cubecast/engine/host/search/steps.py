"""The steps that all searches share: ask the next candidate, settle on an offer, admit, refuse, cancel.

Hosts that are known to carry the channel are asked first, best first; one of them may attach this host at once. Else the
search goes over the cube, hop by hop: each host asks the next hops that its policy allows, best first, until an offer
keeps what is left of the contract, and answers with the best it found. So the bound chooses the path; under ODR, which
allows one next hop, there is one path to choose from. A host that already carries the channel grafts the request: it
offers its own delay.
"""

from math import ceil

from cubecast.engine.host.config import EngineConfig
from cubecast.engine.host.effects import Admitted, Effect, Push, Refused, Relocate, Send
from cubecast.engine.host.neighbourhood import Neighbourhood
from cubecast.engine.host.search.admission import Admission
from cubecast.engine.host.search.candidates import Candidates
from cubecast.engine.host.search.state import TRANSIENT, Hop, Offer, Phase, Purpose, Search
from cubecast.engine.host.tree.downstream import Downstream
from cubecast.engine.host.tree.upstream import Upstream
from cubecast.engine.protocol.messages import (
    Attach,
    Cancel,
    Commit,
    Confirm,
    PathOffer,
    PathRefusal,
    PathRequest,
    Release,
)
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.records import Tree
from cubecast.types import ChannelName, HostId


class SearchSteps:
    """All searches under way, this host's own and those for others, and the steps they take."""

    def __init__(
        self,
        neighbourhood: Neighbourhood,
        downstream: Downstream,
        upstream: Upstream,
        candidates: Candidates,
        config: EngineConfig,
    ) -> None:
        self.neighbourhood = neighbourhood
        self.downstream = downstream
        self.upstream = upstream
        self.candidates = candidates
        self.config = config.search
        self._tick_s = config.tick_s
        self.searches: dict[tuple[HostId, int], Search] = {}
        """By asker and the asker's number."""
        self.asked: dict[int, Search] = {}
        """By the number of a request of ours that was not answered, or whose offer is held."""
        self.admission = Admission(neighbourhood.host, downstream, self.searches)
        self._asks = 0

    # ------------------------------------------------------------------ the table of searches

    def open(self, purpose: Purpose, channel: ChannelName, contract: Contract) -> Search:
        """Adds a search of our own; it asks no host yet."""
        search = Search(purpose, self.neighbourhood.host, self._next_ask(), channel, contract, self.config.tries)
        self.searches[search.asker, search.ask] = search
        return search

    def own(self, channel: ChannelName) -> list[Search]:
        """Our own searches for a channel."""
        mine = self.neighbourhood.host
        return [s for s in self.searches.values() if s.asker == mine and s.channel == channel]

    def abandon(self, search: Search) -> list[Effect]:
        """Removes a search, and cancels its offer and its open request at other hosts."""
        self.drop(search)
        effects = self._cancel_held(search)
        if search.purpose is Purpose.JOIN and search.channel not in self.downstream.branches:
            effects += self.neighbourhood.want_links(search.channel, ())
        return effects

    def drop(self, search: Search) -> None:
        """Removes a search that has no offer and no open request."""
        self.searches.pop((search.asker, search.ask), None)

    def _cancel_held(self, search: Search) -> list[Effect]:
        """Cancels the offer that a search holds, and the request it waits for."""
        held = [] if search.asked is None else [search.asked]
        if search.best is not None:
            held.append((search.best.host, search.best.ask))
        search.asked = search.best = None
        for _, ask in held:
            self.asked.pop(ask, None)
        return [Send(host, Cancel(ask)) for host, ask in held]

    def decline(self, host: HostId, channel: ChannelName) -> list[Effect]:
        """Releases a confirmed branch that is not wanted, unless its host feeds this one."""
        branch = self.downstream.branches.get(channel)
        feeds = branch is not None and host in (branch.upstream, branch.former)
        return [] if feeds else [Send(host, Release(channel))]

    def _next_ask(self) -> int:
        self._asks += 1
        return self._asks

    # ------------------------------------------------------------------ asking

    def advance(self, search: Search) -> list[Effect]:
        """Asks the next candidate, or settles when none is left."""
        links = self.neighbourhood.links
        while search.direct:
            host = search.direct.pop(0)
            if links.one_way_ms(host) is not None:
                return self._attach(search, host)
        if not search.over_cube:
            search.over_cube = True
            search.untried = self.candidates.next_hops(search)
        while search.untried and search.tries > 0:
            hop = search.untried.pop(0)
            if links.one_way_ms(hop.host) is not None:
                return self._request(search, hop)
        return self.settle(search)

    def _attach(self, search: Search, host: HostId) -> list[Effect]:
        ask = self._ask(search, host, Phase.ATTACHING)
        rtt_ms = 2 * (self.neighbourhood.links.one_way_ms(host) or 0.0)
        search.wait_ticks = self.config.answer_ticks + ceil(rtt_ms / 1000 / self._tick_s)
        if search.purpose is not Purpose.JOIN:
            search.wait_ticks += self.config.park_ticks if search.purpose is Purpose.CHANGE else 1
        contract = self.upstream.before(search.contract, host)
        trail = (*search.trail, self.neighbourhood.host)
        feasibility = self.downstream.feasibility(search.channel)
        return [Send(host, Attach(ask, search.channel, contract, trail, search.grant, feasibility))]

    def _request(self, search: Search, hop: Hop) -> list[Effect]:
        search.tries -= 1
        host, onward = hop
        request = PathRequest(
            self._ask(search, host, Phase.ASKING),
            search.channel,
            search.epoch,
            search.target,
            self.upstream.before(search.contract, host),
            search.tries,
            (*search.trail, self.neighbourhood.host),
            search.grant,
            search.feasibility.one_above().stricter(self.downstream.feasibility(search.channel)),
            onward,
        )
        return [Send(host, request)]

    def _ask(self, search: Search, host: HostId, phase: Phase) -> int:
        ask = self._next_ask()
        search.asked, search.phase = (host, ask), phase
        self.asked[ask] = search
        return ask

    # ------------------------------------------------------------------ settling

    def settle(self, search: Search) -> list[Effect]:
        """Ends the asking, since no candidate is left or the best offer is good enough: commits, answers or fails."""
        best = search.best
        if search.purpose is Purpose.RELAY:
            if best is not None and self.admission.full(search):  # others may have taken the copies meanwhile
                search.reason, best = f"{self.neighbourhood.host} is full", None
            return self.answer(search, best)
        strict = search.purpose is Purpose.JOIN
        if best is None or (strict and not search.contract.kept_by(best.metrics)):
            return self.fail(search, None if best is None else best.metrics)
        search.phase, search.age_ticks = Phase.COMMITTING, 0
        return [Send(best.host, Commit(best.ask))]

    def settle_at_deadline(self, search: Search) -> list[Effect]:
        """Settles a search of our own, whose time is over, on the best offer so far."""
        if search.phase in (Phase.RESOLVING, Phase.COMMITTING):
            resolving = search.phase is Phase.RESOLVING
            search.reason = "the super-node did not answer in time" if resolving else "the path did not confirm in time"
            return self.fail(search, None)
        search.untried.clear()
        search.direct.clear()
        search.over_cube = True
        effects: list[Effect] = []
        if search.asked is not None:
            host, ask = search.asked
            self.asked.pop(ask, None)
            search.asked = None
            search.reason = f"{host} did not answer in time"
            effects.append(Send(host, Cancel(ask)))
        return effects + self.settle(search)

    def answer(self, search: Search, best: Offer | None) -> list[Effect]:
        """Answers another host's request with an offer, or with a refusal."""
        if best is None:
            refusal = PathRefusal(search.ask, search.channel, search.reason, search.tries)
            return [*self.abandon(search), Send(search.asker, refusal)]
        return self.offer(search, best.metrics)

    def offer(self, search: Search, metrics: PathMetrics) -> list[Effect]:
        """Offers another host a path."""
        search.phase = Phase.OFFERED
        offer = PathOffer(search.ask, search.channel, self.downstream.advertised(metrics), search.tries)
        return [Send(search.asker, offer)]

    def fail(self, search: Search, best: PathMetrics | None) -> list[Effect]:
        """A search of our own found no acceptable path: relocate, repeat, or refuse."""
        config = self.config
        if search.purpose is not Purpose.JOIN:
            branch = self.downstream.branches.get(search.channel)
            if branch is not None:
                branch.hold_seqno, branch.retry_ticks = False, config.retry_ticks
            return self.abandon(search)
        if self._may_relocate(search, best):
            search.nearest = search.nearest_of(best)
            search.phase, search.age_ticks = Phase.RELOCATING, 0
            search.relocations += 1
            return [*self._cancel_held(search), Relocate(search.channel, search.contract.bound_ms)]
        in_time = search.age_ticks < config.offer_ticks and search.resolves < config.resolves_max
        if search.reason.endswith(TRANSIENT) and in_time:
            return self.resolve_again(search)
        return self.refuse(search, best)

    def _may_relocate(self, search: Search, best: PathMetrics | None) -> bool:
        """Whether a better label may help: over the cube, and it is the bound that the paths found do not keep."""
        nearest = search.nearest_of(best)
        late = nearest is not None and nearest.least_bound_ms > search.contract.bound_ms
        return search.tree is not Tree.HYBRID and late and search.relocations < self.config.relocations_max

    def resolve_again(self, search: Search) -> list[Effect]:
        """Resolves the channel again after a pause; the parents that the directory proposes then are asked."""
        effects = self._cancel_held(search)
        search.resolves += 1
        search.direct.clear()
        self.wait(search, self.config.resolve_ticks)
        return effects

    def wait(self, search: Search, ticks: int) -> None:
        """Repeats a search after some ticks, from resolving its channel on."""
        search.phase, search.wait_ticks = Phase.WAITING, ticks
        search.over_cube, search.tries = False, self.config.tries

    def refuse(self, search: Search, best: PathMetrics | None) -> list[Effect]:
        """No path keeps the local subscriber's contract."""
        nearest = search.nearest_of(best)
        best_ms, path = (None, ()) if nearest is None else (nearest.least_bound_ms, nearest.path)
        refused = Refused(search.channel, search.contract, nearest, search.reason)
        report = search.report("refused", best_ms=best_ms, path=path)
        return [*self.abandon(search), refused, report]

    def grant(self, search: Search) -> list[Effect]:
        """The channel is carried here: admit the local subscriber, or confirm to the asker."""
        branch = self.downstream.branches[search.channel]
        metrics = branch.metrics
        if search.purpose is Purpose.RELAY:
            return self._confirm(search)
        if not search.contract.kept_by(metrics):
            return [*self.refuse(search, metrics), *self.downstream.prune(branch)]
        branch.contract = search.contract
        if search.grant:
            branch.trail, branch.grant = (), search.grant
        report = search.report("receiving", promised_ms=metrics.delay_ms, path=metrics.path)
        return [*self.abandon(search), Admitted(branch.channel, search.contract, metrics), report]

    def _confirm(self, search: Search) -> list[Effect]:
        """Makes the asker a child, unless others took the last copy meanwhile."""
        if self.admission.full(search):
            search.reason = f"{self.neighbourhood.host} is full"
            return self.answer(search, None)
        branch = self.downstream.branches[search.channel]
        metrics = branch.metrics
        evicted = self.admission.free_slot(search, branch)
        self.downstream.feed(branch, search.asker, search.contract)
        advertised = self.downstream.advertised(metrics, branch.rate_bps)
        confirm = Send(search.asker, Confirm(search.ask, branch.channel, advertised))
        child = self.neighbourhood.links.record(search.asker)
        push = [Push(branch.channel, child)] if self.neighbourhood.hidden and child is not None else []
        return [*self.abandon(search), *evicted, confirm, *push]
