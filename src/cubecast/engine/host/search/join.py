"""JOIN: the local subscriber looks for a path that keeps its contract, and is admitted or refused.

The directory resolves the channel: it names the publisher's seat and proposes parents. Under a hybrid tree the links to
those are measured before any of them is asked. If none of them keeps the contract, the directory is asked for routes over
hosts that need not carry the channel yet, with the delays that this host has measured; it may have more links measured,
so it is asked again while that helps. Under a cube or graft tree the search goes over the cube, and the directory may give
this host a label nearer to the publisher. A search that was refused for a transient reason is repeated.

A host that carries the channel already, as a relay, is admitted if its path keeps the contract. Else it looks for a better
parent in the same way, and keeps its children: while it asks, it forwards no newer sequence numbers (see `change`).
"""

from collections.abc import Iterable

from cubecast.engine.host.effects import Admitted, Effect, FindRoutes, NotFound, Refused, Relocate, Resolve
from cubecast.engine.host.search.machine import Move, Phase
from cubecast.engine.host.search.obstacle import obstacle
from cubecast.engine.host.search.state import LATE, Purpose, Search
from cubecast.engine.host.search.steps import Kind, SearchSteps
from cubecast.engine.host.tree.branch import Branch
from cubecast.engine.protocol.http_bodies import RoutesAnswer
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.records import ChannelRecord, HostRecord, Tree, Verdict
from cubecast.types import ChannelName, HostId


