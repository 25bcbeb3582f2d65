"""One channel at one host: its branch of the channel's tree, from the parent to the children."""

from dataclasses import dataclass, field

from cubecast.engine.host.config import TreeConfig
from cubecast.engine.host.tree.pauses import Pauses
from cubecast.engine.protocol.path import NUMBER_MAX, Contract, PathMetrics
from cubecast.engine.protocol.records import Compliance, HostRecord, Tree
from cubecast.types import NOBODY, ORIGIN, ChannelName, HostId, Label


@dataclass(slots=True)
class Child:
    """A host that this one feeds, and its subtree's contract: what must hold here for every host below."""

    contract: Contract
    silent_ticks: int = 0
    """Since its last subtree contract."""


@dataclass(slots=True)
class StandbyChild:
    """A host that this one is standby for: its parent, and ticks since it last asked."""

    parent: HostId
    silent_ticks: int = 0


@dataclass(slots=True)
class Branch:
    """A channel this host carries: as publisher, relay, subscriber, or several of them."""

    channel: ChannelName
    upstream: HostId | None
    """The parent; None at the publisher, and while there is none."""
    metrics: PathMetrics
    """The path from the publisher to this host."""
    publishes: bool = False
    source: ChannelName | None = None
    """The channel that a derived channel of this host is made from."""
    processing_ms: tuple[float, float] = (0.0, 0.0)
    """Delay that its processing adds, and how much longer a late frame takes."""
    children: dict[HostId, Child] = field(default_factory=dict)
    siblings: tuple[HostRecord, ...] = ()
    """Other children of the parent, then the parent's siblings."""
    standby_children: dict[HostId, StandbyChild] = field(default_factory=dict)
    """Hosts that this one is standby for."""
    heirs: dict[HostId, int] = field(default_factory=dict)
    """Hosts that get the copies of children which have made room for them, and ticks until others may have those."""
    standby: HostId | None = None
    """The standby parent."""
    standby_ready: bool = False
    """Whether its media session is open."""
    standby_ticks: int = 0
    """Since it was asked first."""
    contract: Contract | None = None
    """The local subscriber's; None without one."""
    compliance: Compliance = field(default_factory=Compliance)
    """How that contract has been kept."""
    trail: tuple[HostId, ...] = ()
    """The hosts that forwarded `grant`, the subscriber it was issued to first; empty for our own."""
    grant: str = ""
    finished_ticks: int | None = None
    """Since the publisher ended the channel; None before that."""
    tree: Tree = Tree.HYBRID
    epoch: int = 0
    target: Label = ORIGIN
    """The publisher's seat, a label of that epoch."""
    former: HostId | None = None
    """The former parent, which feeds this host until media of the new one arrives."""
    room_for: HostId = NOBODY
    """The host for which the change of parents makes room at the former one; empty for none."""
    former_ticks: int = 0
    """Since the change of parents began."""
    bytes_received: int = -1
    """Received on the session to the parent, or published; -1 before the first count."""
    new_bytes: int = 0
    """Received or published since the rate was last measured."""
    rated_s: float = 0.0
    """When the rate was last measured."""
    rate_bps: float = 0.0
    """Rate of one copy of the channel; 0 before it was measured."""
    no_media_ticks: int = 0
    """Since media last arrived."""
    pauses: Pauses = field(default_factory=Pauses)
    flowing_ticks: int = 0
    """For how long media has arrived without a pause."""
    stale_ticks: int = 0
    """Since a newer sequence number arrived, or since the parent lost its own."""
    parent_metrics: PathMetrics | None = None
    """The path to the parent, as its last path update named it; None before the first."""
    parent_fed: bool = True
    """Whether the parent has a parent itself, or publishes."""
    doubt_ticks: int = 0
    """For how long neither media nor a message has come from the parent, as far as it is in doubt."""
    seqno_ticks: int = 0
    """At the publisher: since its last new sequence number."""
    seqno_in: int = 0
    """Ticks until a newer sequence number may be requested again."""
    newest_seqno: int = -1
    """The newest sequence number received, forwarded or not."""
    hold_seqno: bool = False
    """Newer sequence numbers are not forwarded, so that a new parent can prove that it is no descendant."""
    orphan_ticks: int = 0
    """Since the parent was lost."""
    retry_ticks: int = 0
    """Until the next search for a parent."""
    announced: PathMetrics | None = None
    """The path that the children were sent last; None if one of them has not been sent any."""
    update_ticks: int = 0
    """Since the last path update to the children."""
    promised: Contract | None = None
    """The subtree contract that the parent was sent last."""
    contract_ticks: int = 0
    """Since then."""
    relatives: dict[HostId, tuple[HostRecord, ...]] = field(default_factory=dict)
    """What each child was sent last."""
    relatives_in: int = 1
    """Ticks until the children are sent their relatives, though unchanged."""
    ticks: int = 0
    """Since this host carries the channel."""
    failure: str = ""
    """Why the media session to the parent closed; empty while it is open."""
    lost: tuple[HostId, str] | None = None
    """The parent that was lost, and why, while there is no new one."""
    lost_at: HostId | None = None
    """Where its stream was lost: the parent, or a host above it that gave the channel up."""

    @property
    def fed(self) -> bool:
        """Whether this host has a parent for the channel, or publishes it."""
        return self.publishes or self.upstream is not None

    @property
    def wanted(self) -> Contract:
        """What must hold here for the local subscriber and every host below; a bound of NUMBER_MAX stands for none."""
        wanted = self.contract or Contract(NUMBER_MAX)
        for child in self.children.values():
            wanted = wanted.both(child.contract)
        return wanted

    @property
    def copy_bps(self) -> float:
        """Rate of one copy: as measured here, before that as the path announces it; 0 while nobody has measured it."""
        announced = self.metrics.rate_bps
        return self.rate_bps or (announced if announced < NUMBER_MAX else 0.0)

    def count(self, bytes_received: int) -> None:
        """Records the running total of bytes received or published; it starts at 0 again with every media session."""
        if bytes_received > self.bytes_received >= 0:
            self.new_bytes += bytes_received - self.bytes_received
        self.bytes_received = bytes_received

    def measure_rate(self, now: float, config: TreeConfig) -> None:
        """Updates rate_bps, once enough time has passed since the last measurement, or since media first arrived."""
        if self.bytes_received < 0:
            self.rated_s, self.new_bytes = now, 0
            return
        if now - self.rated_s < config.rate_s:
            return
        measured_bps = 8 * self.new_bytes / (now - self.rated_s)
        if self.rated_s and self.new_bytes:
            self.rate_bps += (config.rate_gain if self.rate_bps else 1.0) * (measured_bps - self.rate_bps)
        self.rated_s, self.new_bytes = now, 0
