"""REPAIR: a branch that has lost its parent looks for another; any path is accepted, a late stream is better than none."""

from cubecast.engine.host.effects import Effect, Rouse
from cubecast.engine.host.search.state import Purpose, Search
from cubecast.engine.host.search.steps import Kind, SearchSteps
from cubecast.engine.host.tree.branch import Branch
from cubecast.engine.protocol.path import PathMetrics
from cubecast.engine.protocol.records import HostRecord, Tree


class Repairs(Kind):
    """The searches of branches without a parent."""

    def __init__(self, steps: SearchSteps) -> None:
        self._steps = steps

    def begin(self, branch: Branch) -> list[Effect]:
        """Looks for a parent for a branch that has none, unless a search for it is under way."""
        effects: list[Effect] = []
        for other in self._steps.own(branch.channel):
            if other.purpose is Purpose.REPAIR:
                return []
            if other.purpose is Purpose.CHANGE:
                effects += self._steps.end(other)
        search = self._steps.open_for(branch, Purpose.REPAIR)
        shun_ticks = self._steps.config.shun_ticks
        shunned = None if branch.lost.cause is None or branch.lost.ticks >= shun_ticks else branch.lost.cause[0]
        search.direct = self._steps.candidates.on_tree(branch.channel, search.contract, Tree.HYBRID, shunned)
        if branch.standby.host is not None and branch.standby.ready:  # faster than any other
            search.direct = [
                branch.standby.host,
                *(host for host in search.direct if host != branch.standby.host),
            ]
            effects.append(Rouse(branch.channel, branch.standby.host))
        return effects + self._steps.advance(search)

    def settle(self, search: Search) -> list[Effect]:
        """Commits to the best offer, whatever its delay."""
        return self.fail(search) if search.best is None else self._steps.commit(search)

    def fail(self, search: Search) -> list[Effect]:
        """The branch tries again after a pause, until its time without a parent is over."""
        branch = self._steps.downstream.branches.get(search.channel)
        if branch is None:
            return self._steps.end(search)
        branch.lost.retry_ticks = self._steps.config.retry_ticks
        return [*self._steps.upstream.release_seqnos(branch), *self._steps.end(search)]

    def confirmed(self, search: Search, record: HostRecord, metrics: PathMetrics) -> list[Effect]:
        """Makes the host the parent, unless the branch has ended meanwhile, or has a parent again."""
        branch = self._steps.downstream.branches.get(search.channel)
        if branch is None or branch.publishes or (search.purpose is Purpose.REPAIR and branch.fed):
            return [*self._steps.decline(record.host, search.channel), *self._steps.end(search)]
        return [*self._steps.end(search), *self._steps.upstream.adopt(branch, record, metrics)]
