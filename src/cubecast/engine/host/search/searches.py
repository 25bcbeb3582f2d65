"""This host's own searches for a parent: how each begins, and the deadlines of all."""

from collections.abc import Iterable

from cubecast.engine.host.config import EngineConfig
from cubecast.engine.host.effects import Effect, Resolve, Rouse, Send
from cubecast.engine.host.neighbourhood import Neighbourhood
from cubecast.engine.host.search.answers import SearchAnswers
from cubecast.engine.host.search.candidates import Candidates
from cubecast.engine.host.search.relay import RelayRequests
from cubecast.engine.host.search.state import Phase, Purpose, Search
from cubecast.engine.host.search.steps import SearchSteps
from cubecast.engine.host.tree.branch import Branch
from cubecast.engine.host.tree.downstream import Downstream
from cubecast.engine.host.tree.upstream import Upstream
from cubecast.engine.protocol.messages import Cancel, PathRefusal
from cubecast.engine.protocol.records import HostRecord, Tree, Verdict
from cubecast.types import ChannelName, HostId


class Searches:
    """All searches of one host. The engine owns one and passes it messages, ticks and failures."""

    def __init__(
        self,
        neighbourhood: Neighbourhood,
        downstream: Downstream,
        upstream: Upstream,
        candidates: Candidates,
        config: EngineConfig,
    ) -> None:
        self._neighbourhood = neighbourhood
        self._downstream = downstream
        self._candidates = candidates
        self._config = config.search
        self.steps = SearchSteps(neighbourhood, downstream, upstream, candidates, config)
        self.answers = SearchAnswers(self.steps)
        self.relay = RelayRequests(self.steps)

    # ------------------------------------------------------------------ how a search begins

    def probe(self, search: Search, tree: Tree, proposals: Iterable[HostRecord]) -> list[Effect]:
        """Continues a search that has resolved its channel: possible parents are measured first.

        Args:
            proposals: the directory's, most promising first.
        """
        search.tree = tree
        if tree is Tree.HYBRID:
            search.phase, search.age_ticks = Phase.PROBING, 0
            return self._neighbourhood.want_links(search.channel, proposals, at_once=True)
        if tree is Tree.GRAFT:
            search.direct = self._candidates.on_tree(search.channel, search.contract, tree)
        search.phase = Phase.ASKING
        return self.steps.advance(search)

    def repair(self, branch: Branch) -> list[Effect]:
        """Looks for a parent for a branch that has none, unless a search for it is under way."""
        effects: list[Effect] = []
        for other in self.steps.own(branch.channel):
            if other.purpose is Purpose.REPAIR:
                return []
            if other.purpose is Purpose.CHANGE:
                effects += self.steps.abandon(other)
        search = self._open_for(branch, Purpose.REPAIR)
        shunned = None if branch.lost is None or branch.orphan_ticks >= self._config.shun_ticks else branch.lost[0]
        search.direct = self._candidates.on_tree(branch.channel, search.contract, Tree.HYBRID, shunned)
        if branch.standby is not None and branch.standby_ready:  # faster than any other
            search.direct = [branch.standby, *(host for host in search.direct if host != branch.standby)]
            effects.append(Rouse(branch.channel, branch.standby))
        return effects + self.steps.advance(search)

    def change(self, branch: Branch, hosts: list[HostId], *, advised: bool = False) -> list[Effect]:
        """Tries to make one of these hosts the parent, the first that accepts; without any, searches over the cube."""
        if self.steps.own(branch.channel):
            return []
        search = self._open_for(branch, Purpose.CHANGE)
        search.direct, search.over_cube = hosts, bool(hosts)
        search.advised = advised
        branch.hold_seqno = True
        return self.steps.advance(search)

    def escape(self, branch: Branch) -> list[Effect]:
        """Changes the parent that is about to leave."""
        branch.retry_ticks = self._config.retry_ticks
        hosts = self._candidates.on_tree(branch.channel, branch.wanted, Tree.HYBRID)
        return self.change(branch, hosts) if hosts else []

    def _open_for(self, branch: Branch, purpose: Purpose) -> Search:
        search = self.steps.open(purpose, branch.channel, branch.wanted)
        search.trail, search.grant = branch.trail, branch.grant
        search.epoch, search.target = branch.epoch, branch.target
        return search

    def on_relocated(self, channel: ChannelName, verdict: Verdict) -> list[Effect]:
        """The directory has answered a request for a better label: search again from there, or refuse."""
        effects: list[Effect] = []
        for search in self.steps.own(channel):
            if search.phase is not Phase.RELOCATING:
                continue
            if verdict is Verdict.STAYS:
                effects += self.steps.refuse(search, None)
            else:
                search.age_ticks = 0
                self.steps.wait(search, self._config.settle_ticks)
        return effects

    # ------------------------------------------------------------------ time

    def tick(self) -> list[Effect]:
        """Advances the deadlines of all searches and offers."""
        effects: list[Effect] = []
        for search in list(self.steps.searches.values()):
            search.age_ticks += 1
            search.wait_ticks -= 1
            effects += self._tick(search)
        return effects

    def _tick(self, search: Search) -> list[Effect]:
        config, steps = self._config, self.steps
        mine = search.asker == self._neighbourhood.host
        if search.phase is Phase.ATTACHING and search.asked is not None and search.wait_ticks <= 0:
            return self._time_out(search, *search.asked)
        if search.phase is Phase.WAITING and search.wait_ticks <= 0:
            search.phase, search.age_ticks = Phase.RESOLVING, 0
            return [Resolve(search.channel)]
        if search.phase is Phase.RELOCATING and search.age_ticks >= config.search_ticks:
            return steps.refuse(search, None)
        if search.phase is Phase.PROBING:
            return self._end_probing(search)
        if search.phase is Phase.PARKED:
            return self.relay.tick_parked(search)
        limit = config.change_ticks if search.purpose is Purpose.CHANGE else config.offer_ticks
        if search.age_ticks >= limit and (mine or search.purpose is Purpose.CHANGE):
            return steps.fail(search, None)
        if mine and search.age_ticks == config.search_ticks:
            return steps.settle_at_deadline(search)
        return steps.abandon(search) if search.age_ticks >= config.offer_ticks else []

    def _time_out(self, search: Search, host: HostId, ask: int) -> list[Effect]:
        """A host that was asked to attach this one has not answered in time: the next is asked."""
        late = PathRefusal(ask, search.channel, f"{host} did not answer in time", search.tries)
        cancelled = [Send(host, Cancel(ask)), *self.steps.decline(host, search.channel)]
        return [*cancelled, *self.answers.on_refusal(host, late)]

    def _end_probing(self, search: Search) -> list[Effect]:
        if not self._candidates.probed(search) and search.age_ticks < self._config.probe_ticks:
            return []
        search.direct = self._candidates.on_tree(search.channel, search.contract, Tree.HYBRID)
        search.phase, search.age_ticks = Phase.ASKING, 0
        return self.steps.advance(search)
