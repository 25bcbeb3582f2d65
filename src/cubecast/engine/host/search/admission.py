"""Whether a host that asks for a channel has a place here: copies left, promised to others, or left by a dead child."""

from collections.abc import Mapping

from cubecast.engine.host.effects import Effect, Evict
from cubecast.engine.host.search.state import RESERVING, UNFED, Search
from cubecast.engine.host.tree.downstream import Branch, Downstream
from cubecast.types import HostId


class Admission:
    """Places for those who ask. The searches own one."""

    def __init__(self, host: HostId, downstream: Downstream, searches: Mapping[tuple[HostId, int], Search]) -> None:
        """A view on branches and searches.

        Args:
            host: this one.
        """
        self._host = host
        self._downstream = downstream
        self._searches = searches

    def promised(self, without: Search | None = None) -> int:
        """Copies promised to others by offers in flight."""
        others = (s for s in self._searches.values() if s.asker != self._host and s is not without)
        return sum(s.phase in RESERVING for s in others)

    def full(self, search: Search) -> bool:
        """Whether no copy is left for a host that is no child yet."""
        if self._downstream.is_child(search.channel, search.asker):
            return False
        spare = self._downstream.spare(search.channel, self.promised(search))
        return spare <= 0 and (
            self._downstream.leaving or self._downstream.slot_free_for(search.channel, search.asker) is None
        )

    def make_room(self, search: Search, branch: Branch) -> list[Effect]:
        """Where no copy is left, the asker takes the place of its dead parent."""
        child = self._downstream.slot_free_for(search.channel, search.asker)
        if child is None or self._downstream.spare(search.channel, self.promised(search)) > 0:
            return []
        del branch.children[child]
        return [Evict(branch.channel, child)]

    def unfit(self, branch: Branch, search: Search) -> str:
        """Why what we carry is nothing for the asker of a path; empty when it is."""
        if branch.finished_ticks is not None:
            return "the channel is over"
        if not branch.fed:
            return f"{self._host} {UNFED}"
        fresh = search.feasibility.allows(branch.metrics.seqno, branch.metrics.depth)
        return "" if fresh else f"{self._host} may hang on {search.asker}"
