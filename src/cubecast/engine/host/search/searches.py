"""The search for a parent that keeps a bound.

Hosts that are known to carry the channel are asked first, best first; one of them may attach us at once. Else the search
runs over the cube, hop by hop: each host asks the next hops its policy allows, best first, until an offer keeps what is
left of the bound, and answers with the best it found. So the bound chooses the path; under ODR, which allows one next
hop, there is one path to choose from. A host that already carries the channel grafts the request: it offers its own
delay.
"""

from collections.abc import Iterable
from math import ceil

from cubecast.engine.host.effects import Admitted, Effect, Push, Refused, Relocate, Resolve, Rouse, Send
from cubecast.engine.host.neighbourhood import Neighbourhood
from cubecast.engine.host.search.admission import Admission
from cubecast.engine.host.search.candidates import Candidates
from cubecast.engine.host.search.state import PASSING, TRIES, UNFED, Hop, Offer, Phase, Purpose, Search
from cubecast.engine.host.tree.downstream import Branch, Downstream
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
from cubecast.engine.protocol.records import HostRecord, Tree, Verdict
from cubecast.types import ChannelName, HostId

SEARCH_TICKS = 50
"""After this long a subscriber decides on what it has."""
CHANGE_TICKS = 12
"""A branch that has a parent holds its sequence number back for so long at most: those below wait with it."""
OFFER_TICKS = 70
"""An offer nobody commits to is given back after this long; longer than a search."""
PARK_TICKS = 6
"""Whoever is asked to attach a host and is not fresh enough waits this long to become so."""
ANSWER_TICKS = 2
"""Beyond the round trip, a host asked to attach us may take this long."""
PROBE_TICKS = 15
"""A newcomer waits so long at most for the hosts that were proposed as parents."""
SHUN_TICKS = 5
"""So long a lost parent is not asked to be the next one."""
RETRY_TICKS = 3
"""A repair that found nobody is tried again after so long."""
RELOCATIONS_MAX, SETTLE_TICKS = 3, 20
"""A newcomer asks so often for a better seat, and looks again after so long: its new neighbours' links are measured."""
RESOLVE_TICKS, RESOLVES_MAX = 5, 4
"""A newcomer that was refused for a reason that passes asks the directory again after so long, so often."""
SEARCHES_MAX = 1024


