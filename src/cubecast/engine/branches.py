"""The trees this host is part of: what it carries, from whom, for whom, and how that ends."""

from dataclasses import dataclass, field

from cubecast.engine.effects import Effect, Evict, Pull, Report, Send, StopPull, StreamEnded
from cubecast.engine.membership import Neighbourhood
from cubecast.engine.messages import Ended, Reach, Release
from cubecast.engine.records import HostRecord, SubscriptionRecord
from cubecast.types import ChannelName, HostId, Label

FLAT_TICKS = 2
"""Ticks without a byte after which a stream whose upstream is quiet counts as broken."""
CHILD_TICKS = 20
"""Ticks a child may be without a link before its place is given away."""
DRAIN_TICKS = 40
"""After a channel is finished its pull stays open this long for the last frames below."""


@dataclass(slots=True)
class Branch:
    """A channel this host carries: as publisher (no upstream), relay, subscriber, or several of them."""

    channel: ChannelName
    upstream: HostId | None
    reach: Reach
    children: dict[HostId, int] = field(default_factory=dict)
    """Ticks without a link, by child."""
    bound_ms: float | None = None
    """The local subscriber's bound."""
    bytes_received: int = -1
    flat_ticks: int = 0
    finished_ticks: int | None = None
    failure: str = ""
    """Why the media session to the upstream is gone."""


