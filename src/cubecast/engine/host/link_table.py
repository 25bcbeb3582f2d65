"""The links of a host to others: their state, their measurements, and what the peers announced over them."""

from collections.abc import Container, ItemsView
from dataclasses import dataclass, field

from cubecast.engine.host.config import LinkConfig
from cubecast.engine.host.link_estimate import LinkEstimate
from cubecast.engine.protocol.messages import CARRIED_MAX, Carried
from cubecast.engine.protocol.path import PathMetrics
from cubecast.engine.protocol.records import HostRecord
from cubecast.types import ChannelName, HostId


@dataclass(slots=True)
class Link:
    """One link to another host."""

    record: HostRecord | None
    """The peer; None until the directory or the peer's Hello names a host that dialled us."""
    estimate: LinkEstimate
    up: bool = False
    dialling: bool = False
    needed: bool = False
    """The peer announced that it needs the link."""
    slow: bool = False
    """The peer announced that its heartbeats are slow."""
    slow_announced: bool = False
    """We announced that our heartbeats are slow."""
    leaving: bool = False
    """The peer announced that it is about to leave."""
    silent_ticks: int = 0
    """Since the last message of the peer."""
    redial_in: int = 0
    """Ticks until a broken link is dialled again."""
    failures: int = 0
    """Dials in a row that failed."""
    idle_ticks: int = 0
    """Since either end last needed the link."""
    ticks: int = 0
    """Since the link came up."""
    beats: int = 0
    """Heartbeats sent since then."""
    beat_ticks: int = 0
    """Since the last heartbeat was sent."""
    beat: bool = False
    """A heartbeat is sent in this tick; other messages at rest go with it."""
    version: int = -1
    """Of this host's announcement, as last sent."""
    introduced: HostRecord | None = None
    """This host's record as the peer was last sent it."""
    sent_s: float = 0.0
    """When the last heartbeat was sent, s by our clock."""
    echo_s: float = 0.0
    """When the last heartbeat that came was sent, s by the peer's clock."""
    seen_s: float = 0.0
    """When that one came, s by our clock."""
    unanswered_ticks: int | None = None
    """Since the first ping that has no answer, nor anything after it; None without such a ping."""
    ping_in: int = 0
    """Ticks until the peer may be pinged again."""
    watch_ticks: int = 0
    """For how long the link is still pinged."""
    jumped: bool = False
    """The transport's round trip has jumped: a child is pinged, so that it watches its link to its parent."""
    carried: dict[ChannelName, PathMetrics] = field(default_factory=dict)
    """The channels that the peer announced it carries, and the path of each to the peer."""
    spare: dict[ChannelName, int] = field(default_factory=dict)
    """Copies the peer announced it has left, by channel."""
    heartbeats: int = 0
    """Received from the peer, in all."""
    named_in: dict[ChannelName, int] = field(default_factory=dict)
    """The number of the heartbeat that named a channel last."""

    def age(self) -> None:
        """One tick has passed."""
        self.ticks += 1
        self.silent_ticks += 1
        self.beat_ticks += 1
        self.ping_in = max(0, self.ping_in - 1)
        self.watch_ticks = max(0, self.watch_ticks - 1)
        if self.unanswered_ticks is not None:
            self.unanswered_ticks += 1

    def announced(self, carried: tuple[Carried, ...], heartbeats_kept: int) -> None:
        """Stores what a heartbeat announced; a full one may leave out channels, so those named lately stay.

        Args:
            heartbeats_kept: a channel that is left out of this many is forgotten.
        """
        self.heartbeats += 1
        full = len(carried) >= CARRIED_MAX
        lately = [c for c, number in self.named_in.items() if full and self.heartbeats - number < heartbeats_kept]
        self.named_in = {channel: self.named_in[channel] for channel in lately}
        metrics = {channel: self.carried[channel] for channel in lately if channel in self.carried}
        self.carried = metrics | {each.channel: each.metrics for each in carried}
        self.spare = {channel: self.spare[channel] for channel in lately} | {c.channel: c.spare for c in carried}
        self.named_in |= dict.fromkeys((each.channel for each in carried), self.heartbeats)

    def forget_announced(self) -> None:
        """The peer cannot be reached: what it announced no longer counts."""
        for announced in (self.carried, self.spare, self.named_in):
            announced.clear()