class Searches:
    """Searches of one host and for others. The engine owns one and passes it messages, ticks and failures."""

    def __init__(
        self,
        neighbourhood: Neighbourhood,
        downstream: Downstream,
        upstream: Upstream,
        candidates: Candidates,
        tick_s: float,
    ) -> None:
        self._neighbourhood = neighbourhood
        self._downstream = downstream
        self._upstream = upstream
        self._candidates = candidates
        self._tick_s = tick_s
        self._searches: dict[tuple[HostId, int], Search] = {}
        self._asked: dict[int, Search] = {}
        self.admission = Admission(neighbourhood.host, downstream, self._searches)
        self._asks = 0

    # ------------------------------------------------------------------ starting one

    def open(self, purpose: Purpose, channel: ChannelName, contract: Contract) -> Search:
        """A search of our own that has not begun."""
        search = Search(purpose, self._neighbourhood.host, self._next_ask(), channel, contract)
        self._searches[search.asker, search.ask] = search
        return search

    def own(self, channel: ChannelName) -> list[Search]:
        """Our searches for a channel."""
        mine = self._neighbourhood.host
        return [s for s in self._searches.values() if s.asker == mine and s.channel == channel]

    def probe(self, search: Search, tree: Tree, proposals: Iterable[HostRecord]) -> list[Effect]:
        """Begins a search that has resolved its channel: hosts that may be parents are measured first."""
        search.tree = tree
        if tree is Tree.HYBRID:
            search.phase, search.age_ticks = Phase.PROBING, 0
            return self._neighbourhood.want_links(search.channel, proposals, at_once=True)
        if tree is Tree.GRAFT:
            search.direct = self._candidates.on_tree(search.channel, search.contract, tree)
        search.phase = Phase.ASKING
        return self.advance(search)

    def repair(self, branch: Branch) -> list[Effect]:
        """Looks for a parent for a branch that has none, unless it does already."""
        effects: list[Effect] = []
        for other in self.own(branch.channel):
            if other.purpose is Purpose.REPAIR:
                return []
            if other.purpose is Purpose.CHANGE:
                effects += self.abandon(other)
        search = self.open(Purpose.REPAIR, branch.channel, branch.wanted)
        search.trail, search.grant = branch.trail, branch.grant
        search.epoch, search.target = branch.epoch, branch.target
        gone = None if branch.lost is None or branch.orphan_ticks >= SHUN_TICKS else branch.lost[0]
        search.direct = self._candidates.on_tree(branch.channel, search.contract, Tree.HYBRID, gone)
        if branch.standby is not None and branch.standby_ready:  # quicker than any other
            search.direct = [branch.standby, *(host for host in search.direct if host != branch.standby)]
            effects.append(Rouse(branch.channel, branch.standby))
        return effects + self.advance(search)

    def change(self, branch: Branch, hosts: list[HostId], *, advised: bool = False) -> list[Effect]:
        """Tries to hang a branch on one of these hosts instead, the first that will have it; without any, over the cube."""
        if self.own(branch.channel):
            return []
        search = self.open(Purpose.CHANGE, branch.channel, branch.wanted)
        search.trail, search.grant, search.direct, search.over_cube = branch.trail, branch.grant, hosts, bool(hosts)
        search.epoch, search.target = branch.epoch, branch.target
        search.advised = advised
        branch.held = True
        return self.advance(search)

    def escape(self, branch: Branch) -> list[Effect]:
        """Changes the parent that is about to leave."""
        branch.retry_ticks = RETRY_TICKS
        hosts = self._candidates.on_tree(branch.channel, branch.wanted, Tree.HYBRID)
        return self.change(branch, hosts) if hosts else []

    # ------------------------------------------------------------------ messages

    def on_request(self, host: HostId, m: PathRequest) -> list[Effect]:
        """Another host looks for a channel through us."""
        if (host, m.ask) in self._searches or len(self._searches) >= SEARCHES_MAX:
            return [Send(host, PathRefusal(m.ask, m.channel, "too many requests at once", m.tries))]
        search = Search(Purpose.RELAY, host, m.ask, m.channel, m.contract, m.tries, m.epoch, m.target, m.trail, m.grant)
        search.feasibility, search.onward = m.feasibility, m.onward
        self._searches[host, m.ask] = search
        if self.admission.full(search):
            search.reason = f"{self._neighbourhood.host} is full"
            return self._settle(search)
        branch = self._downstream.branches.get(search.channel)
        if branch is None:
            return self.advance(search)
        reason = self.admission.unfit(branch, search)
        if reason:
            search.reason = reason
            return self._settle(search)
        search.phase = Phase.OFFERED
        return [
            Send(host, PathOffer(search.ask, search.channel, self._downstream.advertised(branch.metrics), search.tries))
        ]

    def on_attach(self, host: HostId, m: Attach) -> list[Effect]:
        """Another host that knows that we carry the channel wants to hang on us."""
        if (host, m.ask) in self._searches or len(self._searches) >= SEARCHES_MAX:
            return [Send(host, PathRefusal(m.ask, m.channel, "too many requests at once", 0))]
        search = Search(Purpose.RELAY, host, m.ask, m.channel, m.contract, 0, trail=m.trail, grant=m.grant)
        search.feasibility, search.phase = m.feasibility, Phase.PARKED
        self._searches[host, m.ask] = search
        branch = self._downstream.branches.get(m.channel)
        if branch is None:
            search.reason = f"{self._neighbourhood.host} does not carry the channel"
        elif self.admission.full(search):
            search.reason = f"{self._neighbourhood.host} is full"
            if self._downstream.slot_promised_to(m.channel, host) is not None:
                return []  # parked until we hear nothing of its parent either
        elif host == branch.upstream or host in branch.metrics.path:
            search.reason = f"{self._neighbourhood.host} hangs on {host}"
        elif branch.finished_ticks is not None:
            search.reason = "the channel is over"
        elif not branch.fed:
            search.reason = f"{self._neighbourhood.host} {UNFED}"
        else:
            return self._unpark(search, branch)
        return self._settle(search)

    def on_fresh(self, channel: ChannelName) -> list[Effect]:
        """The channel reaches us anew: whoever waited for that may hang on us now."""
        branch = self._downstream.branches.get(channel)
        effects: list[Effect] = []
        if branch is not None:
            for search in list(self._searches.values()):
                if search.phase is Phase.PARKED and search.channel == channel:
                    effects += self._unpark(search, branch)
        return effects

    def _unpark(self, search: Search, branch: Branch) -> list[Effect]:
        fresh = search.feasibility.allows(branch.metrics.seqno, branch.metrics.depth)
        return self.grant(search) if branch.fed and fresh else []

    def on_offer(self, host: HostId, m: PathOffer) -> list[Effect]:
        """A next hop found a path; keep the better of it and the best so far."""
        search = self._asked.get(m.ask)
        if search is None or search.asked != (host, m.ask) or search.phase is not Phase.ASKING:
            return [Send(host, Cancel(m.ask))]
        search.asked, search.tries = None, min(search.tries, m.tries)
        metrics = self._upstream.metrics_through(host, m.metrics)
        if metrics is None:
            search.reason = f"the path through {host} leads back here"
            self._asked.pop(m.ask, None)
            return [Send(host, Cancel(m.ask)), *self.advance(search)]
        effects: list[Effect] = []
        offer = worse = Offer(host, m.ask, metrics)
        rank = search.contract.rank
        if search.best is None or rank(metrics) < rank(search.best.metrics):
            search.best, worse = offer, search.best or offer
        if worse is not search.best:
            self._asked.pop(worse.ask, None)
            effects.append(Send(worse.host, Cancel(worse.ask)))
        kept = search.contract.kept_by(search.best.metrics)
        return effects + (self._settle(search) if kept else self.advance(search))

    def on_refusal(self, host: HostId, m: PathRefusal) -> list[Effect]:
        """A next hop found nothing, or an offer we took is gone."""
        search = self._asked.get(m.ask)
        if search is None:
            return []
        if search.phase is Phase.COMMITTING and search.best is not None and search.best.host == host:
            search.reason = m.reason
            self._asked.pop(search.best.ask, None)
            search.best = None
            if search.purpose is Purpose.RELAY:
                return self._settle(search)
            search.over_cube, search.phase = False, Phase.ASKING  # the tree has changed meanwhile: look again
            return self.advance(search)
        if search.asked != (host, m.ask):
            return []
        self._asked.pop(m.ask, None)
        search.asked, search.reason = None, m.reason
        if search.phase is Phase.ASKING:
            search.tries = min(search.tries, m.tries)
        else:
            self._neighbourhood.drop_channel(host, search.channel)
        return self.advance(search)

    def on_cancel(self, host: HostId, m: Cancel) -> list[Effect]:
        """The asker gives the offer back."""
        search = self._searches.get((host, m.ask))
        return [] if search is None else self.abandon(search)

    def on_commit(self, host: HostId, m: Commit) -> list[Effect]:
        """The asker takes our offer: grant it from what we carry, or commit further up."""
        search = self._searches.get((host, m.ask))
        if search is None or search.phase is not Phase.OFFERED:
            return [Send(host, PathRefusal(m.ask, ChannelName(""), "the offer has expired", 0))]
        branch = self._downstream.branches.get(search.channel)
        if branch is not None:
            search.reason = self.admission.unfit(branch, search)
            return self._settle_as(search, None) if search.reason else self.grant(search)
        if search.best is None:
            self._drop(search)
            return [Send(host, PathRefusal(m.ask, search.channel, "the stream ended meanwhile", 0))]
        search.phase, search.age_ticks = Phase.COMMITTING, 0
        return [Send(search.best.host, Commit(search.best.ask))]

    def on_confirm(self, host: HostId, m: Confirm) -> list[Effect]:
        """A parent is ours: hang on it, pull, and confirm below; or decline, when it is not what we need."""
        search, record = self._asked.get(m.ask), self._neighbourhood.record(host)
        attached = search is not None and search.phase is Phase.ATTACHING and search.asked == (host, m.ask)
        committed = (
            search is not None
            and search.phase is Phase.COMMITTING
            and search.best is not None
            and search.best.host == host
        )
        if search is None or not (attached or committed):
            return self._decline(host, m.channel)
        self._asked.pop(m.ask, None)
        search.asked = search.best = None
        metrics = self._upstream.metrics_through(host, m.metrics)
        branch = self._downstream.branches.get(search.channel)
        reason = self._unsuitable(search, host, m.metrics, metrics)
        if record is None or metrics is None or reason:
            search.reason = reason
            onward = self.advance(search) if attached else self._settle(search)
            return [*self._decline(host, m.channel), *onward]
        if search.purpose in (Purpose.REPAIR, Purpose.CHANGE):
            if branch is None:
                return [*self._decline(host, m.channel), *self.abandon(search)]
            return [*self.abandon(search), *self._upstream.adopt(branch, record, metrics)]
        if branch is not None:
            return [*self._decline(host, search.channel), *self.grant(search)]
        branch = Branch(search.channel, None, metrics, trail=search.trail, grant=search.grant)
        branch.epoch, branch.target = search.epoch, search.target
        return [*self._upstream.adopt(branch, record, metrics), *self.grant(search)]

    def _unsuitable(self, search: Search, host: HostId, there: PathMetrics, metrics: PathMetrics | None) -> str:
        """Why a confirmed parent is none for this search; empty when it is."""
        if metrics is None:
            return f"the path through {host} leads back here"
        if not self._downstream.feasibility(search.channel).allows(there.seqno, there.depth):
            return f"{host} may hang on us"
        rank = search.contract.rank
        if search.purpose is Purpose.JOIN and not search.contract.kept_by(metrics):
            if search.nearest is None or rank(metrics) < rank(search.nearest):
                search.nearest = metrics
            return "no path keeps the bound"
        branch = self._downstream.branches.get(search.channel)
        if search.purpose is Purpose.CHANGE and branch is not None and branch.upstream is not None:
            worse = rank(metrics) >= rank(branch.metrics)
            if search.advised:
                worse = worse and not search.contract.kept_by(metrics)
            if worse and not self._neighbourhood.is_leaving(branch.upstream):
                return f"{host} is no better than {branch.upstream}"
        return ""

    def _decline(self, host: HostId, channel: ChannelName) -> list[Effect]:
        """Gives a confirmed branch back, unless it is one that feeds us."""
        branch = self._downstream.branches.get(channel)
        feeds = branch is not None and host in (branch.upstream, branch.former)
        return [] if feeds else [Send(host, Release(channel))]

    # ------------------------------------------------------------------ failures and time

    def on_link_down(self, host: HostId) -> list[Effect]:
        """Searches that wait for this host go on without it; its own searches are over."""
        effects: list[Effect] = []
        for search in list(self._searches.values()):
            if search.asker == host:
                effects += self.abandon(search)
            elif search.asked is not None and search.asked[0] == host:
                closed = search.purpose is Purpose.JOIN and search.phase is Phase.ATTACHING
                if closed and search.resolves < 1:  # the link may have closed as it was needed
                    effects += self._look_again(search)
                    continue
                silence = PathRefusal(search.asked[1], search.channel, f"{host} is silent", search.tries)
                effects += self.on_refusal(host, silence)
            elif search.best is not None and search.best.host == host:
                ask, search.best = search.best.ask, None
                self._asked.pop(ask, None)
                search.reason = f"{host} is silent"
                if search.phase is Phase.COMMITTING:
                    effects += self._settle(search)
        return effects

    def tick(self) -> list[Effect]:
        """Ages searches and offers."""
        effects: list[Effect] = []
        for search in list(self._searches.values()):
            search.age_ticks += 1
            search.wait_ticks -= 1
            mine = search.asker == self._neighbourhood.host
            if search.phase is Phase.ATTACHING and search.asked is not None and search.wait_ticks <= 0:
                host, ask = search.asked
                effects += [Send(host, Cancel(ask)), *self._decline(host, search.channel)]
                late = PathRefusal(ask, search.channel, f"{host} did not answer in time", search.tries)
                effects += self.on_refusal(host, late)
            elif search.phase is Phase.WAITING and search.wait_ticks <= 0:
                search.phase, search.age_ticks = Phase.RESOLVING, 0
                effects.append(Resolve(search.channel))
            elif search.phase is Phase.RELOCATING and search.age_ticks >= SEARCH_TICKS:
                effects += self.refuse(search, None)
            elif search.phase is Phase.PROBING:
                if self._candidates.probed(search) or search.age_ticks >= PROBE_TICKS:
                    search.direct = self._candidates.on_tree(search.channel, search.contract, Tree.HYBRID)
                    search.phase, search.age_ticks = Phase.ASKING, 0
                    effects += self.advance(search)
            elif search.phase is Phase.PARKED:
                effects += self._wait_parked(search)
            elif (search.purpose is Purpose.CHANGE and search.age_ticks >= CHANGE_TICKS) or (
                mine and search.age_ticks >= OFFER_TICKS
            ):
                effects += self._fail(search, None)
            elif mine and search.age_ticks == SEARCH_TICKS:
                effects += self._give_up_waiting(search)
            elif search.age_ticks >= OFFER_TICKS:
                effects += self.abandon(search)
        return effects

    def _wait_parked(self, search: Search) -> list[Effect]:
        branch = self._downstream.branches.get(search.channel)
        if branch is not None and not self.admission.full(search):
            effects = self._unpark(search, branch)
            if effects:
                return effects
        if search.age_ticks < PARK_TICKS:
            return []
        full = self.admission.full(search)
        search.reason = (
            f"{self._neighbourhood.host} is full" if full else f"{self._neighbourhood.host} may hang on {search.asker}"
        )
        return self._settle(search)

    # ------------------------------------------------------------------ the search

    def advance(self, search: Search) -> list[Effect]:
        """Asks the next candidate, or settles when none is left."""
        while search.direct:
            host = search.direct.pop(0)
            if self._neighbourhood.one_way_ms(host) is not None:
                return self._attach(search, host)
        if not search.over_cube:
            search.over_cube = True
            search.untried = self._candidates.next_hops(search)
        while search.untried and search.tries > 0:
            hop = search.untried.pop(0)
            if self._neighbourhood.one_way_ms(hop.host) is not None:
                return self._ask(search, hop)
        return self._settle(search)

    def _attach(self, search: Search, host: HostId) -> list[Effect]:
        ask = self._asking(search, host, Phase.ATTACHING)
        rtt_ms = 2 * (self._neighbourhood.one_way_ms(host) or 0.0)
        search.wait_ticks = ANSWER_TICKS + ceil(rtt_ms / 1000 / self._tick_s)
        if search.purpose is not Purpose.JOIN:
            search.wait_ticks += PARK_TICKS if search.purpose is Purpose.CHANGE else 1
        contract = self._upstream.before(search.contract, host)
        trail = (*search.trail, self._neighbourhood.host)
        feasibility = self._downstream.feasibility(search.channel)
        return [Send(host, Attach(ask, search.channel, contract, trail, search.grant, feasibility))]

    def _ask(self, search: Search, hop: Hop) -> list[Effect]:
        search.tries -= 1
        host, onward = hop
        ask = self._asking(search, host, Phase.ASKING)
        feasibility = search.feasibility.one_above().stricter(self._downstream.feasibility(search.channel))
        request = PathRequest(
            ask,
            search.channel,
            search.epoch,
            search.target,
            self._upstream.before(search.contract, host),
            search.tries,
            (*search.trail, self._neighbourhood.host),
            search.grant,
            feasibility,
            onward,
        )
        return [Send(host, request)]

    def _asking(self, search: Search, host: HostId, phase: Phase) -> int:
        ask = self._next_ask()
        search.asked, search.phase = (host, ask), phase
        self._asked[ask] = search
        return ask

    def _settle(self, search: Search) -> list[Effect]:
        """The search is over here: commit or refuse locally, offer or refuse to the asker."""
        best = search.best
        if search.purpose is Purpose.RELAY:
            if best is not None and self.admission.full(
                search
            ):  # others may have taken the places while this search asked
                search.reason, best = f"{self._neighbourhood.host} is full", None
            return self._settle_as(search, best)
        strict = search.purpose is Purpose.JOIN
        if best is None or (strict and not search.contract.kept_by(best.metrics)):
            return self._fail(search, None if best is None else best.metrics)
        search.phase, search.age_ticks = Phase.COMMITTING, 0
        return [Send(best.host, Commit(best.ask))]

    def _settle_as(self, search: Search, best: Offer | None) -> list[Effect]:
        """Answers another host."""
        if best is None:
            refusal = PathRefusal(search.ask, search.channel, search.reason, search.tries)
            return [*self.abandon(search), Send(search.asker, refusal)]
        search.phase = Phase.OFFERED
        return [
            Send(
                search.asker,
                PathOffer(search.ask, search.channel, self._downstream.advertised(best.metrics), search.tries),
            )
        ]

    def _fail(self, search: Search, best: PathMetrics | None) -> list[Effect]:
        """A search of our own found nothing good enough."""
        if search.purpose is not Purpose.JOIN:
            branch = self._downstream.branches.get(search.channel)
            if branch is not None:
                branch.held, branch.retry_ticks = False, RETRY_TICKS
            return self.abandon(search)
        if self._may_move(search, best):
            search.nearest = search.nearest_of(best)
            search.phase, search.age_ticks = Phase.RELOCATING, 0
            search.relocations += 1
            return [*self._give_back(search), Relocate(search.channel, search.contract.bound_ms)]
        if search.reason.endswith(PASSING) and search.age_ticks < OFFER_TICKS and search.resolves < RESOLVES_MAX:
            return self._look_again(search)
        return self.refuse(search, best)

    def _look_again(self, search: Search) -> list[Effect]:
        """Asks the directory again in a moment, and then whom it proposes."""
        effects = self._give_back(search)
        search.phase, search.wait_ticks, search.resolves = Phase.WAITING, RESOLVE_TICKS, search.resolves + 1
        search.over_cube, search.tries = False, TRIES
        search.direct.clear()
        return effects

    def _may_move(self, search: Search, best: PathMetrics | None) -> bool:
        """Whether a better seat may help: the bound on delay is what the paths found do not keep."""
        nearest = search.nearest_of(best)
        late = nearest is not None and nearest.least_bound_ms > search.contract.bound_ms
        return search.tree is not Tree.HYBRID and late and search.relocations < RELOCATIONS_MAX

    def relocated(self, channel: ChannelName, verdict: Verdict) -> list[Effect]:
        """The directory has answered: look again from the new seat, or refuse."""
        effects: list[Effect] = []
        for search in self.own(channel):
            if search.phase is not Phase.RELOCATING:
                continue
            if verdict is Verdict.STAYS:
                effects += self.refuse(search, None)
            else:
                search.phase, search.age_ticks, search.wait_ticks = Phase.WAITING, 0, SETTLE_TICKS
                search.over_cube, search.tries = False, TRIES
        return effects

    def refuse(self, search: Search, best: PathMetrics | None) -> list[Effect]:
        """No path keeps the local subscriber's bound."""
        nearest = search.nearest_of(best)
        best_ms, path = (None, ()) if nearest is None else (nearest.least_bound_ms, nearest.path)
        refused = Refused(search.channel, search.contract, nearest, search.reason)
        report = search.report("refused", best_ms=best_ms, path=path)
        return [*self.abandon(search), refused, report]

    def grant(self, search: Search) -> list[Effect]:
        """The channel is carried here: admit the local subscriber, or confirm to the asker."""
        branch = self._downstream.branches[search.channel]
        metrics = branch.metrics
        if search.purpose is Purpose.RELAY:
            if self.admission.full(search):  # others took the place meanwhile
                search.reason = f"{self._neighbourhood.host} is full"
                return self._settle_as(search, None)
            room = self.admission.make_room(search, branch)
            self._downstream.feed(branch, search.asker, search.contract)
            advertised = self._downstream.advertised(metrics, branch.rate_bps)
            confirm = Send(search.asker, Confirm(search.ask, branch.channel, advertised))
            child = self._neighbourhood.record(search.asker)
            push = [Push(branch.channel, child)] if self._neighbourhood.hidden and child is not None else []
            return [*self.abandon(search), *room, confirm, *push]
        if not search.contract.kept_by(metrics):
            return [*self.refuse(search, metrics), *self._downstream.prune(branch)]
        branch.contract = search.contract
        if search.grant:
            branch.trail, branch.grant = (), search.grant
        report = search.report("receiving", promised_ms=metrics.delay_ms, path=metrics.path)
        return [*self.abandon(search), Admitted(branch.channel, search.contract, metrics), report]

    def _give_up_waiting(self, search: Search) -> list[Effect]:
        """Time is up for a search of our own: decide on the best so far."""
        if search.phase in (Phase.RESOLVING, Phase.COMMITTING):
            resolving = search.phase is Phase.RESOLVING
            search.reason = "the super-node did not answer in time" if resolving else "the path did not confirm in time"
            return self._fail(search, None)
        search.untried.clear()
        search.direct.clear()
        search.over_cube = True
        effects: list[Effect] = []
        if search.asked is not None:
            host, ask = search.asked
            self._asked.pop(ask, None)
            search.asked = None
            search.reason = f"{host} did not answer in time"
            effects.append(Send(host, Cancel(ask)))
        return effects + self._settle(search)

    def abandon(self, search: Search) -> list[Effect]:
        """Forgets a search and gives back what it holds further up."""
        self._drop(search)
        effects = self._give_back(search)
        if search.purpose is Purpose.JOIN and search.channel not in self._downstream.branches:
            effects += self._neighbourhood.want_links(search.channel, ())
        return effects

    def _give_back(self, search: Search) -> list[Effect]:
        """Cancels what a search holds or waits for."""
        held = [] if search.asked is None else [search.asked]
        if search.best is not None:
            held.append((search.best.host, search.best.ask))
        search.asked = search.best = None
        for _, ask in held:
            self._asked.pop(ask, None)
        return [Send(host, Cancel(ask)) for host, ask in held]

    def _drop(self, search: Search) -> None:
        self._searches.pop((search.asker, search.ask), None)

    # ------------------------------------------------------------------ small pieces

    def _next_ask(self) -> int:
        self._asks += 1
        return self._asks
