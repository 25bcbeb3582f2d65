"""Standbys: a host that a branch can move to at once when its parent dies, its media session open already.

A host whose parent is not the publisher asks another one to stand by: one that carries the channel, has a copy left, and
does not get it through the same parent. Whoever stands by keeps no copy back for that; it stands by for no more hosts
than it has copies left, and says so when it cannot any more.
"""

from collections.abc import Callable

from cubecast.engine.branches import CHILD_TICKS, Branch, Branches, Ward
from cubecast.engine.candidates import Candidates
from cubecast.engine.effects import Effect, Evict, Prepare, Send, StopPull
from cubecast.engine.membership import Neighbourhood
from cubecast.engine.messages import Release, StandBy, StandingBy
from cubecast.engine.records import Tree
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


class Standbys:
    """Standbys of all branches, and the hosts we stand by for. The engine owns one."""

    def __init__(
        self, neighbourhood: Neighbourhood, branches: Branches, candidates: Candidates, promised: Callable[[], int]
    ) -> None:
        """Nobody stands by yet.

        Args:
            promised: copies that offers in flight may take.
        """
        self._around = neighbourhood
        self._branches = branches
        self._candidates = candidates
        self._promised = promised
        self._shunned: dict[tuple[ChannelName, HostId], int] = {}

    # ------------------------------------------------------------------ our standbys

    def age(self) -> None:
        """Time goes by for all branches; comes before `tick` for each."""
        self._shunned = {key: left - 1 for key, left in self._shunned.items() if left > 1}

    def tick(self, branch: Branch) -> list[Effect]:
        """Looks after the standby of a branch, and after the hosts that the branch stands by for."""
        effects = self._age_wards(branch)
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
        if branch.upstream is None or branch.finished_ticks is not None or len(branch.reach.path) <= 2:
            return []
        grandparent = branch.reach.path[-3]  # our parent's place is free there when it dies
        others = self._candidates.on_tree(branch.channel, branch.wanted, Tree.HYBRID)
        for host in dict.fromkeys([grandparent, *others]):
            if self._fits(branch, host) and (branch.channel, host) not in self._shunned:
                branch.standby, branch.standby_ready, branch.standby_ticks = host, False, 0
                return [self._ask(branch, host)]
        return []

    def on_standing_by(self, host: HostId, m: StandingBy) -> list[Effect]:
        """A host that was asked stands by, or does not."""
        branch, record = self._branches.carried.get(m.channel), self._around.record(host)
        if branch is None or branch.standby != host or record is None:
            return [Send(host, Release(m.channel))] if m.ready and branch is None else []
        if not m.ready:
            return [*self._drop(branch), *self._look(branch)]
        return [] if branch.standby_ready else [Prepare(m.channel, record)]

    def on_prepared(self, channel: ChannelName, host: HostId) -> list[Effect]:
        """The session to a standby is open."""
        branch = self._branches.carried.get(channel)
        if branch is None or branch.standby != host:
            feeds = branch is not None and host in (branch.upstream, branch.former)
            return [] if feeds else [StopPull(channel, host)]
        branch.standby_ready = True
        return []

    def on_failed(self, channel: ChannelName, host: HostId) -> list[Effect]:
        """The session to a standby is gone."""
        branch = self._branches.carried.get(channel)
        return [] if branch is None or branch.standby != host else self._drop(branch)

    def _fits(self, branch: Branch, host: HostId) -> bool:
        """Whether a host would go on when our parent does not."""
        there, record = self._around.carrying(branch.channel).get(host), self._around.record(host)
        ours = self._around.host
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
        trail = (*branch.trail, self._around.host)
        return Send(host, StandBy(branch.channel, trail, branch.grant, branch.upstream or host))

    def _drop(self, branch: Branch, *, shun: bool = True) -> list[Effect]:
        host, branch.standby, branch.standby_ready = branch.standby, None, False
        if host is None or host in (branch.upstream, branch.former):  # what feeds us goes on
            return []
        if shun and len(self._shunned) < SHUNNED_MAX:
            self._shunned[branch.channel, host] = SHUN_TICKS
        return [StopPull(branch.channel, host), Send(host, Release(branch.channel))]

    # ------------------------------------------------------------------ those we stand by for

    def on_stand_by(self, host: HostId, m: StandBy) -> list[Effect]:
        """A host asks us to stand by."""
        branch = self._branches.carried.get(m.channel)
        ready = (
            branch is not None
            and branch.fed
            and branch.finished_ticks is None
            and host not in branch.reach.path
            and host not in branch.children
            and (host in branch.wards or self._room(branch) > 0 or self._inherits(branch, m.parent))
        )
        if ready and branch is not None:
            branch.wards[host] = Ward(m.parent)
        return [Send(host, StandingBy(m.channel, ready))]

    def _room(self, branch: Branch) -> int:
        """Copies left beyond those that wards may need, of any channel; one ward of each child needs that child's own."""
        needed = sum(
            len(each.wards) - len({ward.parent for ward in each.wards.values()} & each.children.keys())
            for each in self._branches.carried.values()
        )
        return self._branches.spare(branch.channel, self._promised()) - needed

    @staticmethod
    def _inherits(branch: Branch, parent: HostId) -> bool:
        """Whether a host's parent is a child of ours, and nobody else waits for its place."""
        return parent in branch.children and all(ward.parent != parent for ward in branch.wards.values())

    def _age_wards(self, branch: Branch) -> list[Effect]:
        effects: list[Effect] = []
        for ward in branch.wards.values():
            ward.quiet_ticks += 1
        gone = [host for host, ward in branch.wards.items() if ward.quiet_ticks >= CHILD_TICKS]
        over = -self._room(branch) if branch.wards else 0
        gone += [host for host in reversed(branch.wards) if host not in gone][: max(0, over)]
        for host in gone:
            del branch.wards[host]
            effects += [Send(host, StandingBy(branch.channel, ready=False)), Evict(branch.channel, host)]
        return effects