class Joins(Kind):
    """The searches of the local subscriber."""

    def __init__(self, steps: SearchSteps) -> None:
        self._steps = steps
        self._config = steps.config

    # ------------------------------------------------------------------ the user's requests

    def subscribe(self, channel: ChannelName, contract: Contract) -> list[Effect]:
        """Begins a local subscription; a search under way for the channel is replaced."""
        effects = self._end_all(channel)
        search = self._steps.open(Purpose.JOIN, channel, contract, Phase.RESOLVING)
        branch = self._steps.downstream.branches.get(channel)
        receives = branch is not None and branch.contract is not None  # the directory keeps its report
        return [*effects, Resolve(channel), *([] if receives else [search.report("searching")])]

    def unsubscribe(self, channel: ChannelName) -> list[Effect]:
        """Ends the local subscription, and the search for it."""
        return [*self._end_all(channel), *self._steps.downstream.leave_local(channel)]

    def _end_all(self, channel: ChannelName) -> list[Effect]:
        joins = [search for search in self._steps.own(channel) if search.purpose is Purpose.JOIN]
        return [effect for search in joins for effect in self._steps.end(search)]

    # ------------------------------------------------------------------ the directory's answers

    def on_resolved(self, record: ChannelRecord, proposals: tuple[HostRecord, ...]) -> list[Effect]:
        """The directory has named the publisher's seat and possible parents, the most promising first."""
        effects: list[Effect] = []
        for search in self._in_phase(record.channel, Phase.RESOLVING):
            search.epoch, search.target, search.tree = record.epoch, record.seat, record.tree
            search.publisher = record.publisher
            branch = self._steps.downstream.branches.get(record.channel)
            if branch is not None and branch.finished_ticks is not None:
                search.move(Move.CHOOSE)
                effects += self._pause(search, self._steps.downstream.drain_ticks_left(branch))
            elif branch is not None and self._keeps(search, branch):
                effects += self._admit(search)
            else:
                effects += self._probe(search, proposals)
        return effects

    def on_routes(self, channel: ChannelName, answer: RoutesAnswer | None) -> list[Effect]:
        """The directory has named routes over hosts that need not carry the channel yet, and further hosts to measure."""
        effects: list[Effect] = []
        for search in self._in_phase(channel, Phase.WIDENING):
            self._record(search, answer)
            if answer is None:
                effects += self._choose(search)
                continue
            search.move(Move.PROBE)
            search.age_ticks = 0
            wanted = [*(route.first for route in answer.routes), *answer.probes]
            effects += self._steps.neighbourhood.want_more_links(channel, wanted)
        return effects

    def on_not_found(self, channel: ChannelName, known: tuple[ChannelName, ...]) -> list[Effect]:
        """The directory does not know the channel."""
        effects: list[Effect] = []
        for search in self._in_phase(channel, Phase.RESOLVING):
            report = search.report("refused")
            effects += [*self._steps.end(search), NotFound(channel, known), report]
        return effects

    def on_resolve_failed(self, channel: ChannelName, reason: str) -> list[Effect]:
        """The directory refused to resolve the channel, or did not answer."""
        effects: list[Effect] = []
        for search in self._in_phase(channel, Phase.RESOLVING):
            effects += self.refuse(search, reason)
        return effects

    def on_relocated(self, channel: ChannelName, verdict: Verdict) -> list[Effect]:
        """The directory has answered a request for a better label: search again from there, or refuse."""
        effects: list[Effect] = []
        for search in self._in_phase(channel, Phase.RELOCATING):
            if verdict is Verdict.STAYS:
                effects += self.refuse(search)
            else:
                search.age_ticks = 0
                effects += self._pause(search, self._config.settle_ticks)
        return effects

    @staticmethod
    def _record(search: Search, answer: RoutesAnswer | None) -> None:
        before = 0 if search.routes is None else search.routes.carriers
        grown = answer is not None and answer.carriers > before
        search.unchanged_rounds = 0 if grown else search.unchanged_rounds + 1
        search.routes = answer

    @staticmethod
    def _keeps(search: Search, branch: Branch) -> bool:
        """Whether a branch that is here already keeps the subscriber's contract."""
        named = search.publisher in (None, branch.metrics.path[0])
        return named and branch.fed and branch.finished_ticks is None and search.contract.kept_by(branch.metrics)

    def _in_phase(self, channel: ChannelName, phase: Phase) -> list[Search]:
        return [search for search in self._steps.own(channel) if search.phase is phase]

    def _probe(self, search: Search, proposals: Iterable[HostRecord]) -> list[Effect]:
        """Possible parents are measured first."""
        if search.tree is Tree.HYBRID:
            search.move(Move.PROBE)
            search.age_ticks = 0
            return self._steps.neighbourhood.want_links(search.channel, proposals, at_once=True)
        return self._choose(search)

    def _choose(self, search: Search) -> list[Effect]:
        """Asks the candidates that are known and measured now."""
        search.age_ticks, search.transient = 0, False
        search.direct = [] if search.tree is Tree.CUBE else self._on_tree(search)
        if search.routes is not None or (search.tree is Tree.HYBRID and not search.rounds):
            search.untried, search.over_cube = self._steps.candidates.along_routes(search), True
        branch = self._steps.downstream.branches.get(search.channel)
        if branch is not None:
            branch.seqnos.hold = True
        return self._steps.choose(search)

    def _on_tree(self, search: Search) -> list[HostId]:
        """Hosts that carry the channel and keep the contract, best first; the best of the others is the counter-offer."""
        keep: list[HostId] = []
        for host, metrics in self._steps.candidates.paths_on_tree(search.channel, search.contract, search.tree):
            if metrics.path[0] != search.publisher:
                continue
            if search.contract.kept_by(metrics):
                keep.append(host)
                search.promising[host] = metrics
            else:
                search.nearest = search.nearest_of(metrics)
        return keep

    # ------------------------------------------------------------------ time

    def tick(self, search: Search) -> list[Effect] | None:
        """Advances the phases that only a JOIN has; None in any other phase.

        A host that has become a relay meanwhile may be admitted with that path.
        """
        branch = self._steps.downstream.branches.get(search.channel)
        resolved = search.phase is not Phase.RESOLVING or search.rounds + search.resolves > 0
        if branch is not None and resolved and self._keeps(search, branch):
            return self._admit(search)
        match search.phase:
            case Phase.WAITING if search.wait_ticks <= 0 and search.rounds:
                return self._widen(search)
            case Phase.WAITING if search.wait_ticks <= 0:
                search.move(Move.RESOLVE)
                search.age_ticks = 0
                return [Resolve(search.channel)]
            case Phase.RELOCATING if search.age_ticks >= self._config.search_ticks:
                return self.refuse(search)
            case Phase.PROBING:
                if not self._steps.candidates.probed(search) and search.age_ticks < self._config.probe_ticks:
                    return []
                return self._choose(search)
            case Phase.WIDENING if search.age_ticks >= self._config.search_ticks:
                return self._choose(search)
            case Phase.ATTACHING | Phase.REQUESTING | Phase.COMMITTING:
                relays = search.channel in self._steps.downstream.branches
                if relays and search.age_ticks >= self._config.change_ticks:
                    search.note(f"no path was confirmed {LATE}")
                    return self._steps.fail(search)
        return None

    # ------------------------------------------------------------------ the ends of a search

    def settle(self, search: Search) -> list[Effect]:
        """Commits to the best offer if it keeps the contract."""
        best = search.best
        if best is None or not search.contract.kept_by(best.metrics):
            search.nearest = search.nearest_of(None if best is None else best.metrics)
            return self.fail(search)
        return self._steps.commit(search)

    def fail(self, search: Search) -> list[Effect]:
        """Relocates, repeats the search, or refuses."""
        if self._may_relocate(search):
            search.move(Move.RELOCATE)
            search.age_ticks = 0
            search.relocations += 1
            return [*self._steps.cancel_held(search), Relocate(search.channel, search.contract.bound_ms)]
        if search.total_ticks < self._config.join_ticks:
            if search.tree is Tree.HYBRID and not search.rounds:
                return self._widen(search)
            if search.routes is not None and search.routes.probes and search.rounds < self._config.rounds_max:
                return self._widen(search)  # with the delays measured since
            if (search.transient or search.more_is_measured) and search.resolves < self._config.resolves_max:
                search.resolves += 1
                return self._try_again(search)
        if self._waits_for_others(search):
            return self._try_again(search)
        return self.refuse(search)

    def _waits_for_others(self, search: Search) -> bool:
        """Whether more and more subscribers who came at the same time carry the channel, and may relay it to this one."""
        if search.routes is None or not search.routes.others_search:
            return False
        return search.unchanged_rounds < self._config.crowd_rounds and search.total_ticks < self._config.crowd_ticks

    def _widen(self, search: Search) -> list[Effect]:
        """Asks the directory for routes over hosts that need not carry the channel yet."""
        effects = [*self._steps.cancel_held(search), *self._release_seqnos(search)]
        search.move(Move.WIDEN)
        search.age_ticks = 0
        search.rounds += 1
        search.tries = self._config.tries
        return [*effects, FindRoutes(search.channel, self._steps.candidates.measured_ms())]

    def objection(self, search: Search, host: HostId, metrics: PathMetrics) -> str:  # noqa: ARG002
        """A path that does not keep the contract is not accepted."""
        if metrics.path[0] != search.publisher:
            return f"{metrics.path[-2]} carries another publisher's stream of that name"
        if search.contract.kept_by(metrics):
            return ""
        search.nearest = search.nearest_of(metrics)
        return "no path keeps the bound"

    def confirmed(self, search: Search, record: HostRecord, metrics: PathMetrics) -> list[Effect]:
        """Makes the host the parent, in place of one whose path does not keep the contract, and admits the subscriber."""
        branch = self._steps.downstream.branches.get(search.channel)
        if branch is not None and (branch.publishes or self._keeps(search, branch)):
            return [*self._steps.decline(record.host, search.channel), *self._admit(search)]
        if branch is not None:
            return [*self._steps.upstream.adopt(branch, record, metrics), *self._admit(search)]
        branch = Branch(search.channel, None, metrics, trail=search.trail)
        branch.epoch, branch.target = search.epoch, search.target
        return [*self._steps.upstream.adopt(branch, record, metrics), *self._admit(search)]

    def _may_relocate(self, search: Search) -> bool:
        """Whether a better label may help: over the cube, and it is the bound that the paths found do not keep."""
        nearest = search.nearest
        late = nearest is not None and nearest.least_bound_ms > search.contract.bound_ms
        return search.tree is not Tree.HYBRID and late and search.relocations < self._config.relocations_max

    def _try_again(self, search: Search) -> list[Effect]:
        """Begins another round after a pause."""
        return [*self._steps.cancel_held(search), *self._pause(search, self._config.resolve_ticks)]

    def _pause(self, search: Search, ticks: int) -> list[Effect]:
        """Repeats a search after some ticks, from asking the directory on."""
        search.move(Move.PAUSE)
        search.wait_ticks = ticks
        search.direct.clear()
        search.over_cube, search.tries = False, self._config.tries
        return self._release_seqnos(search)

    def _release_seqnos(self, search: Search) -> list[Effect]:
        branch = self._steps.downstream.branches.get(search.channel)
        return [] if branch is None else self._steps.upstream.release_seqnos(branch)

    def refuse(self, search: Search, reason: str = "") -> list[Effect]:
        """Ends a search without a path; the counter-offer is the nearest path found.

        A subscription that was admitted before, with a weaker contract, goes on.

        Args:
            reason: why it ends; empty for what stood in the way of a path.
        """
        nearest, candidates = search.nearest, self._steps.candidates
        if not reason:
            last = None if nearest is None else candidates.last_hop(nearest)
            reason = obstacle(search, candidates.refusing(search), last)
        best_ms, path = (None, ()) if nearest is None else (nearest.least_bound_ms, nearest.path)
        refused = Refused(search.channel, search.contract, nearest, reason)
        branch = self._steps.downstream.branches.get(search.channel)
        ended = [*self._release_seqnos(search), *self._steps.end(search)]
        if branch is not None and branch.contract is not None:
            return [*ended, refused]
        pruned = [] if branch is None else self._steps.downstream.prune(branch)
        return [*ended, *pruned, refused, search.report("refused", best_ms=best_ms, path=path)]

    def _admit(self, search: Search) -> list[Effect]:
        """The channel is carried here: admits the local subscriber if its contract is kept."""
        branch = self._steps.downstream.branches[search.channel]
        metrics = branch.metrics
        if not search.contract.kept_by(metrics):
            search.nearest = search.nearest_of(metrics)
            return self.refuse(search)
        released = self._release_seqnos(search)
        branch.contract = search.contract
        branch.trail = ()
        report = search.report("receiving", promised_ms=metrics.delay_ms, path=metrics.path)
        return [*released, *self._steps.end(search), Admitted(branch.channel, search.contract, metrics), report]
