"""JOIN: the local subscriber looks for a path that keeps its contract, and is admitted or refused.

The directory resolves the channel: it names the publisher's seat and proposes parents. Under a hybrid tree the links to
those are measured before any of them is asked. A search that was refused for a transient reason is repeated from
resolving on; under a cube tree the directory may also give this host a label nearer to the publisher.
"""

from collections.abc import Iterable

from cubecast.engine.host.effects import Admitted, Effect, NotFound, Refused, Relocate, Resolve
from cubecast.engine.host.search.machine import Move, Phase
from cubecast.engine.host.search.state import TRANSIENT, Purpose, Search
from cubecast.engine.host.search.steps import Kind, SearchSteps
from cubecast.engine.host.tree.branch import Branch
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
        return [*effects, Resolve(channel), search.report("searching")]

    def unsubscribe(self, channel: ChannelName) -> list[Effect]:
        """Ends the local subscription, and the search for it."""
        return [*self._end_all(channel), *self._steps.downstream.leave_local(channel)]

    def _end_all(self, channel: ChannelName) -> list[Effect]:
        joins = [search for search in self._steps.own(channel) if search.purpose is Purpose.JOIN]
        return [effect for search in joins for effect in self._steps.end(search)]

    # ------------------------------------------------------------------ the directory's answers

    def on_resolved(self, record: ChannelRecord, grant: str, proposals: tuple[HostRecord, ...]) -> list[Effect]:
        """The directory has named the publisher's seat and possible parents, the most promising first."""
        effects: list[Effect] = []
        for search in self._in_phase(record.channel, Phase.RESOLVING):
            search.epoch, search.target, search.grant = record.epoch, record.seat, grant
            if record.channel in self._steps.downstream.branches:
                effects += self._admit(search)
            else:
                effects += self._probe(search, record.tree, proposals)
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
            search.reason = reason
            effects += self.refuse(search)
        return effects

    def on_relocated(self, channel: ChannelName, verdict: Verdict) -> list[Effect]:
        """The directory has answered a request for a better label: search again from there, or refuse."""
        effects: list[Effect] = []
        for search in self._in_phase(channel, Phase.RELOCATING):
            if verdict is Verdict.STAYS:
                effects += self.refuse(search)
            else:
                search.age_ticks = 0
                self._pause(search, self._config.settle_ticks)
        return effects

    def _in_phase(self, channel: ChannelName, phase: Phase) -> list[Search]:
        return [search for search in self._steps.own(channel) if search.phase is phase]

    def _probe(self, search: Search, tree: Tree, proposals: Iterable[HostRecord]) -> list[Effect]:
        """Possible parents are measured first."""
        search.tree = tree
        if tree is Tree.HYBRID:
            search.move(Move.PROBE)
            search.age_ticks = 0
            return self._steps.neighbourhood.want_links(search.channel, proposals, at_once=True)
        if tree is Tree.GRAFT:
            search.direct = self._steps.candidates.on_tree(search.channel, search.contract, tree)
        return self._steps.choose(search)

    # ------------------------------------------------------------------ time

    def tick(self, search: Search) -> list[Effect] | None:
        """Advances the phases that only a JOIN has; None in any other phase."""
        match search.phase:
            case Phase.WAITING if search.wait_ticks <= 0:
                search.move(Move.RESOLVE)
                search.age_ticks = 0
                return [Resolve(search.channel)]
            case Phase.RELOCATING if search.age_ticks >= self._config.search_ticks:
                return self.refuse(search)
            case Phase.PROBING:
                if not self._steps.candidates.probed(search) and search.age_ticks < self._config.probe_ticks:
                    return []
                search.direct = self._steps.candidates.on_tree(search.channel, search.contract, Tree.HYBRID)
                search.age_ticks = 0
                return self._steps.choose(search)
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
        in_time = search.age_ticks < self._config.offer_ticks and search.resolves < self._config.resolves_max
        if search.reason.endswith(TRANSIENT) and in_time:
            return self.resolve_again(search)
        return self.refuse(search)

    def objection(self, search: Search, host: HostId, metrics: PathMetrics) -> str:  # noqa: ARG002
        """A path that does not keep the contract is not accepted."""
        if search.contract.kept_by(metrics):
            return ""
        search.nearest = search.nearest_of(metrics)
        return "no path keeps the bound"

    def confirmed(self, search: Search, record: HostRecord, metrics: PathMetrics) -> list[Effect]:
        """Makes the host the parent, unless there is one already, and admits the subscriber."""
        if search.channel in self._steps.downstream.branches:
            return [*self._steps.decline(record.host, search.channel), *self._admit(search)]
        branch = Branch(search.channel, None, metrics, trail=search.trail, grant=search.grant)
        branch.epoch, branch.target = search.epoch, search.target
        return [*self._steps.upstream.adopt(branch, record, metrics), *self._admit(search)]

    def _may_relocate(self, search: Search) -> bool:
        """Whether a better label may help: over the cube, and it is the bound that the paths found do not keep."""
        nearest = search.nearest
        late = nearest is not None and nearest.least_bound_ms > search.contract.bound_ms
        return search.tree is not Tree.HYBRID and late and search.relocations < self._config.relocations_max

    def resolve_again(self, search: Search) -> list[Effect]:
        """Resolves the channel again after a pause; the parents that the directory proposes then are asked."""
        effects = self._steps.cancel_held(search)
        search.resolves += 1
        search.direct.clear()
        self._pause(search, self._config.resolve_ticks)
        return effects

    def _pause(self, search: Search, ticks: int) -> None:
        """Repeats a search after some ticks, from resolving its channel on."""
        search.move(Move.PAUSE)
        search.wait_ticks = ticks
        search.over_cube, search.tries = False, self._config.tries

    def refuse(self, search: Search) -> list[Effect]:
        """Ends a search without a path; the counter-offer is the nearest path found."""
        nearest = search.nearest
        best_ms, path = (None, ()) if nearest is None else (nearest.least_bound_ms, nearest.path)
        refused = Refused(search.channel, search.contract, nearest, search.reason)
        report = search.report("refused", best_ms=best_ms, path=path)
        return [*self._steps.end(search), refused, report]

    def _admit(self, search: Search) -> list[Effect]:
        """The channel is carried here: admits the local subscriber if its contract is kept."""
        branch = self._steps.downstream.branches[search.channel]
        metrics = branch.metrics
        if not search.contract.kept_by(metrics):
            search.nearest = search.nearest_of(metrics)
            return [*self.refuse(search), *self._steps.downstream.prune(branch)]
        branch.contract = search.contract
        if search.grant:
            branch.trail, branch.grant = (), search.grant
        report = search.report("receiving", promised_ms=metrics.delay_ms, path=metrics.path)
        return [*self._steps.end(search), Admitted(branch.channel, search.contract, metrics), report]
