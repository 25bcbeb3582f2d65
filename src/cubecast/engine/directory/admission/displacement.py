"""Displacement: a child of a full host moves to another parent, so that a subscriber whose bound only full hosts keep is served.

The subscriber first measures its links to such hosts. Then a child of one of them is advised to change to another host of
the tree that has spare fan-out, over a measured link, if the bounds of all that receive through the child are expected to
hold there. The slot that it frees is reserved for the subscriber. Hosts decide: the child changes only if the bounds do
hold. Of all such moves the one that delays the child least is tried, and one at a time for each subscriber, whose search
goes on meanwhile.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from cubecast.engine.directory.channels import links_of
from cubecast.engine.directory.config import DisplacementConfig
from cubecast.engine.directory.delay_table import DelayTable
from cubecast.engine.protocol.path import RELAY_MS
from cubecast.engine.protocol.records import SubscriptionRecord
from cubecast.types import ChannelName, HostId

Link = tuple[HostId, HostId]
DelayMs = Callable[[HostId, HostId], float]


@dataclass(frozen=True, slots=True)
class TreeView:
    """A channel's tree, as far as the directory knows it."""

    channel: ChannelName
    delay_ms: Mapping[HostId, float]
    """The delay at every host that carries the channel, ms."""
    spare: Mapping[HostId, int]
    """The spare fan-out of each: how many more copies it may send."""
    reports: tuple[SubscriptionRecord, ...]
    """The subscriptions that receive the channel."""

    def above(self, host: HostId) -> int:
        """The number of hosts above one, on the path that was reported for it; 0 where none was."""
        return next((report.path.index(host) for report in self.reports if host in report.path), 0)

    def below(self, host: HostId) -> list[SubscriptionRecord]:
        """The subscriptions that are received through a host, its own among them."""
        return [report for report in self.reports if host in report.path]

    def links(self) -> set[Link]:
        """Parents and children."""
        return {(parent, child) for _, parent, child in links_of(self.reports)}


@dataclass(frozen=True, slots=True)
class Displacement:
    """What is done so that a full host can serve a subscriber."""

    probes: tuple[HostId, ...] = ()
    """Full hosts that the subscriber should measure."""
    links: tuple[Link, ...] = ()
    """Links that one of the two hosts should measure."""
    move: Link | None = None
    """A child, and the host that it is advised to change to."""
    pending: bool = False
    """Whether a move is under way, or links are being measured: asking again may find a host with spare fan-out."""


@dataclass(slots=True)
class _Attempts:
    """What was tried for one subscriber of one channel."""

    move: Link | None = None
    """The move that was advised last; None once its time is over."""
    until: float = 0.0
    """When that time is over, s: the move then counts as not followed, unless the child has changed."""
    tried: set[Link] = field(default_factory=set)
    """Moves that did not come about."""
    rounds: int = 0
    """Times that the subscriber has asked."""
    expires_at: float = 0.0
    """When all this is forgotten, s."""


