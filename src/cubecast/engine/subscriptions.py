"""The search for a path that keeps a bound.

A search runs hop by hop: each host asks the next hops its policy allows, best first, until an offer keeps what is left
of the bound, and answers with the best it found. So the bound chooses the path; under ODR, which allows one next hop,
there is one path to choose from. A host that already carries the channel grafts the request: it offers its own delay.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np

from cubecast.engine.branches import Branch, Branches
from cubecast.engine.effects import (
    Admitted,
    Effect,
    NotFound,
    Refused,
    Report,
    Resolve,
    Send,
)
from cubecast.engine.links import CLOCK_UNKNOWN_MS
from cubecast.engine.membership import Neighbourhood
from cubecast.engine.messages import (
    Cancel,
    Commit,
    Confirm,
    PathOffer,
    PathRefusal,
    PathRequest,
    Reach,
    Release,
)
from cubecast.engine.records import ChannelRecord, SubscriptionRecord
from cubecast.overlay.cube import distance
from cubecast.overlay.routing import Policy, ranked_next_hops
from cubecast.types import ChannelName, HostId, Label

RELAY_MS = 0.5
"""Processing a relay adds to a frame; part of every promise (measured: 0.35 ms a relay, docs/decisions)."""
TRIES = 24
"""Requests one search may send in all: it bounds the messages of a subscribe, whatever the cube."""
SEARCH_TICKS = 20
"""After this long a subscriber decides on what it has."""
OFFER_TICKS = 28
"""An offer nobody commits to is given back after this long; longer than a search."""
SEARCHES_MAX = 1024


class Phase(Enum):
    """Where a search stands."""

    RESOLVING = auto()
    ASKING = auto()
    OFFERED = auto()
    COMMITTING = auto()


@dataclass(frozen=True, slots=True)
class Offer:
    """What a next hop offered: how the channel would reach this host through it."""

    host: HostId
    ask: int
    reach: Reach


@dataclass(slots=True)
class Search:
    """One request for a path. `asker` is this host itself for a local subscriber."""

    asker: HostId
    ask: int
    channel: ChannelName
    target: Label
    budget_ms: float
    tries: int
    trail: tuple[HostId, ...]
    grant: str = ""
    untried: list[tuple[Label, HostId]] = field(default_factory=list)
    asked: tuple[HostId, int] | None = None
    best: Offer | None = None
    phase: Phase = Phase.ASKING
    age_ticks: int = 0
    reason: str = "no next hop answers"


class Subscriptions:
    """Searches of one host and for others. The engine owns one and passes it messages, ticks and failures."""

    def __init__(
        self,
        neighbourhood: Neighbourhood,
        branches: Branches,
        policy: Policy,
        fan_out: int,
        rng: np.random.Generator,
    ) -> None:
        self._around = neighbourhood
        self._branches = branches
        self._policy = policy
        self._fan_out = fan_out
        self._rng = rng
        self._searches: dict[tuple[HostId, int], Search] = {}
        self._asked: dict[int, Search] = {}
        self._asks = 0

    # ------------------------------------------------------------------ the local user

    def subscribe(self, channel: ChannelName, bound_ms: float) -> list[Effect]:
        """Starts a local subscription: resolve, search, then admit or refuse."""
        search = Search(self._around.host, self._next_ask(), channel, Label(0), bound_ms, TRIES, ())
        search.phase = Phase.RESOLVING
        self._searches[search.asker, search.ask] = search
        return [Resolve(channel), self._report(search, "searching")]

    def unsubscribe(self, channel: ChannelName) -> list[Effect]:
        """Ends the local subscription, and the search for it."""
        effects: list[Effect] = []
        for search in self._local_searches(channel):
            effects += self._abandon(search)
        return effects + self._branches.leave_local(channel)

    def resolved(self, record: ChannelRecord, grant: str) -> list[Effect]:
        """The directory knows the publisher's seat: search towards it."""
        effects: list[Effect] = []
        for search in self._local_searches(record.channel):
            if search.phase is Phase.RESOLVING:
                search.target, search.grant, search.phase = record.seat, grant, Phase.ASKING
                effects += self._begin(search)
        return effects

    def not_found(self, channel: ChannelName, known: tuple[ChannelName, ...]) -> list[Effect]:
        """The directory does not know the channel."""
        effects: list[Effect] = []
        for search in self._local_searches(channel):
            self._drop(search)
            effects += [NotFound(channel, known), self._report(search, "refused")]
        return effects

    def resolve_failed(self, channel: ChannelName, reason: str) -> list[Effect]:
        """The directory refused to resolve the channel, or is away."""
        effects: list[Effect] = []
        for search in self._local_searches(channel):
            if search.phase is Phase.RESOLVING:
                search.reason = reason
                effects += self._refuse(search, None)
        return effects

    # ------------------------------------------------------------------ messages

    def on_request(self, host: HostId, m: PathRequest) -> list[Effect]:
        """Another host looks for a channel through us."""
        if (host, m.ask) in self._searches or len(self._searches) >= SEARCHES_MAX:
            return [Send(host, PathRefusal(m.ask, m.channel, "too many requests at once", m.tries))]
        search = Search(host, m.ask, m.channel, m.target, m.budget_ms, m.tries, m.trail, m.grant)
        self._searches[host, m.ask] = search
        return self._begin(search)

    def on_offer(self, host: HostId, m: PathOffer) -> list[Effect]:
        """A next hop found a path; keep the better of it and the best so far."""
        search = self._asked.get(m.ask)
        if search is None or search.asked != (host, m.ask) or search.phase is not Phase.ASKING:
            return [Send(host, Cancel(m.ask))]
        search.asked, search.tries = None, min(search.tries, m.tries)
        reach = self._reach_through(host, m.reach)
        if reach is None:
            search.reason = f"the path through {host} leads back here"
            self._asked.pop(m.ask, None)
            return [Send(host, Cancel(m.ask)), *self._advance(search)]
        effects: list[Effect] = []
        offer = worse = Offer(host, m.ask, reach)
        if search.best is None or reach.least_bound_ms < search.best.reach.least_bound_ms:
            search.best, worse = offer, search.best or offer
        if worse is not search.best:
            self._asked.pop(worse.ask, None)
            effects.append(Send(worse.host, Cancel(worse.ask)))
        kept = search.best.reach.least_bound_ms <= search.budget_ms
        return effects + (self._settle(search) if kept else self._advance(search))

    def on_refusal(self, host: HostId, m: PathRefusal) -> list[Effect]:
        """A next hop found nothing, or an offer we took is gone."""
        search = self._asked.get(m.ask)
        if search is None:
            return []
        if search.phase is Phase.COMMITTING and search.best is not None and search.best.host == host:
            search.reason = m.reason
            self._asked.pop(search.best.ask, None)
            search.best = None
            return self._settle(search)
        if search.asked != (host, m.ask):
            return []
        self._asked.pop(m.ask, None)
        search.asked, search.reason, search.tries = None, m.reason, min(search.tries, m.tries)
        return self._advance(search)

    def on_cancel(self, host: HostId, m: Cancel) -> list[Effect]:
        """The asker gives the offer back."""
        search = self._searches.get((host, m.ask))
        return [] if search is None else self._abandon(search)

    def on_commit(self, host: HostId, m: Commit) -> list[Effect]:
        """The asker takes our offer: grant it from what we carry, or commit further up."""
        search = self._searches.get((host, m.ask))
        if search is None or search.phase is not Phase.OFFERED:
            return [Send(host, PathRefusal(m.ask, ChannelName(""), "the offer has expired", 0))]
        if search.channel in self._branches.carried:
            return self._grant(search)
        if search.best is None:
            self._drop(search)
            return [Send(host, PathRefusal(m.ask, search.channel, "the stream ended meanwhile", 0))]
        search.phase, search.age_ticks = Phase.COMMITTING, 0
        return [Send(search.best.host, Commit(search.best.ask))]

    def on_confirm(self, host: HostId, m: Confirm) -> list[Effect]:
        """The branch above stands: join it, pull, and confirm below."""
        search, record = self._asked.get(m.ask), self._around.record(host)
        if search is None or search.phase is not Phase.COMMITTING or search.best is None or search.best.host != host:
            return self._decline(host, m.channel)
        self._asked.pop(m.ask, None)
        search.best = None
        reach = self._reach_through(host, m.reach)
        if record is None or reach is None:
            search.reason = f"the path through {host} leads back here"
            return [*self._decline(host, m.channel), *self._settle(search)]
        if search.channel in self._branches.carried:
            return [*self._decline(host, search.channel), *self._grant(search)]
        return [*self._branches.join(Branch(search.channel, host, reach), record), *self._grant(search)]

    def _decline(self, host: HostId, channel: ChannelName) -> list[Effect]:
        """Gives a confirmed branch back, unless it is the one that feeds us."""
        branch = self._branches.carried.get(channel)
        return [] if branch is not None and branch.upstream == host else [Send(host, Release(channel))]

    # ------------------------------------------------------------------ failures and time

    def on_link_down(self, host: HostId) -> list[Effect]:
        """Searches that wait for this host go on without it; its own searches are over."""
        effects: list[Effect] = []
        for search in list(self._searches.values()):
            if search.asker == host:
                effects += self._abandon(search)
            elif search.asked is not None and search.asked[0] == host:
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
        """Ages searches, offers, silent parents and children, and finished channels."""
        effects: list[Effect] = []
        for search in list(self._searches.values()):
            search.age_ticks += 1
            if search.asker == self._around.host and search.age_ticks == SEARCH_TICKS:
                effects += self._give_up_waiting(search)
            elif search.age_ticks >= OFFER_TICKS:
                effects += self._abandon(search)
        return effects

    # ------------------------------------------------------------------ the search

    def _begin(self, search: Search) -> list[Effect]:
        """Grafts where the channel is carried, else asks the next hops."""
        local = search.asker == self._around.host
        branch = self._branches.carried.get(search.channel)
        if not local and self._full(search):
            search.reason = f"{self._around.host} is full"
            return self._settle(search)
        if branch is None:
            search.untried = self._candidates(search)
            return self._advance(search)
        if local:
            return self._grant(search)
        if branch.finished_ticks is not None:
            search.reason = "the channel is over"
            return self._settle(search)
        search.phase = Phase.OFFERED
        return [Send(search.asker, PathOffer(search.ask, search.channel, branch.reach, search.tries))]

    def _candidates(self, search: Search) -> list[tuple[Label, HostId]]:
        """Next hops towards the target with a measured link, best first; hops between our own labels are free."""
        placement, cube = self._around.placement, self._around.cube
        if placement is None or cube is None or self._around.host in search.trail:
            search.reason = "the request came back to a host it had passed"
            return []
        here = min(placement.labels, key=lambda label: (distance(cube, label, search.target), label))

        def cost_ms(label: Label) -> float:
            host = self._around.carrier(label)
            measured = None if host is None else self._around.one_way_ms(host)
            return float("inf") if measured is None else measured

        ranked = ranked_next_hops(self._policy, cube, here, search.target, cost_ms, self._rng)
        usable: dict[HostId, Label] = {}
        for label in ranked:
            host = self._around.carrier(label)
            if host is not None and host not in search.trail and cost_ms(label) < float("inf"):
                usable.setdefault(host, label)
        return [(label, host) for host, label in usable.items()]

    def _advance(self, search: Search) -> list[Effect]:
        """Asks the next candidate, or settles when none is left."""
        if not search.untried or search.tries <= 0:
            return self._settle(search)
        label, host = search.untried.pop(0)
        link_ms = self._around.one_way_ms(host)
        if link_ms is None:
            return self._advance(search)
        search.tries -= 1
        ask = self._next_ask()
        search.asked, search.phase = (host, ask), Phase.ASKING
        self._asked[ask] = search
        budget_ms = search.budget_ms - link_ms - RELAY_MS - self._around.spread_ms(host)
        trail = (*search.trail, self._around.host)
        request = PathRequest(ask, search.channel, label, search.target, budget_ms, search.tries, trail, search.grant)
        return [Send(host, request)]

    def _settle(self, search: Search) -> list[Effect]:
        """The search is over here: commit or refuse locally, offer or refuse to the asker."""
        best = search.best
        if search.asker != self._around.host:
            full = self._full(search)  # others may have taken the places while this search asked
            if best is None or full:
                reason = f"{self._around.host} is full" if full else search.reason
                refusal = PathRefusal(search.ask, search.channel, reason, search.tries)
                return [*self._abandon(search), Send(search.asker, refusal)]
            search.phase = Phase.OFFERED
            return [Send(search.asker, PathOffer(search.ask, search.channel, best.reach, search.tries))]
        if best is None or best.reach.least_bound_ms > search.budget_ms:
            return self._refuse(search, None if best is None else best.reach)
        search.phase, search.age_ticks = Phase.COMMITTING, 0
        return [Send(best.host, Commit(best.ask))]

    def _refuse(self, search: Search, best: Reach | None) -> list[Effect]:
        best_ms, path = (None, ()) if best is None else (best.least_bound_ms, best.path)
        refused = Refused(search.channel, search.budget_ms, best_ms, path, search.reason)
        return [*self._abandon(search), refused, self._report(search, "refused", best_ms=best_ms, path=path)]

    def _grant(self, search: Search) -> list[Effect]:
        """The channel is carried here: admit the local subscriber, or confirm to the asker."""
        branch = self._branches.carried[search.channel]
        reach = branch.reach
        if search.asker != self._around.host:
            branch.children[search.asker] = 0
            return [*self._abandon(search), Send(search.asker, Confirm(search.ask, branch.channel, reach))]
        if reach.least_bound_ms > search.budget_ms:
            return [*self._refuse(search, reach), *self._branches.prune(branch)]
        branch.bound_ms = search.budget_ms
        report = self._report(search, "receiving", promised_ms=reach.delay_ms, path=reach.path)
        return [*self._abandon(search), Admitted(branch.channel, search.budget_ms, reach), report]

    def _give_up_waiting(self, search: Search) -> list[Effect]:
        """Time is up for a local search: decide on the best so far."""
        if search.phase is Phase.RESOLVING:
            search.reason = "the super-node did not answer in time"
            return self._refuse(search, None)
        if search.phase is Phase.COMMITTING:
            search.reason = "the path did not confirm in time"
            return self._refuse(search, None)
        search.untried.clear()
        effects: list[Effect] = []
        if search.asked is not None:
            host, ask = search.asked
            self._asked.pop(ask, None)
            search.asked = None
            search.reason = f"{host} did not answer in time"
            effects.append(Send(host, Cancel(ask)))
        return effects + self._settle(search)

    def _abandon(self, search: Search) -> list[Effect]:
        """Forgets a search and gives back what it holds further up."""
        self._drop(search)
        return self._cancelled(search)

    def _cancelled(self, search: Search) -> list[Effect]:
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

    def _full(self, search: Search) -> bool:
        """Whether no copy is left for a host that is no child yet; offers in flight hold a place."""
        offered = (Phase.OFFERED, Phase.COMMITTING)
        mine = self._around.host
        reserved = sum(s.phase in offered and s.asker != mine and s is not search for s in self._searches.values())
        taken = reserved + self._branches.children_count()
        return taken >= self._fan_out and not self._branches.may_pull(search.channel, search.asker)

    def _seat(self) -> Label | None:
        return None if self._around.placement is None else self._around.placement.seat

    def _next_ask(self) -> int:
        self._asks += 1
        return self._asks

    def _local_searches(self, channel: ChannelName) -> list[Search]:
        mine = self._around.host
        return [s for s in self._searches.values() if s.asker == mine and s.channel == channel]

    def _reach_through(self, host: HostId, there: Reach) -> Reach | None:
        """How a channel reaches us through a host it reaches so; None when its path came by here, or the link is down.

        Delays, spreads and clock uncertainties add up hop by hop.
        """
        seat, link = self._seat(), self._around.links.get(host)
        link_ms = self._around.one_way_ms(host)
        if seat is None or link is None or link_ms is None or seat in there.path:
            return None
        offset_ms, uncertainty_ms = link.estimate.clock_offset_ms
        return Reach(
            there.delay_ms + link_ms + RELAY_MS,
            there.spread_ms + link.estimate.spread_ms,
            (*there.path, seat),
            there.clock_offset_ms + offset_ms,
            min(CLOCK_UNKNOWN_MS, there.clock_uncertainty_ms + uncertainty_ms),
        )

    def _report(
        self,
        search: Search,
        state: str,
        promised_ms: float | None = None,
        best_ms: float | None = None,
        path: tuple[Label, ...] = (),
    ) -> Report:
        return Report(
            SubscriptionRecord(search.channel, self._around.host, search.budget_ms, state, promised_ms, best_ms, path)
        )
