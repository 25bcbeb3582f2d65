"""Channels at one host: the search for a path that keeps a bound, and the branches of the trees it is part of.

A search runs hop by hop: each host asks the next hops its policy allows, best first, until an offer keeps what is left
of the bound, and answers with the best it found. So the bound chooses the path; under ODR, which allows one next hop,
there is one path to choose from. A host that already carries the channel grafts the request: it offers its own delay.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np

from cubecast.engine.effects import (
    Admitted,
    Announce,
    Effect,
    NotFound,
    Pull,
    Refused,
    Report,
    Resolve,
    Send,
    StopPull,
    StreamEnded,
    Withdraw,
)
from cubecast.engine.links import CLOCK_UNKNOWN_MS
from cubecast.engine.membership import Neighbourhood
from cubecast.engine.messages import (
    Cancel,
    Commit,
    Confirm,
    Ended,
    PathOffer,
    PathRefusal,
    PathRequest,
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
FLAT_TICKS = 2
"""Ticks without a byte after which a stream whose upstream is quiet counts as broken."""
CHILD_TICKS = 20
"""Ticks a child may be without a link before its place is given away."""
DRAIN_TICKS = 40
"""After a channel is finished its pull stays open this long for the last frames below."""
SEARCHES_MAX = 1024


class Phase(Enum):
    """Where a search stands."""

    RESOLVING = auto()
    ASKING = auto()
    OFFERED = auto()
    COMMITTING = auto()


@dataclass(frozen=True, slots=True)
class Offer:
    """What a next hop offered, seen from here: the delay includes the link to it."""

    host: HostId
    ask: int
    delay_ms: float
    path: tuple[Label, ...]
    clock: tuple[float, float]


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


@dataclass(slots=True)
class Branch:
    """A channel this host carries: as publisher, relay, subscriber, or several of them."""

    channel: ChannelName
    target: Label
    upstream: HostId | None
    delay_ms: float
    path: tuple[Label, ...]
    clock: tuple[float, float]
    children: dict[HostId, int] = field(default_factory=dict)
    """Ticks without a link, by child."""
    bound_ms: float | None = None
    """The local subscriber's bound."""
    bytes_received: int = -1
    flat_ticks: int = 0
    finished_ticks: int | None = None