class DisplacementPlanner:
    """Chooses the moves, and stores what was tried. The route finder owns one."""

    def __init__(self, delay_table: DelayTable, config: DisplacementConfig) -> None:
        self._delay_table = delay_table
        self._config = config
        self._attempts: dict[tuple[ChannelName, HostId], _Attempts] = {}

    def plan(
        self,
        host: HostId,
        bound_ms: float,
        tree: TreeView,
        delay_ms: DelayMs,
        now: float,
        *,
        kept: bool,
        waits: bool,
    ) -> Displacement:
        """What to do for a subscriber, if no route keeps its bound.

        Args:
            host: the subscriber.
            delay_ms: gives the delay between two hosts, ms, estimated where it was not measured.
            now: s.
            kept: a route is expected to keep the bound, perhaps since a child has moved.
            waits: links are being measured that may give it a route; for a while no child is moved.
        """
        if kept:
            known = self._attempts.get((tree.channel, host))
            return Displacement(pending=known is not None and known.move is not None and now < known.until)
        probes, full = self._full_hosts(host, bound_ms, tree, delay_ms)
        attempts = self._attempts_of(tree.channel, host, now) if full else None
        if probes or attempts is None:
            return Displacement(probes)
        attempts.rounds += 1
        if waits and attempts.rounds <= self._config.route_rounds:
            return Displacement()
        if attempts.move is not None and now < attempts.until:
            return Displacement(pending=True)
        if attempts.move is not None and (attempts.move[1], attempts.move[0]) not in tree.links():
            attempts.tried.add(attempts.move)
        attempts.move = None
        if len(attempts.tried) >= self._config.moves_max:
            return Displacement()
        moves = sorted(self._moves(host, full, tree, delay_ms, now))
        for _, move in moves:
            if move not in attempts.tried and self._delay_table.one_way_ms(*move) is not None:
                attempts.move, attempts.until = move, now + self._config.follow_s
                return Displacement(move=move, pending=True)
        unknown = [move for _, move in moves if self._delay_table.one_way_ms(*move) is None]
        return Displacement(links=tuple(unknown[: self._config.links_max]), pending=bool(unknown))

    def _full_hosts(
        self, host: HostId, bound_ms: float, tree: TreeView, delay_ms: DelayMs
    ) -> tuple[tuple[HostId, ...], set[HostId]]:
        """Full hosts that may keep the bound: those to be measured first, and the measured ones."""
        unknown: list[tuple[float, HostId]] = []
        full: set[HostId] = set()
        for each in tree.delay_ms:
            least_ms = self._least_ms(tree, each, delay_ms(host, each))
            descends = any(host in report.path[: report.path.index(each)] for report in tree.below(each))
            if each == host or descends or tree.spare.get(each, 0) > 0 or least_ms > bound_ms:
                continue
            if self._delay_table.one_way_ms(host, each) is not None:
                full.add(each)
            elif not self._delay_table.is_hidden(each):
                unknown.append((least_ms, each))
        return tuple(each for _, each in sorted(unknown)[: self._config.probes_max]), full

    def _moves(
        self, host: HostId, full: set[HostId], tree: TreeView, delay_ms: DelayMs, now: float
    ) -> Iterator[tuple[float, Link]]:
        """Moves whose bounds are expected to hold: the delay that each adds for the child, ms, and the move."""
        advised = [
            each.move
            for (channel, _), each in self._attempts.items()
            if channel == tree.channel and each.move is not None and each.until > now
        ]
        children = {child for parent, child in tree.links() if parent in full} - {child for child, _ in advised}
        for child in children - {host}:
            below = tree.below(child)
            now_ms = tree.delay_ms.get(child, 0.0) + tree.above(child) * self._config.spread_ms
            slack_ms = min(map(_slack_ms, below), default=float("inf"))
            descendants = {each for report in below for each in report.path[report.path.index(child) :]}
            for to in tree.delay_ms:
                spare = tree.spare.get(to, 0) - sum(other == to for _, other in advised)
                both_hidden = self._delay_table.is_hidden(to) and self._delay_table.is_hidden(child)
                if to in descendants or to == host or spare <= 0 or both_hidden:
                    continue
                added_ms = self._least_ms(tree, to, delay_ms(child, to)) - now_ms
                if added_ms <= slack_ms:
                    yield added_ms, (child, to)

    def _least_ms(self, tree: TreeView, parent: HostId, link_ms: float) -> float:
        """The least bound to be expected of a path through a host."""
        return tree.delay_ms[parent] + link_ms + RELAY_MS + (tree.above(parent) + 1) * self._config.spread_ms

    def _attempts_of(self, channel: ChannelName, host: HostId, now: float) -> _Attempts | None:
        """What was tried for a subscriber; None when too many ask at once."""
        self._attempts = {key: each for key, each in self._attempts.items() if each.expires_at > now}
        attempts = self._attempts.get((channel, host))
        if attempts is None:
            if len(self._attempts) >= self._config.subscribers_max:
                return None
            attempts = self._attempts[channel, host] = _Attempts()
        attempts.expires_at = now + self._config.expiry_s
        return attempts


def _slack_ms(report: SubscriptionRecord) -> float:
    """By how much the least bound of a subscription's path may grow, ms."""
    least_ms = report.promised_ms if report.best_ms is None else report.best_ms
    return report.bound_ms - (least_ms or 0.0)