class LinkTable:
    """Links by host. The neighbourhood owns one and alone adds and removes links."""

    def __init__(self, config: LinkConfig, tick_s: float) -> None:
        self._config = config
        self._tick_s = tick_s
        self.by_host: dict[HostId, Link] = {}
        self.followed: set[HostId] = set()
        """Parents: the round trips of pings and heartbeats to them count, the transport's do not."""

    def __contains__(self, host: object) -> bool:
        return host in self.by_host

    def __getitem__(self, host: HostId) -> Link:
        return self.by_host[host]

    def get(self, host: HostId) -> Link | None:
        """The link to a host; None without one."""
        return self.by_host.get(host)

    def items(self) -> ItemsView[HostId, Link]:
        """Hosts and the links to them."""
        return self.by_host.items()

    # ------------------------------------------------------------------ what was measured

    def one_way_ms(self, host: HostId) -> float | None:
        """One-way delay of the link to a host; None while it is down or was not measured."""
        link = self.by_host.get(host)
        return link.estimate.one_way_ms if link is not None and link.up else None

    def samples(self, host: HostId) -> int:
        """Samples of the link to a host since it came up."""
        link = self.by_host.get(host)
        return link.estimate.samples if link is not None and link.up else 0

    def spread_ms(self, host: HostId) -> float:
        """How much later than one_way_ms a frame may arrive over the link to a host."""
        return self.by_host[host].estimate.spread_ms

    def loss(self, host: HostId) -> float:
        """Share of packets lost on the link to a host."""
        link = self.by_host.get(host)
        return 0.0 if link is None else link.estimate.loss

    def rttvar_ms(self, host: HostId) -> float:
        """Variation of the round trip to a host."""
        link = self.by_host.get(host)
        return 0.0 if link is None else link.estimate.rttvar_ms

    def sampled(self, host: HostId, rtt_ms: float, lost: int, sent: int) -> None:
        """Adds the transport's statistics of a link to its estimate."""
        link = self.by_host.get(host)
        if link is None or not link.up:
            return
        if host in self.followed and link.estimate.samples >= self._config.samples_ready:
            link.estimate.count(lost, sent)
        else:
            link.jumped = link.jumped or link.estimate.is_jump(rtt_ms)
            link.estimate.sample(rtt_ms, lost, sent)

    def to_sample(self, in_use: Container[HostId]) -> list[HostId]:
        """The links to sample before the next tick: new ones always, those in use and others with their periods."""
        config = self._config
        return [
            host
            for host, link in self.by_host.items()
            if link.up
            and (
                link.estimate.samples < config.samples_ready
                or link.ticks % (config.sample_ticks_in_use if host in in_use else config.sample_ticks) == 0
            )
        ]

    # ------------------------------------------------------------------ what peers announced

    def record(self, host: HostId) -> HostRecord | None:
        """The record of a host that there is a link to."""
        link = self.by_host.get(host)
        return None if link is None else link.record

    def carrying(self, channel: ChannelName) -> dict[HostId, PathMetrics]:
        """Hosts with a working, measured link that announced the channel, and the path of it to each."""
        return {
            host: link.carried[channel]
            for host, link in self.by_host.items()
            if link.up and channel in link.carried and link.estimate.one_way_ms is not None
        }

    def drop_channel(self, host: HostId, channel: ChannelName) -> None:
        """Ignores a host's announcement of a channel, since it refused it; its next heartbeat counts again."""
        if host in self.by_host:
            self.by_host[host].carried.pop(channel, None)

    def is_leaving(self, host: HostId) -> bool:
        """Whether a host announced that it is about to leave."""
        link = self.by_host.get(host)
        return link is not None and link.leaving

    def is_silent(self, host: HostId, ticks: int) -> bool:
        """Whether there is no working link, or no message came over it for this many ticks."""
        link = self.by_host.get(host)
        return link is None or not link.up or link.silent_ticks >= ticks

    def is_overdue(self, host: HostId, ticks: int) -> bool:
        """Whether there is no working link, or the heartbeat over it, or the answer to a ping, is late by this many ticks."""
        link = self.by_host.get(host)
        late = link is None or not link.up or link.silent_ticks >= self.heartbeat_period(slow=link.slow) + ticks
        return late or self.is_unanswered(host, ticks)

    def is_unanswered(self, host: HostId, ticks: int) -> bool:
        """Whether there is no working link, or a ping over it was not answered for this many ticks beyond the round trip."""
        link = self.by_host.get(host)
        if link is None or not link.up:
            return True
        return link.unanswered_ticks is not None and link.unanswered_ticks >= ticks + self.rtt_ticks(host)

    def rtt_ticks(self, host: HostId) -> int:
        """The round trip to a host in ticks, rounded; 0 while it was not measured."""
        link = self.by_host.get(host)
        return 0 if link is None else round((link.estimate.srtt_ms or 0.0) / 1000 / self._tick_s)

    def heartbeat_period(self, *, slow: bool) -> int:
        """Ticks between two heartbeats."""
        return self._config.slow_heartbeat_ticks if slow else self._config.heartbeat_ticks
