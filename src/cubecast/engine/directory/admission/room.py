"""Room for a subscriber whose bound only full hosts keep: one of their children moves elsewhere.

The subscriber first measures its links to such hosts. Then a child of one of them is advised to change to another host of
the tree that has a copy left, over a measured link, if the bounds of all that receive through the child are expected to
hold there. Hosts decide: the child changes only if they do. Of all such moves the one that delays the child least is tried,
and one at a time for each subscriber, whose search goes on meanwhile.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from cubecast.engine.directory.channels import links_of
from cubecast.engine.directory.config import RoomConfig
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
    """Copies that each of them has left."""
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
class Room:
    """What is done to make room for a subscriber."""

    probes: tuple[HostId, ...] = ()
    """Full hosts that the subscriber should measure."""
    links: tuple[Link, ...] = ()
    """Links that one of the two hosts should measure."""
    move: Link | None = None
    """A child, and the host that it is advised to change to."""
    awaited: bool = False
    """Whether a move is under way, or links are being measured: asking again may find a host with a copy left."""


@dataclass(slots=True)
class _Asker:
    """What was tried for one subscriber of one channel."""

    move: Link | None = None
    """The move that was advised last, and is awaited."""
    until: float = 0.0
    """When that counts as not followed, s."""
    tried: set[Link] = field(default_factory=set)
    """Moves that did not come about."""
    rounds: int = 0
    """Times that it has asked."""
    expires_at: float = 0.0
    """When it is forgotten, s."""


class RoomMaker:
    """The moves under way. The route finder owns one."""

    def __init__(self, delay_table: DelayTable, config: RoomConfig) -> None:
        self._delay_table = delay_table
        self._config = config
        self._askers: dict[tuple[ChannelName, HostId], _Asker] = {}

    def make(
        self,
        host: HostId,
        bound_ms: float,
        tree: TreeView,
        delay_ms: DelayMs,
        now: float,
        *,
        kept: bool,
        waits: bool,
    ) -> Room:
        """What to do for a subscriber, if no route keeps its bound.

        Args:
            host: the subscriber.
            delay_ms: gives the delay between two hosts, ms, estimated where it was not measured.
            now: s.
            kept: a route is expected to keep the bound, perhaps since room was made.
            waits: links are being measured that may give it a route; for a while no child is moved.
        """
        if kept:
            known = self._askers.get((tree.channel, host))
            return Room(awaited=known is not None and known.move is not None and now < known.until)
        probes, full = self._full_hosts(host, bound_ms, tree, delay_ms)
        asker = self._asker(tree.channel, host, now) if full else None
        if probes or asker is None:
            return Room(probes)
        asker.rounds += 1
        if waits and asker.rounds <= self._config.patience:
            return Room()
        if asker.move is not None and now < asker.until:
            return Room(awaited=True)
        if asker.move is not None and (asker.move[1], asker.move[0]) not in tree.links():
            asker.tried.add(asker.move)
        asker.move = None
        if len(asker.tried) >= self._config.moves_max:
            return Room()
        moves = sorted(self._moves(host, full, tree, delay_ms, now))
        for _, move in moves:
            if move not in asker.tried and self._delay_table.one_way_ms(*move) is not None:
                asker.move, asker.until = move, now + self._config.follow_s
                return Room(move=move, awaited=True)
        unknown = [move for _, move in moves if self._delay_table.one_way_ms(*move) is None]
        return Room(links=tuple(unknown[: self._config.links_max]), awaited=bool(unknown))

    def _full_hosts(
        self, host: HostId, bound_ms: float, tree: TreeView, delay_ms: DelayMs
    ) -> tuple[tuple[HostId, ...], set[HostId]]:
        """Full hosts that may keep the bound: those to be measured first, and the measured ones."""
        unknown: list[tuple[float, HostId]] = []
        full: set[HostId] = set()
        for each in tree.delay_ms:
            least_ms = self._least_ms(tree, each, delay_ms(host, each))
            inside = any(host in report.path[: report.path.index(each)] for report in tree.below(each))
            if each == host or inside or tree.spare.get(each, 0) > 0 or least_ms > bound_ms:
                continue
            if self._delay_table.one_way_ms(host, each) is not None:
                full.add(each)
            elif not self._delay_table.is_hidden(each):
                unknown.append((least_ms, each))
        return tuple(each for _, each in sorted(unknown)[: self._config.probes_max]), full

    def _moves(
        self, host: HostId, full: set[HostId], tree: TreeView, delay_ms: DelayMs, now: float
    ) -> Iterator[tuple[float, Link]]:
        """Moves whose bounds are expected to hold: by how much each delays the child, ms, and the move."""
        awaited = [
            each.move
            for (channel, _), each in self._askers.items()
            if channel == tree.channel and each.move is not None and each.until > now
        ]
        children = {child for parent, child in tree.links() if parent in full} - {child for child, _ in awaited}
        for child in children - {host}:
            below = tree.below(child)
            now_ms = tree.delay_ms.get(child, 0.0) + tree.above(child) * self._config.spread_ms
            slack_ms = min(map(_slack_ms, below), default=float("inf"))
            inside = {each for report in below for each in report.path[report.path.index(child) :]}
            for to in tree.delay_ms:
                left = tree.spare.get(to, 0) - sum(other == to for _, other in awaited)
                both_hidden = self._delay_table.is_hidden(to) and self._delay_table.is_hidden(child)
                if to in inside or to == host or left <= 0 or both_hidden:
                    continue
                harm_ms = self._least_ms(tree, to, delay_ms(child, to)) - now_ms
                if harm_ms <= slack_ms:
                    yield harm_ms, (child, to)

    def _least_ms(self, tree: TreeView, parent: HostId, link_ms: float) -> float:
        """The least bound to be expected of a path through a host."""
        return tree.delay_ms[parent] + link_ms + RELAY_MS + (tree.above(parent) + 1) * self._config.spread_ms

    def _asker(self, channel: ChannelName, host: HostId, now: float) -> _Asker | None:
        """What is known of a subscriber; None when too many ask at once."""
        self._askers = {key: each for key, each in self._askers.items() if each.expires_at > now}
        asker = self._askers.get((channel, host))
        if asker is None:
            if len(self._askers) >= self._config.askers_max:
                return None
            asker = self._askers[channel, host] = _Asker()
        asker.expires_at = now + self._config.expiry_s
        return asker


def _slack_ms(report: SubscriptionRecord) -> float:
    """By how much the least bound of a subscription's path may grow, ms."""
    least_ms = report.promised_ms if report.best_ms is None else report.best_ms
    return report.bound_ms - (least_ms or 0.0)