class Subscriptions:
    """Searches and branches of one host. The engine owns one and passes it messages, ticks and failures."""

    def __init__(self, neighbourhood: Neighbourhood, policy: Policy, fan_out: int, rng: np.random.Generator) -> None:
        self._around = neighbourhood
        self._policy = policy
        self._fan_out = fan_out
        self._rng = rng
        self._searches: dict[tuple[HostId, int], Search] = {}
        self._asked: dict[int, Search] = {}
        self._asks = 0
        self.branches: dict[ChannelName, Branch] = {}

    # ------------------------------------------------------------------ the local user

    def publish(self, channel: ChannelName) -> list[Effect]:
        """Makes this host the channel's publisher."""
        seat = self._seat()
        if seat is None or channel in self.branches:
            return []
        self.branches[channel] = Branch(channel, seat, None, 0.0, (seat,), (0.0, 0.0))
        return [Announce(channel)]

    def finish(self, channel: ChannelName) -> list[Effect]:
        """The published channel is over: tells the tree, and the directory."""
        branch = self.branches.get(channel)
        if branch is None or branch.upstream is not None:
            return []
        ended = Ended(channel, finished=True, host=self._around.host, reason="finished")
        branch.finished_ticks = 0
        return [Withdraw(channel), *(Send(child, ended) for child in branch.children)]

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
        branch = self.branches.get(channel)
        if branch is not None and branch.bound_ms is not None:
            branch.bound_ms = None
            effects += self._prune(branch)
        return effects

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
                effects += self._refuse(search, None, ())
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
        link_ms = self._around.one_way_ms(host)
        if search is None or search.asked != (host, m.ask) or search.phase is not Phase.ASKING:
            return [Send(host, Cancel(m.ask))]
        search.asked, search.tries = None, min(search.tries, m.tries)
        if link_ms is None or self._seat() in m.path:
            search.reason = f"the path through {host} leads back here"
            self._asked.pop(m.ask, None)
            return [Send(host, Cancel(m.ask)), *self._advance(search)]
        effects: list[Effect] = []
        delay_ms = m.delay_ms + link_ms + RELAY_MS
        offer = Offer(host, m.ask, delay_ms, m.path, self._clock(host, m.clock_offset_ms, m.clock_uncertainty_ms))
        worse = offer
        if search.best is None or offer.delay_ms < search.best.delay_ms:
            search.best, worse = offer, search.best or offer
        if worse is not search.best:
            self._asked.pop(worse.ask, None)
            effects.append(Send(worse.host, Cancel(worse.ask)))
        return effects + (self._settle(search) if search.best.delay_ms <= search.budget_ms else self._advance(search))

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
        if search.channel in self.branches:
            return self._grant(search)
        if search.best is None:
            self._drop(search)
            return [Send(host, PathRefusal(m.ask, search.channel, "the stream ended meanwhile", 0))]
        search.phase, search.age_ticks = Phase.COMMITTING, 0
        return [Send(search.best.host, Commit(search.best.ask))]

    def on_confirm(self, host: HostId, m: Confirm) -> list[Effect]:
        """The branch above stands: join it, pull, and confirm below."""
        search = self._asked.get(m.ask)
        record, link_ms = self._around.record(host), self._around.one_way_ms(host)
        expected = search is not None and search.phase is Phase.COMMITTING and search.best is not None
        if search is None or not expected or record is None or link_ms is None or self._seat() in m.path:
            return [Send(host, Release(m.channel))]
        effects: list[Effect] = []
        branch = self.branches.get(search.channel)
        if branch is None:
            seat = self._seat()
            path = m.path if seat is None else (*m.path, seat)
            clock = self._clock(host, m.clock_offset_ms, m.clock_uncertainty_ms)
            delay_ms = m.delay_ms + link_ms + RELAY_MS
            self.branches[search.channel] = Branch(search.channel, search.target, host, delay_ms, path, clock)
            effects.append(Pull(search.channel, record))
        elif branch.upstream != host:
            effects.append(Send(host, Release(search.channel)))
        self._asked.pop(m.ask, None)
        search.best = None
        return effects + self._grant(search)

    def on_release(self, host: HostId, m: Release) -> list[Effect]:
        """A child no longer pulls."""
        branch = self.branches.get(m.channel)
        if branch is None or host not in branch.children:
            return []
        del branch.children[host]
        return self._prune(branch)

    def on_ended(self, host: HostId, m: Ended) -> list[Effect]:
        """The channel is over at our upstream."""
        branch = self.branches.get(m.channel)
        if branch is None or branch.upstream != host:
            return []
        if not m.finished:
            return self._break(branch, m.host, m.reason)
        branch.finished_ticks = 0
        effects: list[Effect] = [Send(child, m) for child in branch.children]
        if branch.bound_ms is not None:
            effects.append(StreamEnded(m.channel, finished=True, host=m.host, reason=m.reason))
        return effects + self._prune(branch)

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

    def on_goodbye(self, host: HostId) -> list[Effect]:
        """A host leaves: it is no parent and no child any more."""
        effects: list[Effect] = []
        for branch in list(self.branches.values()):
            if branch.upstream == host and branch.finished_ticks is None:
                effects += self._break(branch, host, "it left the overlay")
            elif branch.children.pop(host, None) is not None:
                effects += self._prune(branch)
        return effects

    def on_pull_failed(self, channel: ChannelName, host: HostId, reason: str) -> list[Effect]:
        """The media session to the upstream is gone."""
        branch = self.branches.get(channel)
        if branch is None or branch.upstream != host or branch.finished_ticks is not None:
            return []
        return self._break(branch, host, reason)

    def on_media(self, channel: ChannelName, bytes_received: int) -> None:
        """Bytes so far on the channel's pull."""
        branch = self.branches.get(channel)
        if branch is not None and branch.bytes_received != bytes_received:
            branch.bytes_received, branch.flat_ticks = bytes_received, 0

    def tick(self) -> list[Effect]:
        """Ages searches, offers, silent parents and children, and finished channels."""
        effects: list[Effect] = []
        for search in list(self._searches.values()):
            search.age_ticks += 1
            if search.asker == self._around.host and search.age_ticks == SEARCH_TICKS:
                effects += self._give_up_waiting(search)
            elif search.age_ticks >= OFFER_TICKS:
                effects += self._abandon(search)
        for branch in list(self.branches.values()):
            effects += self._tick_branch(branch)
        return effects

    def leave(self) -> list[Effect]:
        """Ends everything this host carries."""
        effects: list[Effect] = []
        for branch in list(self.branches.values()):
            if branch.upstream is None and branch.finished_ticks is None:
                effects += self.finish(branch.channel)
            elif branch.upstream is not None:
                effects.append(Send(branch.upstream, Release(branch.channel)))
        return effects

    def hosts_in_use(self) -> set[HostId]:
        """Parents and children: their links are kept."""
        parents = {branch.upstream for branch in self.branches.values() if branch.upstream is not None}
        return parents.union(*(branch.children for branch in self.branches.values()))

    def may_pull(self, channel: ChannelName, host: HostId) -> bool:
        """Whether we confirmed a branch to this host."""
        branch = self.branches.get(channel)
        return branch is not None and host in branch.children

    # ------------------------------------------------------------------ the search

    def _begin(self, search: Search) -> list[Effect]:
        if search.channel in self.branches:
            return self._graft(search)
        search.untried = self._candidates(search)
        return self._advance(search)

    def _graft(self, search: Search) -> list[Effect]:
        branch = self.branches[search.channel]
        if search.asker == self._around.host:
            return self._grant(search)
        full = self._slots_taken() >= self._fan_out and search.asker not in branch.children
        if full or branch.finished_ticks is not None:
            search.reason = f"{self._around.host} is full" if full else "the channel is over"
            return self._settle(search)
        search.phase = Phase.OFFERED
        return [Send(search.asker, self._offer(search, branch.delay_ms, branch.path, branch.clock))]

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
        budget_ms = search.budget_ms - link_ms - RELAY_MS
        trail = (*search.trail, self._around.host)
        request = PathRequest(ask, search.channel, label, search.target, budget_ms, search.tries, trail, search.grant)
        return [Send(host, request)]

    def _settle(self, search: Search) -> list[Effect]:
        """The search is over here: commit or refuse locally, offer or refuse to the asker."""
        best = search.best
        if search.asker != self._around.host:
            if best is None:
                self._drop(search)
                return [Send(search.asker, PathRefusal(search.ask, search.channel, search.reason, search.tries))]
            search.phase = Phase.OFFERED
            return [Send(search.asker, self._offer(search, best.delay_ms, (*best.path, *self._own()), best.clock))]
        if best is not None and best.delay_ms <= search.budget_ms:
            search.phase, search.age_ticks = Phase.COMMITTING, 0
            return [Send(best.host, Commit(best.ask))]
        best_path = () if best is None else (*best.path, *self._own())
        return self._refuse(search, None if best is None else best.delay_ms, best_path)

    def _refuse(self, search: Search, best_ms: float | None, path: tuple[Label, ...]) -> list[Effect]:
        refused = Refused(search.channel, search.budget_ms, best_ms, path, search.reason)
        report = self._report(search, "refused", best_ms=best_ms, path=path)
        return [*self._abandon(search), refused, report]

    def _grant(self, search: Search) -> list[Effect]:
        """The channel is carried here: admit the local subscriber, or confirm to the asker."""
        branch = self.branches[search.channel]
        self._drop(search)
        if search.asker != self._around.host:
            branch.children[search.asker] = 0
            confirm = Confirm(search.ask, branch.channel, branch.delay_ms, branch.path, *branch.clock)
            return [*self._cancelled(search), Send(search.asker, confirm)]
        if branch.delay_ms > search.budget_ms:
            refusal = self._refuse(search, branch.delay_ms, branch.path)
            return [*refusal, *self._prune(branch)]
        branch.bound_ms = search.budget_ms
        admitted = Admitted(branch.channel, search.budget_ms, branch.delay_ms, branch.path, *branch.clock)
        report = self._report(search, "receiving", promised_ms=branch.delay_ms, path=branch.path)
        return [*self._cancelled(search), admitted, report]

    def _give_up_waiting(self, search: Search) -> list[Effect]:
        """Time is up for a local search: decide on the best so far."""
        if search.phase is Phase.RESOLVING:
            search.reason = "the super-node did not answer in time"
            return self._refuse(search, None, ())
        if search.phase is Phase.COMMITTING:
            search.reason = "the path did not confirm in time"
            search.best = None
            return self._refuse(search, None, ())
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

    # ------------------------------------------------------------------ branches

    def _tick_branch(self, branch: Branch) -> list[Effect]:
        effects: list[Effect] = []
        branch.flat_ticks += 1
        if branch.finished_ticks is not None:
            branch.finished_ticks += 1
            if branch.finished_ticks >= DRAIN_TICKS:
                return self._remove(branch)
        elif branch.upstream is not None and branch.flat_ticks > FLAT_TICKS and self._around.quiet(branch.upstream):
            return self._break(branch, branch.upstream, "no heartbeat and no media")
        for child in list(branch.children):
            branch.children[child] = branch.children[child] + 1 if self._around.quiet(child) else 0
            if branch.children[child] >= CHILD_TICKS:
                del branch.children[child]
        return effects + self._prune(branch)

    def _break(self, branch: Branch, host: HostId, reason: str) -> list[Effect]:
        """The stream above is lost: tell everyone below."""
        ended = Ended(branch.channel, finished=False, host=host, reason=reason)
        effects: list[Effect] = [Send(child, ended) for child in branch.children]
        if branch.bound_ms is not None:
            effects.append(StreamEnded(branch.channel, finished=False, host=host, reason=reason))
            effects.append(self._ledger(branch, "ended"))
        return effects + self._remove(branch)

    def _prune(self, branch: Branch) -> list[Effect]:
        """A branch nobody here needs is released."""
        if branch.upstream is None or branch.children or branch.bound_ms is not None:
            return []
        if self.branches.get(branch.channel) is not branch:
            return []
        return [Send(branch.upstream, Release(branch.channel)), *self._remove(branch)]

    def _remove(self, branch: Branch) -> list[Effect]:
        self.branches.pop(branch.channel, None)
        return [] if branch.upstream is None else [StopPull(branch.channel)]

    def _slots_taken(self) -> int:
        reserved = sum(
            1
            for search in self._searches.values()
            if search.phase in (Phase.OFFERED, Phase.COMMITTING) and search.asker != self._around.host
        )
        return reserved + sum(len(branch.children) for branch in self.branches.values())

    # ------------------------------------------------------------------ small pieces

    def _seat(self) -> Label | None:
        return None if self._around.placement is None else self._around.placement.seat

    def _own(self) -> tuple[Label, ...]:
        seat = self._seat()
        return () if seat is None else (seat,)

    def _next_ask(self) -> int:
        self._asks += 1
        return self._asks

    def _local_searches(self, channel: ChannelName) -> list[Search]:
        mine = self._around.host
        return [s for s in self._searches.values() if s.asker == mine and s.channel == channel]

    def _offer(self, search: Search, delay_ms: float, path: tuple[Label, ...], clock: tuple[float, float]) -> PathOffer:
        return PathOffer(search.ask, search.channel, delay_ms, path, clock[0], clock[1], search.tries)

    def _clock(self, host: HostId, offset_ms: float, uncertainty_ms: float) -> tuple[float, float]:
        """The publisher's clock minus ours, through the host's: offsets and uncertainties add up."""
        link = self._around.links.get(host)
        ours, doubt = (0.0, CLOCK_UNKNOWN_MS) if link is None else link.estimate.clock_offset_ms
        return offset_ms + ours, min(CLOCK_UNKNOWN_MS, uncertainty_ms + doubt)

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

    def _ledger(self, branch: Branch, state: str) -> Report:
        bound_ms = 0.0 if branch.bound_ms is None else branch.bound_ms
        record = SubscriptionRecord(
            branch.channel, self._around.host, bound_ms, state, branch.delay_ms, None, branch.path
        )
        return Report(record)
