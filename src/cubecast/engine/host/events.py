"""What happened: the events a HostEngine handles. The shell reports, the engine decides."""

from dataclasses import dataclass
from typing import TypeAlias

from cubecast.engine.protocol.messages import Message
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import Advice, ChannelRecord, Compliance, HostRecord, Placement, Tree, Verdict
from cubecast.types import ChannelName, HostId


@dataclass(frozen=True, slots=True)
class Placed:
    """The directory gave this host its place, or a new one."""

    placement: Placement


@dataclass(frozen=True, slots=True)
class LinkUp:
    """Messages now flow both ways between us and the host."""

    host: HostId


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The session to the host closed, or could not be opened."""

    host: HostId
    reason: str


@dataclass(frozen=True, slots=True)
class LinkSampled:
    """Transport statistics of a link: round-trip time, ms, and packets lost and sent since the link came up."""

    host: HostId
    rtt_ms: float
    packets_lost: int
    packets_sent: int


@dataclass(frozen=True, slots=True)
class Received:
    """A message arrived over the link from the host."""

    host: HostId
    message: Message


@dataclass(frozen=True, slots=True)
class Tick:
    """TICK_S went by. Silence is counted in ticks, so a host that was stalled itself does not blame its peers.

    Attributes:
        late_ms: how much later than due this one came.
    """

    late_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class PublishRequested:
    """The local user wants to publish a channel.

    Attributes:
        source: the channel it is made from, which this host receives: a derived channel is late by that and its making.
    """

    channel: ChannelName
    tree: Tree = Tree.HYBRID
    source: ChannelName | None = None


@dataclass(frozen=True, slots=True)
class ProcessingMeasured:
    """What making a derived channel takes here: how long frames are in the making, and how much longer late ones, ms."""

    channel: ChannelName
    delay_ms: float
    spread_ms: float


@dataclass(frozen=True, slots=True)
class PublishFinished:
    """The local source of a published channel came to its end, or the user stopped it."""

    channel: ChannelName


@dataclass(frozen=True, slots=True)
class SubscribeRequested:
    """The local user wants a channel under a contract."""

    channel: ChannelName
    contract: Contract


@dataclass(frozen=True, slots=True)
class ContractMeasured:
    """How the contract of a local subscription has fared so far."""

    channel: ChannelName
    compliance: Compliance


@dataclass(frozen=True, slots=True)
class UnsubscribeRequested:
    """The local user no longer wants the channel."""

    channel: ChannelName


@dataclass(frozen=True, slots=True)
class ChannelResolved:
    """The directory knows the channel; `grant` is our permission to subscribe to it, `proposals` possible parents."""

    record: ChannelRecord
    grant: str
    proposals: tuple[HostRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Relocated:
    """The directory has moved this host for a channel, may do so later, or will not."""

    channel: ChannelName
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Advised:
    """The directory thinks that a host would be a better parent."""

    advice: Advice


@dataclass(frozen=True, slots=True)
class ProbesWanted:
    """The directory wants to know the delays to these hosts."""

    hosts: tuple[HostRecord, ...]


@dataclass(frozen=True, slots=True)
class ChannelNotFound:
    """The directory does not know the channel; `known` are those it does."""

    channel: ChannelName
    known: tuple[ChannelName, ...]


@dataclass(frozen=True, slots=True)
class ResolveFailed:
    """The directory refused, or did not answer."""

    channel: ChannelName
    reason: str


@dataclass(frozen=True, slots=True)
class MediaSampled:
    """Bytes received so far on the pull session to a host; of a channel of our own, from ourselves: bytes published."""

    channel: ChannelName
    host: HostId
    bytes_received: int


@dataclass(frozen=True, slots=True)
class Pulled:
    """The media session to a new parent is open and its media may flow."""

    channel: ChannelName
    host: HostId


@dataclass(frozen=True, slots=True)
class Prepared:
    """The standby to a host is open: a pull from it will be quick."""

    channel: ChannelName
    host: HostId


@dataclass(frozen=True, slots=True)
class PullFailed:
    """The session that pulls the channel from a host, or the standby to it, could not be opened, or closed."""

    channel: ChannelName
    host: HostId
    reason: str


@dataclass(frozen=True, slots=True)
class LeaveRequested:
    """The local user stops this host."""


Event: TypeAlias = (
    Placed
    | LinkUp
    | LinkDown
    | LinkSampled
    | ProcessingMeasured
    | Received
    | Tick
    | PublishRequested
    | PublishFinished
    | SubscribeRequested
    | ContractMeasured
    | UnsubscribeRequested
    | ChannelResolved
    | Relocated
    | Advised
    | ProbesWanted
    | ChannelNotFound
    | ResolveFailed
    | MediaSampled
    | Pulled
    | Prepared
    | PullFailed
    | LeaveRequested
)
