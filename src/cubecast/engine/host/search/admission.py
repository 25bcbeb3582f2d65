"""Admission control for requests of other hosts: whether fan-out is spare, or a slot is reserved or freed by a dead child."""

from collections.abc import Mapping

from cubecast.engine.host.effects import Effect, Evict
from cubecast.engine.host.search.state import DESCENDANT, RESERVING, UNFED, Search
from cubecast.engine.host.tree.branch import Branch
from cubecast.engine.host.tree.downstream import Downstream
from cubecast.types import HostId


class Admission:
    """Decides from branches and searches; SearchSteps owns one."""

    def __init__(self, host: HostId, downstream: Downstream, searches: Mapping[tuple[HostId, int], Search]) -> None:
        """A view on branches and searches.

        Args:
            host: this one.
        """
        self._host = host
        self._downstream = downstream
        self._searches = searches

    def promised(self, without: Search | None = None) -> int:
        """Copies reserved by requests of other hosts that are under way."""
        others = (s for s in self._searches.values() if s.requester != self._host and s is not without)
        return sum(s.phase in RESERVING for s in others)

    def full(self, search: Search) -> bool:
        """Whether no fan-out is spare for the requester, and it is no child and has no slot reserved for it."""
        if self._downstream.has_slot(search.channel, search.requester):
            return False
        if self._downstream.spare(search.channel, self.promised(search)) > 0:
            return False
        return self._downstream.leaving or self._downstream.slot_free_for(search.channel, search.requester) is None

    def free_slot(self, search: Search, branch: Branch) -> list[Effect]:
        """If no fan-out is spare, gives the requester the slot of its dead parent."""
        child = self._downstream.slot_free_for(search.channel, search.requester)
        if child is None or self._downstream.spare(search.channel, self.promised(search)) > 0:
            return []
        del branch.below.children[child]
        return [Evict(branch.channel, child)]

    @staticmethod
    def is_served(branch: Branch) -> bool:
        """Whether a branch that is here has a parent, or is published here, and goes on."""
        return branch.fed and branch.finished_ticks is None

    def objection(self, branch: Branch, search: Search) -> str:
        """Why this host cannot serve a request from what it carries; empty when it can."""
        if branch.finished_ticks is not None:
            return "the channel is over"
        if not branch.fed:
            return f"{self._host} {UNFED}"
        feasible = search.feasibility.allows(branch.metrics.seqno, branch.metrics.depth, branch.metrics.publication)
        return "" if feasible else f"{self._host} {DESCENDANT} {search.requester}"
