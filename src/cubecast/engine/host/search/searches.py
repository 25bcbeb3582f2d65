"""All searches of one host by purpose, and their deadlines."""

from cubecast.engine.host.config import EngineConfig
from cubecast.engine.host.effects import Effect, Send
from cubecast.engine.host.neighbourhood import Neighbourhood
from cubecast.engine.host.search.answers import SearchAnswers
from cubecast.engine.host.search.candidates import Candidates
from cubecast.engine.host.search.change import Changes
from cubecast.engine.host.search.join import Joins
from cubecast.engine.host.search.machine import Phase
from cubecast.engine.host.search.relay import RelayRequests
from cubecast.engine.host.search.repair import Repairs
from cubecast.engine.host.search.state import LATE, Purpose, Search
from cubecast.engine.host.search.steps import SearchSteps
from cubecast.engine.host.tree.downstream import Downstream
from cubecast.engine.host.tree.upstream import Upstream
from cubecast.engine.protocol.messages import Cancel, PathRefusal
from cubecast.types import HostId


class Searches:
    """The engine owns one and passes it messages, ticks and failures."""

    def __init__(
        self,
        neighbourhood: Neighbourhood,
        downstream: Downstream,
        upstream: Upstream,
        candidates: Candidates,
        config: EngineConfig,
    ) -> None:
        self._neighbourhood = neighbourhood
        self._config = config.search
        self.steps = SearchSteps(neighbourhood, downstream, upstream, candidates, config)
        self.joins = Joins(self.steps)
        self.repairs = Repairs(self.steps)
        self.changes = Changes(self.steps, self.repairs)
        self.relay = RelayRequests(self.steps)
        self.answers = SearchAnswers(self.steps)
        self.steps.kinds.update(
            {
                Purpose.JOIN: self.joins,
                Purpose.REPAIR: self.repairs,
                Purpose.CHANGE: self.changes,
                Purpose.RELAY: self.relay,
            }
        )

    def end_undecided(self) -> list[Effect]:
        """Ends the searches that a fault of this program has left without anything to wait for."""
        undecided = [search for search in self.steps.searches.values() if search.phase is Phase.CHOOSING]
        effects: list[Effect] = []
        for search in undecided:
            reason = "an internal fault ended the search; see the host's log"
            effects += self.joins.refuse(search, reason) if search.purpose is Purpose.JOIN else self.steps.end(search)
        return effects

    def tick(self) -> list[Effect]:
        """Advances the deadlines of all searches and offers."""
        effects: list[Effect] = []
        for search in list(self.steps.searches.values()):
            search.age_ticks += 1
            search.total_ticks += 1
            search.wait_ticks -= 1
            host = search.waits_for
            if host is not None and self._neighbourhood.links.is_unanswered(host, self._config.silent_ticks):
                effects += self.answers.on_silent(search, host)
                continue
            if host is not None and self._neighbourhood.links.is_silent(host, self._config.doubt_ticks):
                effects += self._neighbourhood.ping(host)
            effects += self._tick(search)
        return effects

    def _tick(self, search: Search) -> list[Effect]:
        config, steps = self._config, self.steps
        mine = search.requester == self._neighbourhood.host
        if search.phase is Phase.ATTACHING and search.asked is not None and search.wait_ticks <= 0:
            return self._time_out(search, *search.asked)
        if search.purpose is Purpose.JOIN:
            joined = self.joins.tick(search)
            if joined is not None:
                return joined
        if search.phase is Phase.PARKED:
            return self.relay.tick_parked(search)
        if search.phase is Phase.PROBING:
            return self.relay.tick_probing(search)
        if search.phase is Phase.WAITING:
            return []
        limit = config.change_ticks if search.purpose is Purpose.CHANGE else config.offer_ticks
        if search.age_ticks >= limit and (mine or search.purpose is Purpose.CHANGE):
            return steps.fail(search)
        if mine and search.age_ticks == config.search_ticks:
            return steps.settle_at_deadline(search)
        return steps.end(search) if search.age_ticks >= config.offer_ticks else []

    def _time_out(self, search: Search, host: HostId, ask: int) -> list[Effect]:
        """A host that was asked to attach this one has not answered in time: the next is asked."""
        late = PathRefusal(ask, search.channel, f"{host} {LATE}", search.tries)
        cancelled = [Send(host, Cancel(ask)), *self.steps.decline(host, search.channel)]
        return [*cancelled, *self.answers.on_refusal(host, late)]