class Branches:
    """Branches by channel. The engine owns one and passes it messages, ticks and failures."""

    def __init__(self, neighbourhood: Neighbourhood) -> None:
        self._around = neighbourhood
        self.carried: dict[ChannelName, Branch] = {}

    def join(self, branch: Branch, upstream: HostRecord) -> list[Effect]:
        """Carries a channel from now on, fed by a host that confirmed us."""
        self.carried[branch.channel] = branch
        return [Pull(branch.channel, upstream)]

    def publish(self, channel: ChannelName, seat: Label) -> None:
        """Carries a channel of our own."""
        self.carried[channel] = Branch(channel, None, Reach(0.0, 0.0, (seat,)))

    def finish(self, channel: ChannelName) -> list[Effect]:
        """A channel of our own is over: tells the tree."""
        branch = self.carried.get(channel)
        if branch is None or branch.upstream is not None:
            return []
        branch.finished_ticks = 0
        ended = Ended(channel, finished=True, host=self._around.host, reason="finished")
        return [Send(child, ended) for child in branch.children]

    def children_count(self) -> int:
        """Copies this host sends, over all channels."""
        return sum(len(branch.children) for branch in self.carried.values())

    def in_use(self) -> set[HostId]:
        """Parents and children: their links are kept."""
        parents = {branch.upstream for branch in self.carried.values() if branch.upstream is not None}
        return parents.union(*(branch.children for branch in self.carried.values()))

    def may_pull(self, channel: ChannelName, host: HostId) -> bool:
        """Whether we confirmed a branch to this host."""
        branch = self.carried.get(channel)
        return branch is not None and host in branch.children

    def leave_local(self, channel: ChannelName) -> list[Effect]:
        """The local subscriber is gone."""
        branch = self.carried.get(channel)
        if branch is None or branch.bound_ms is None:
            return []
        branch.bound_ms = None
        return self.prune(branch)

    def prune(self, branch: Branch) -> list[Effect]:
        """Releases a branch that nobody here needs any more."""
        if branch.upstream is None or branch.children or branch.bound_ms is not None:
            return []
        if self.carried.get(branch.channel) is not branch:
            return []
        return [Send(branch.upstream, Release(branch.channel)), *self._remove(branch)]

    # ------------------------------------------------------------------ messages and failures

    def on_release(self, host: HostId, m: Release) -> list[Effect]:
        """A child no longer pulls."""
        branch = self.carried.get(m.channel)
        if branch is None or branch.children.pop(host, None) is None:
            return []
        return [Evict(m.channel, host), *self.prune(branch)]

    def on_ended(self, host: HostId, m: Ended) -> list[Effect]:
        """The channel is over at our upstream."""
        branch = self.carried.get(m.channel)
        if branch is None or branch.upstream != host:
            return []
        if not m.finished:
            return self._break(branch, m.host, m.reason)
        branch.finished_ticks = 0
        effects: list[Effect] = [Send(child, m) for child in branch.children]
        if branch.bound_ms is not None:
            effects.append(StreamEnded(m.channel, finished=True, host=m.host, reason=m.reason))
            effects.append(self._ledger(branch))
        return effects + self.prune(branch)

    def on_goodbye(self, host: HostId) -> list[Effect]:
        """A host leaves: it is no parent and no child any more."""
        effects: list[Effect] = []
        for branch in list(self.carried.values()):
            if branch.upstream == host and branch.finished_ticks is None:
                effects += self._break(branch, host, "it left the overlay")
            elif branch.children.pop(host, None) is not None:
                effects += [Evict(branch.channel, host), *self.prune(branch)]
        return effects

    def on_pull_failed(self, channel: ChannelName, host: HostId, reason: str) -> list[Effect]:
        """The media session to the upstream is gone; the next tick breaks the branch, unless Ended says why before."""
        branch = self.carried.get(channel)
        if branch is None or branch.upstream != host or branch.finished_ticks is not None:
            return []
        branch.failure = reason
        return []

    def on_media(self, channel: ChannelName, bytes_received: int) -> None:
        """Bytes so far on the channel's pull."""
        branch = self.carried.get(channel)
        if branch is not None and branch.bytes_received != bytes_received:
            branch.bytes_received, branch.flat_ticks = bytes_received, 0

    def tick(self) -> list[Effect]:
        """Looks for silent parents, silent children, and finished channels to forget."""
        effects: list[Effect] = []
        for branch in list(self.carried.values()):
            effects += self._tick(branch)
        return effects

    def leave(self) -> list[Effect]:
        """Gives up everything, telling parents; children hear our goodbye."""
        return [
            Send(branch.upstream, Release(branch.channel))
            for branch in self.carried.values()
            if branch.upstream is not None
        ]

    # ------------------------------------------------------------------ inside

    def _tick(self, branch: Branch) -> list[Effect]:
        branch.flat_ticks += 1
        if branch.finished_ticks is not None:
            branch.finished_ticks += 1
            if branch.finished_ticks >= DRAIN_TICKS:
                return self._remove(branch)
        elif branch.upstream is not None and branch.failure:
            return self._break(branch, branch.upstream, branch.failure)
        elif branch.upstream is not None and branch.flat_ticks > FLAT_TICKS and self._around.quiet(branch.upstream):
            return self._break(branch, branch.upstream, "no heartbeat and no media")
        effects: list[Effect] = []
        for child in list(branch.children):
            branch.children[child] = branch.children[child] + 1 if self._around.quiet(child) else 0
            if branch.children[child] >= CHILD_TICKS:
                del branch.children[child]
                effects.append(Evict(branch.channel, child))
        return effects + self.prune(branch)

    def _break(self, branch: Branch, host: HostId, reason: str) -> list[Effect]:
        """The stream above is lost: tells everyone below."""
        ended = Ended(branch.channel, finished=False, host=host, reason=reason)
        effects: list[Effect] = [Send(child, ended) for child in branch.children]
        if branch.bound_ms is not None:
            effects.append(StreamEnded(branch.channel, finished=False, host=host, reason=reason))
            effects.append(self._ledger(branch))
        return effects + self._remove(branch)

    def _remove(self, branch: Branch) -> list[Effect]:
        self.carried.pop(branch.channel, None)
        return [] if branch.upstream is None else [StopPull(branch.channel)]

    def _ledger(self, branch: Branch) -> Report:
        bound_ms = 0.0 if branch.bound_ms is None else branch.bound_ms
        host, reach = self._around.host, branch.reach
        return Report(SubscriptionRecord(branch.channel, host, bound_ms, "ended", reach.delay_ms, None, reach.path))
