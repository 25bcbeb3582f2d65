"""CHANGE: a branch moves to a better parent, or away from one that is about to leave; its stream goes on meanwhile.

While a change is under way this host forwards no newer sequence numbers, so that a new parent that has one proves that
it is no descendant. The subtree gets none in that time, so changes are short.
"""

from cubecast.engine.host.effects import Effect
from cubecast.engine.host.search.repair import Repairs
from cubecast.engine.host.search.state import Purpose, Search
from cubecast.engine.host.search.steps import Kind, SearchSteps
from cubecast.engine.host.tree.branch import Branch
from cubecast.engine.protocol.path import PathMetrics
from cubecast.engine.protocol.records import Advice, HostRecord, Tree
from cubecast.types import HostId


class Changes(Kind):
    """The searches of branches that have a parent and want another."""

    def __init__(self, steps: SearchSteps, repairs: Repairs) -> None:
        self._steps = steps
        self._repairs = repairs

    def begin(self, branch: Branch, hosts: list[HostId]) -> list[Effect]:
        """Tries to make one of these hosts the parent, the first that accepts; without any, searches over the cube."""
        return self._begin(branch, hosts, None)

    def follow(self, branch: Branch, advice: Advice) -> list[Effect]:
        """Tries to make the host that the directory advises the parent."""
        return self._begin(branch, [advice.parent.host], advice)

    def _begin(self, branch: Branch, hosts: list[HostId], advice: Advice | None) -> list[Effect]:
        if self._steps.own(branch.channel):
            return []
        search = self._steps.open_for(branch, Purpose.CHANGE)
        search.direct, search.over_cube = hosts, bool(hosts)
        if advice is not None:
            search.advised, search.slot_for = True, advice.slot_for
        branch.seqnos.hold = True
        return self._steps.advance(search)

    def escape(self, branch: Branch) -> list[Effect]:
        """Changes the parent that is about to leave."""
        branch.lost.retry_ticks = self._steps.config.retry_ticks
        hosts = self._steps.candidates.on_tree(branch.channel, branch.wanted, Tree.HYBRID)
        return self.begin(branch, hosts) if hosts else []

    def settle(self, search: Search) -> list[Effect]:
        """Commits to the best offer; `objection` has compared it with the parent by the time it is confirmed."""
        return self._repairs.settle(search)

    def fail(self, search: Search) -> list[Effect]:
        """The branch stays where it is."""
        return self._repairs.fail(search)

    def objection(self, search: Search, host: HostId, metrics: PathMetrics) -> str:
        """A worse path than that of the parent is not accepted, unless the parent leaves."""
        branch = self._steps.downstream.branches.get(search.channel)
        if branch is None or branch.upstream is None:
            return ""
        rank = search.contract.rank
        worse = rank(metrics) >= rank(branch.metrics)
        if search.advised:
            worse = worse and not search.contract.kept_by(metrics)
        if worse and not self._steps.neighbourhood.links.is_leaving(branch.upstream):
            return f"{host} is no better than {branch.upstream}"
        return ""

    def confirmed(self, search: Search, record: HostRecord, metrics: PathMetrics) -> list[Effect]:
        """Makes the host the parent, unless the branch has ended meanwhile."""
        effects = self._repairs.confirmed(search, record, metrics)
        branch = self._steps.downstream.branches.get(search.channel)
        if branch is not None and branch.upstream == record.host:
            branch.parent.slot_for = search.slot_for
        return effects
