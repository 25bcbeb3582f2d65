"""StandbySelection: a host that a branch can move to at once when its parent dies, its media session open already.

A host whose parent is not the publisher asks another one to stand by: one that carries the channel, has a copy left, and
does not get it through the same parent. Whoever stands by keeps no copy back for that; it stands by for no more hosts
than it has copies left, and says so when it cannot any more.
"""

from collections.abc import Callable

from cubecast.engine.host.effects import Effect, Evict, Prepare, Send, StopPull
from cubecast.engine.host.neighbourhood import Neighbourhood
from cubecast.engine.host.search.candidates import Candidates
from cubecast.engine.host.tree.downstream import CHILD_TICKS, Branch, Downstream, StandbyChild
from cubecast.engine.protocol.messages import Release, StandbyRequest, StandbyStatus
from cubecast.engine.protocol.records import Tree
from cubecast.types import ChannelName, HostId

LOOK_TICKS = 5
"""A branch looks at its standby every so many ticks."""
ASK_TICKS = 20
"""It is asked again every so many ticks, so that it knows that we live."""
WAIT_TICKS = 60
"""A standby that is not open after so long is given up."""
SHUN_TICKS = 40
"""A host that did not stand by is not asked for so long."""
SHUNNED_MAX = 64


class StandbySelection:
    """StandbySelection of all branches, and the hosts we stand by for. The engine owns one."""

    def __init__(
        self, neighbourhood: Neighbourhood, downstream: Downstream, candidates: Candidates, promised: Callable[[], int]
    ) -> None:
        """Nobody stands by yet.

        Args:
            promised: copies that offers in flight may take.
        """
        self._neighbourhood = neighbourhood
        self._downstream = downstream
        self._candidates = candidates
        self._promised = promised
        self._shunned: dict[tuple[ChannelName, HostId], int] = {}

    # ------------------------------------------------------------------ our standbys

    def age(self) -> None:
        """Time goes by for all branches; comes before `tick` for each."""
        self._shunned = {key: left - 1 for key, left in self._shunned.items() if left > 1}

    def tick(self, branch: Branch) -> list[Effect]:
        """Looks after the standby of a branch, and after the hosts that the branch stands by for."""
        effects = self._age_standby_children(branch)
        branch.standby_ticks += 1
        if branch.ticks % LOOK_TICKS or branch.former is not None:
            return effects
        if branch.standby is not None:
            late = not branch.standby_ready and branch.standby_ticks >= WAIT_TICKS
            if late or not self._fits(branch, branch.standby):
                return [*effects, *self._drop(branch, shun=late), *self._look(branch)]
            if branch.ticks % ASK_TICKS == 0:
                effects.append(self._ask(branch, branch.standby))
            return effects
        return [*effects, *self._look(branch)]

    def _look(self, branch: Branch) -> list[Effect]:
        """Asks the best host there is to stand by."""
        if branch.upstream is None or branch.finished_ticks is not None or len(branch.metrics.path) <= 2:
            return []
        grandparent = branch.metrics.path[-3]  # our parent's place is free there when it dies
        others = self._candidates.on_tree(branch.channel, branch.wanted, Tree.HYBRID)
        for host in dict.fromkeys([grandparent, *others]):
            if self._fits(branch, host) and (branch.channel, host) not in self._shunned:
                branch.standby, branch.standby_ready, branch.standby_ticks = host, False, 0
                return [self._ask(branch, host)]
        return []

    def on_standby_status(self, host: HostId, m: StandbyStatus) -> list[Effect]:
        """A host that was asked stands by, or does not."""
        branch, record = self._downstream.branches.get(m.channel), self._neighbourhood.record(host)
        if branch is None or branch.standby != host or record is None:
            return [Send(host, Release(m.channel))] if m.ready and branch is None else []
        if not m.ready:
            return [*self._drop(branch), *self._look(branch)]
        return [] if branch.standby_ready else [Prepare(m.channel, record)]

    def on_prepared(self, channel: ChannelName, host: HostId) -> list[Effect]:
        """The session to a standby is open."""
        branch = self._downstream.branches.get(channel)
        if branch is None or branch.standby != host:
            feeds = branch is not None and host in (branch.upstream, branch.former)
            return [] if feeds else [StopPull(channel, host)]
        branch.standby_ready = True
        return []

    def on_failed(self, channel: ChannelName, host: HostId) -> list[Effect]:
        """The session to a standby is gone."""
        branch = self._downstream.branches.get(channel)
        return [] if branch is None or branch.standby != host else self._drop(branch)

    def _fits(self, branch: Branch, host: HostId) -> bool:
        """Whether a host would go on when our parent does not."""
        there, record = self._neighbourhood.carrying(branch.channel).get(host), self._neighbourhood.record(host)
        ours = self._neighbourhood.host
        return (
            there is not None
            and record is not None
            and record.reachable
            and host not in (branch.upstream, branch.former)
            and host not in branch.children
            and branch.upstream not in there.path
            and ours not in there.path
        )

    def _ask(self, branch: Branch, host: HostId) -> Effect:
        trail = (*branch.trail, self._neighbourhood.host)
        return Send(host, StandbyRequest(branch.channel, trail, branch.grant, branch.upstream or host))

    def _drop(self, branch: Branch, *, shun: bool = True) -> list[Effect]:
        host, branch.standby, branch.standby_ready = branch.standby, None, False
        if host is None or host in (branch.upstream, branch.former):  # what feeds us goes on
            return []
        if shun and len(self._shunned) < SHUNNED_MAX:
            self._shunned[branch.channel, host] = SHUN_TICKS
        return [StopPull(branch.channel, host), Send(host, Release(branch.channel))]

    # ------------------------------------------------------------------ those we stand by for

    def on_standby_request(self, host: HostId, m: StandbyRequest) -> list[Effect]:
        """A host asks us to stand by."""
        branch = self._downstream.branches.get(m.channel)
        ready = (
            branch is not None
            and branch.fed
            and branch.finished_ticks is None
            and host not in branch.metrics.path
            and host not in branch.children
            and (
                host in branch.standby_children
                or self._room(branch) > 0
                or self._takes_slot_of_parent(branch, m.parent)
            )
        )
        if ready and branch is not None:
            branch.standby_children[host] = StandbyChild(m.parent)
        return [Send(host, StandbyStatus(m.channel, ready))]

    def _room(self, branch: Branch) -> int:
        """Copies left beyond those that wards may need, of any channel; one ward of each child needs that child's own."""
        needed = sum(
            len(each.standby_children)
            - len({standby_child.parent for standby_child in each.standby_children.values()} & each.children.keys())
            for each in self._downstream.branches.values()
        )
        return self._downstream.spare(branch.channel, self._promised()) - needed

    @staticmethod
    def _takes_slot_of_parent(branch: Branch, parent: HostId) -> bool:
        """Whether a host's parent is a child of ours, and nobody else waits for its place."""
        return parent in branch.children and all(
            standby_child.parent != parent for standby_child in branch.standby_children.values()
        )

    def _age_standby_children(self, branch: Branch) -> list[Effect]:
        effects: list[Effect] = []
        for standby_child in branch.standby_children.values():
            standby_child.quiet_ticks += 1
        gone = [
            host for host, standby_child in branch.standby_children.items() if standby_child.quiet_ticks >= CHILD_TICKS
        ]
        over = -self._room(branch) if branch.standby_children else 0
        gone += [host for host in reversed(branch.standby_children) if host not in gone][: max(0, over)]
        for host in gone:
            del branch.standby_children[host]
            effects += [Send(host, StandbyStatus(branch.channel, ready=False)), Evict(branch.channel, host)]
        return effects
