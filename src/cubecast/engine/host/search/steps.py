"""The steps that all searches share: ask the next candidate, commit to an offer, cancel what is held.

Hosts that are known to carry the channel are asked first, best first; one of them may attach this host at once. Else the
search goes over the cube, hop by hop: each host asks the next hops that its policy allows, best first, until an offer
keeps what is left of the contract, and answers with the best it found. So the bound chooses the path; under ODR, which
allows one next hop, there is one path to choose from. A host that already carries the channel grafts the request: it
offers its own delay.

What a search does when it has found its path, or none, depends on its purpose: each is a `Kind`.
"""

from abc import ABC, abstractmethod
from math import ceil

from cubecast.engine.host.config import EngineConfig
from cubecast.engine.host.effects import Effect, Send
from cubecast.engine.host.neighbourhood import Neighbourhood
from cubecast.engine.host.search.admission import Admission
from cubecast.engine.host.search.candidates import Candidates
from cubecast.engine.host.search.machine import Machine, Move, Phase
from cubecast.engine.host.search.state import LATE, Hop, Purpose, Search
from cubecast.engine.host.tree.branch import Branch
from cubecast.engine.host.tree.downstream import Downstream
from cubecast.engine.host.tree.upstream import Upstream
from cubecast.engine.protocol.messages import Attach, Cancel, Commit, PathRequest, Release
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.records import HostRecord
from cubecast.types import ChannelName, HostId


class Kind(ABC):
    """What searches of one purpose do at the ends of the shared steps. Each is called in phase CHOOSING."""

    @abstractmethod
    def settle(self, search: Search) -> list[Effect]:
        """No candidate is left, or the best offer is good enough."""

    @abstractmethod
    def fail(self, search: Search) -> list[Effect]:
        """No acceptable path was found, or not in time."""

    def objection(self, search: Search, host: HostId, metrics: PathMetrics) -> str:  # noqa: ARG002 - accepts every path
        """Why a path through a host that has confirmed is not accepted; empty when it is."""
        return ""

    @abstractmethod
    def confirmed(self, search: Search, record: HostRecord, metrics: PathMetrics) -> list[Effect]:
        """A host has confirmed a path that is accepted."""


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
        self.kinds: dict[Purpose, Kind] = {}
        """Filled by `Searches`: kinds use these steps."""
        self.searches: dict[tuple[HostId, int], Search] = {}
        """By requester and the requester's number."""
        self.asked: dict[int, Search] = {}
        """By the number of a request of ours that was not answered, or whose offer is held."""
        self.admission = Admission(neighbourhood.host, downstream, self.searches)
        self._asks = 0

    # ------------------------------------------------------------------ the table of searches

    def open(self, purpose: Purpose, channel: ChannelName, contract: Contract, phase: Phase) -> Search:
        """Adds a search of our own; it asks no host yet."""
        search = Search(purpose, self.neighbourhood.host, self._next_ask(), channel, contract, self.config.tries)
        search.machine = Machine(phase)
        self.searches[search.requester, search.ask] = search
        return search

    def open_for(self, branch: Branch, purpose: Purpose) -> Search:
        """Adds a search for another parent of a branch."""
        search = self.open(purpose, branch.channel, branch.wanted, Phase.CHOOSING)
        search.trail = branch.trail
        search.epoch, search.target = branch.epoch, branch.target
        return search

    def own(self, channel: ChannelName) -> list[Search]:
        """Our own searches for a channel."""
        mine = self.neighbourhood.host
        return [s for s in self.searches.values() if s.requester == mine and s.channel == channel]

    def end(self, search: Search) -> list[Effect]:
        """Ends a search, and cancels its offer and its open request at other hosts."""
        search.move(Move.END)
        self.searches.pop((search.requester, search.ask), None)
        effects = self.cancel_held(search)
        if search.purpose is Purpose.JOIN:
            effects += self.neighbourhood.want_links(search.channel, ())
        return effects

    def cancel_held(self, search: Search) -> list[Effect]:
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
        feeds = branch is not None and host in (branch.upstream, branch.parent.former)
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

    def choose(self, search: Search) -> list[Effect]:
        """What the search waited for has come, or will not come: asks the next candidate."""
        search.move(Move.CHOOSE)
        return self.advance(search)

    def _attach(self, search: Search, host: HostId) -> list[Effect]:
        search.move(Move.ATTACH)
        search.declined.pop(host, None)
        ask = self._ask(search, host)
        rtt_ms = 2 * (self.neighbourhood.links.one_way_ms(host) or 0.0)
        search.wait_ticks = self.config.answer_ticks + ceil(rtt_ms / 1000 / self._tick_s)
        if search.purpose is not Purpose.JOIN:
            search.wait_ticks += self.config.park_ticks if search.purpose is Purpose.CHANGE else 1
        contract = self.upstream.before(search.contract, host)
        trail = (*search.trail, self.neighbourhood.host)
        feasibility = self.downstream.feasibility(search.channel)
        return [Send(host, Attach(ask, search.channel, contract, trail, feasibility))]

    def _request(self, search: Search, hop: Hop) -> list[Effect]:
        search.move(Move.REQUEST)
        search.tries -= 1
        host, onward = hop
        request = PathRequest(
            self._ask(search, host),
            search.channel,
            search.epoch,
            search.target,
            self.upstream.before(search.contract, host),
            search.tries,
            (*search.trail, self.neighbourhood.host),
            search.feasibility.one_above().stricter(self.downstream.feasibility(search.channel)),
            onward,
        )
        return [Send(host, request)]

    def _ask(self, search: Search, host: HostId) -> int:
        ask = self._next_ask()
        search.asked = (host, ask)
        self.asked[ask] = search
        return ask

    # ------------------------------------------------------------------ settling

    def settle(self, search: Search) -> list[Effect]:
        """Ends the asking, since no candidate is left or the best offer is good enough."""
        return self.kinds[search.purpose].settle(search)

    def fail(self, search: Search) -> list[Effect]:
        """The time of a search is over without an acceptable path."""
        search.move(Move.CHOOSE)
        return self.kinds[search.purpose].fail(search)

    def commit(self, search: Search) -> list[Effect]:
        """Accepts the best offer."""
        assert search.best is not None, "the caller checked"
        search.move(Move.COMMIT)
        search.age_ticks = 0
        return [Send(search.best.host, Commit(search.best.ask))]

    def settle_at_deadline(self, search: Search) -> list[Effect]:
        """Settles a search of our own, whose time is over, on the best offer so far."""
        if search.phase in (Phase.RESOLVING, Phase.COMMITTING):
            resolving = search.phase is Phase.RESOLVING
            search.reason = "the super-node did not answer in time" if resolving else "the path did not confirm in time"
            return self.fail(search)
        search.move(Move.CHOOSE)
        search.untried.clear()
        search.direct.clear()
        search.over_cube = True
        effects: list[Effect] = []
        if search.asked is not None:
            host, ask = search.asked
            self.asked.pop(ask, None)
            search.asked = None
            search.note(f"{host} {LATE}")
            search.declined[host] = search.reason
            effects.append(Send(host, Cancel(ask)))
        return effects + self.settle(search)
