"""Standby parents: a branch can move to its standby at once when its parent dies, since the media session is open already.

A host whose parent is not the publisher asks another one to be its standby: one that carries the channel, has a copy
left, and does not get the channel through the same parent. A standby reserves no copy for that; it is standby for no
more hosts than its spare fan-out allows, and notifies those for which it no longer is.
"""

from collections.abc import Callable

from cubecast.engine.host.config import EngineConfig
from cubecast.engine.host.effects import Effect, Evict, Prepare, Send, StopPull
from cubecast.engine.host.neighbourhood import Neighbourhood
from cubecast.engine.host.search.candidates import Candidates
from cubecast.engine.host.tree.branch import Branch, StandbyChild
from cubecast.engine.host.tree.downstream import Downstream
from cubecast.engine.protocol.messages import Release, StandbyRequest, StandbyStatus
from cubecast.engine.protocol.records import Tree
from cubecast.types import ChannelName, HostId


class StandbySelection:
    """The standby of each branch, and the hosts that this one is standby for. The engine owns one."""

    def __init__(
        self,
        neighbourhood: Neighbourhood,
        downstream: Downstream,
        candidates: Candidates,
        promised: Callable[[], int],
        config: EngineConfig,
    ) -> None:
        """No standbys yet.

        Args:
            promised: gives the copies reserved for requests of other hosts that are under way.
        """
        self._neighbourhood = neighbourhood
        self._downstream = downstream
        self._candidates = candidates
        self._promised = promised
        self._config = config.standby
        self._child_ticks = config.tree.child_ticks
        self._shunned: dict[tuple[ChannelName, HostId], int] = {}

    # ------------------------------------------------------------------ our standbys

    def age(self) -> None:
        """One tick has passed; comes before `tick` for each branch."""
        self._shunned = {key: left - 1 for key, left in self._shunned.items() if left > 1}

    def tick(self, branch: Branch) -> list[Effect]:
        """Checks the standby of a branch, and the hosts that this one is standby for."""
        config = self._config
        effects = self._age_standby_children(branch)
        branch.standby.ticks += 1
        if branch.standby.host is not None and branch.upstream is not None:
            silent = branch.standby.ready and branch.parent.doubt_ticks == 1
            if silent or self._neighbourhood.beats(branch.standby.host):
                effects.append(self._ask(branch, branch.standby.host, silent=silent))
        if branch.ticks % config.look_ticks or branch.parent.former is not None:
            return effects
        if branch.standby.host is not None:
            late = not branch.standby.ready and branch.standby.ticks >= config.wait_ticks
            if late or not self._is_eligible(branch, branch.standby.host):
                return [*effects, *self._drop(branch, shun=late), *self._find_standby(branch)]
            return effects
        return [*effects, *self._find_standby(branch)]

    def _find_standby(self, branch: Branch) -> list[Effect]:
        """Asks the best host that is eligible, if any, to be the standby."""
        if branch.upstream is None or branch.finished_ticks is not None or len(branch.metrics.path) <= 2:
            return []
        grandparent = branch.metrics.path[-3]  # when our parent dies, the grandparent has its slot free
        others = self._candidates.on_tree(branch.channel, branch.wanted, Tree.HYBRID)
        for host in dict.fromkeys([grandparent, *others]):
            if self._is_eligible(branch, host) and (branch.channel, host) not in self._shunned:
                branch.standby.host, branch.standby.ready, branch.standby.ticks = host, False, 0
                return [self._ask(branch, host)]
        return []

    def on_standby_status(self, host: HostId, m: StandbyStatus) -> list[Effect]:
        """A host that was asked agrees or refuses, or no longer agrees."""
        branch, record = self._downstream.branches.get(m.channel), self._neighbourhood.links.record(host)
        if branch is None or branch.standby.host != host or record is None:
            return [Send(host, Release(m.channel))] if m.ready and branch is None else []
        if not m.ready:
            return [*self._drop(branch), *self._find_standby(branch)]
        return [] if branch.standby.ready else [Prepare(m.channel, record)]

    def on_prepared(self, channel: ChannelName, host: HostId) -> list[Effect]:
        """The session to a standby is open."""
        branch = self._downstream.branches.get(channel)
        if branch is None or branch.standby.host != host:
            feeds = branch is not None and host in (branch.upstream, branch.parent.former)
            return [] if feeds else [StopPull(channel, host)]
        branch.standby.ready = True
        return []

    def on_failed(self, channel: ChannelName, host: HostId) -> list[Effect]:
        """The session to a standby closed."""
        branch = self._downstream.branches.get(channel)
        return [] if branch is None or branch.standby.host != host else self._drop(branch)

    def _is_eligible(self, branch: Branch, host: HostId) -> bool:
        """Whether a host can be the standby: it would still have the channel without our parent, and can be dialled."""
        links = self._neighbourhood.links
        there, record = links.carrying(branch.channel).get(host), links.record(host)
        return (
            there is not None
            and record is not None
            and record.reachable
            and host not in (branch.upstream, branch.parent.former)
            and host not in branch.below.children
            and branch.upstream not in there.path
            and not self._candidates.shuns(branch.channel, there.path)
            and self._neighbourhood.host not in there.path
        )

    def _ask(self, branch: Branch, host: HostId, *, silent: bool = False) -> Effect:
        trail = (*branch.trail, self._neighbourhood.host)
        parent = branch.upstream or host
        return Send(host, StandbyRequest(branch.channel, trail, parent, branch.standby.ready, silent))

    def _drop(self, branch: Branch, *, shun: bool = True) -> list[Effect]:
        host, branch.standby.host, branch.standby.ready = branch.standby.host, None, False
        if host is None or host in (branch.upstream, branch.parent.former):  # its session feeds this host
            return []
        if shun and len(self._shunned) < self._config.shunned_max:
            self._shunned[branch.channel, host] = self._config.shun_ticks
        return [StopPull(branch.channel, host), Send(host, Release(branch.channel))]

    # ------------------------------------------------------------------ hosts that this one is standby for

    def on_standby_request(self, host: HostId, m: StandbyRequest) -> list[Effect]:
        """A host asks this one to be its standby."""
        branch = self._downstream.branches.get(m.channel)
        ready = (
            branch is not None
            and branch.fed
            and branch.finished_ticks is None
            and host not in branch.metrics.path
            and host not in branch.below.children
            and (
                host in branch.standby.children
                or self._spare_copies(branch) > 0
                or self._may_take_slot_of(branch, m.parent)
            )
        )
        effects: list[Effect] = []
        if ready and branch is not None:
            branch.standby.children[host] = StandbyChild(m.parent)
            if m.silent and m.parent in branch.below.children:
                effects = self._neighbourhood.ping(m.parent)
        return effects if ready and m.ready else [*effects, Send(host, StandbyStatus(m.channel, ready))]

    def _spare_copies(self, branch: Branch) -> int:
        """Spare fan-out beyond what standby children of any channel may need.

        One standby child of each child needs no further copy: it takes that child's.
        """
        needed = 0
        for each in self._downstream.branches.values():
            parents = {standby_child.parent for standby_child in each.standby.children.values()}
            needed += len(each.standby.children) - len(parents & each.below.children.keys())
        return self._downstream.spare(branch.channel, self._promised()) - needed

    @staticmethod
    def _may_take_slot_of(branch: Branch, parent: HostId) -> bool:
        """Whether a parent is a child of this host whose slot is promised to no one yet."""
        promised = any(standby_child.parent == parent for standby_child in branch.standby.children.values())
        return parent in branch.below.children and not promised

    def _age_standby_children(self, branch: Branch) -> list[Effect]:
        """Removes standby children that no longer ask, and the newest ones if copies have become too few."""
        effects: list[Effect] = []
        for standby_child in branch.standby.children.values():
            standby_child.silent_ticks += 1
        gone = [host for host, each in branch.standby.children.items() if each.silent_ticks >= self._child_ticks]
        over = -self._spare_copies(branch) if branch.standby.children else 0
        gone += [host for host in reversed(branch.standby.children) if host not in gone][: max(0, over)]
        for host in gone:
            del branch.standby.children[host]
            effects += [Send(host, StandbyStatus(branch.channel, ready=False)), Evict(branch.channel, host)]
        return effects
