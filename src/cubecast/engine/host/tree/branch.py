"""One channel at one host: its branch of the channel's tree, from the parent to the children, in parts with one owner each."""

from dataclasses import dataclass, field

from cubecast.engine.host.config import TreeConfig
from cubecast.engine.host.tree.pauses import Pauses
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.ranges import NUMBER_MAX
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
class Media:
    """The media of a channel, as it comes from the parent or is published. `upstream` owns it."""

    pauses: Pauses = field(default_factory=Pauses)
    bytes_received: int = -1
    """Received on the session to the parent, or published; -1 before the first count."""
    new_bytes: int = 0
    """Received or published since the rate was last measured."""
    rated_s: float = 0.0
    """When the rate was last measured."""
    rate_bps: float = 0.0
    """Rate of one copy of the channel; 0 before it was measured."""
    quiet_ticks: int = 0
    """Since media last arrived."""
    flowing_ticks: int = 0
    """For how long media has arrived without a pause."""

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


@dataclass(slots=True)
class Parent:
    """What is known of the parent, and of the former one in a change of parents. `upstream` owns it."""

    metrics: PathMetrics | None = None
    """The path to the parent, as its last path update named it; None before the first."""
    fed: bool = True
    """Whether the parent has a parent itself, or publishes."""
    siblings: tuple[HostRecord, ...] = ()
    """Other children of the parent, then the parent's siblings."""
    failure: str = ""
    """Why the media session to the parent closed; empty while it is open."""
    held_ticks: int = 0
    """Since it became the parent."""
    stale_ticks: int = 0
    """Since a newer sequence number arrived, or since the parent lost its own."""
    doubt_ticks: int = 0
    """For how long neither media nor a message has come from the parent, as far as it is in doubt."""
    promised: Contract | None = None
    """The subtree contract that the parent was sent last."""
    contract_ticks: int = 0
    """Since then."""
    former: HostId | None = None
    """The former parent, which feeds this host until media of the new one arrives."""
    former_ticks: int = 0
    """Since the change of parents began."""
    slot_for: HostId = NOBODY
    """The host for which the slot at the former parent is to be reserved; empty for none."""


@dataclass(slots=True)
class Lost:
    """The loss of the parent, while there is no new one. `upstream` owns it; repairs and changes set retry_ticks."""

    cause: tuple[HostId, str] | None = None
    """The parent that was lost, and why; None while there is one."""
    at: HostId | None = None
    """Where its stream was lost: the parent, or a host above it that gave the channel up."""
    ticks: int = 0
    """Since the parent was lost."""
    retry_ticks: int = 0
    """Until the next search for a parent."""


@dataclass(slots=True)
class SequenceNumbers:
    """The publisher's sequence numbers, which show that a host is no descendant. `upstream` owns them; searches set hold."""

    newest: int = -1
    """The newest one received, forwarded or not."""
    hold: bool = False
    """Newer ones are not forwarded, so that a new parent can prove that it is no descendant."""
    ticks: int = 0
    """At the publisher: since its last new one."""
    request_in: int = 0
    """Ticks until a newer one may be requested again."""


@dataclass(slots=True)
class Below:
    """The children, and what they were sent. `downstream` owns it."""

    children: dict[HostId, Child] = field(default_factory=dict)
    reservations: dict[HostId, int] = field(default_factory=dict)
    """Hosts for which the slot of a displaced child is reserved, and ticks until others may have it."""
    announced: PathMetrics | None = None
    """The path that the children were sent last; None if one of them has not been sent any."""
    update_ticks: int = 0
    """Since the last path update to the children."""
    relatives: dict[HostId, tuple[HostRecord, ...]] = field(default_factory=dict)
    """What each child was sent last."""
    relatives_in: int = 1
    """Ticks until the children are sent their relatives, though unchanged."""


@dataclass(slots=True)
class Standby:
    """The standby parent, and the hosts that this one is standby for. `optimise.standby` owns it."""

    host: HostId | None = None
    ready: bool = False
    """Whether its media session is open."""
    ticks: int = 0
    """Since it was asked first."""
    children: dict[HostId, StandbyChild] = field(default_factory=dict)


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
    contract: Contract | None = None
    """The local subscriber's; None without one."""
    compliance: Compliance = field(default_factory=Compliance)
    """How that contract has been kept."""
    trail: tuple[HostId, ...] = ()
    """The hosts that forwarded the request for which this host joined, the subscriber first; empty for our own."""
    finished_ticks: int | None = None
    """Since the publisher ended the channel; None before that."""
    tree: Tree = Tree.HYBRID
    epoch: int = 0
    target: Label = ORIGIN
    """The publisher's seat, a label of that epoch."""
    ticks: int = 0
    """Since this host carries the channel."""
    media: Media = field(default_factory=Media)
    parent: Parent = field(default_factory=Parent)
    lost: Lost = field(default_factory=Lost)
    seqnos: SequenceNumbers = field(default_factory=SequenceNumbers)
    below: Below = field(default_factory=Below)
    standby: Standby = field(default_factory=Standby)

    @property
    def fed(self) -> bool:
        """Whether this host has a parent for the channel, or publishes it."""
        return self.publishes or self.upstream is not None

    @property
    def wanted(self) -> Contract:
        """What must hold here for the local subscriber and every host below; a bound of NUMBER_MAX stands for none."""
        wanted = self.contract or Contract(NUMBER_MAX)
        for child in self.below.children.values():
            wanted = wanted.both(child.contract)
        return wanted

    @property
    def copy_bps(self) -> float:
        """Rate of one copy: as measured here, before that as the path announces it; 0 while nobody has measured it."""
        announced = self.metrics.rate_bps
        return self.media.rate_bps or (announced if announced < NUMBER_MAX else 0.0)
