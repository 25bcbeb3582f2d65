"""The events that a HostEngine handles: what has happened, reported by the shell."""

from dataclasses import dataclass
from typing import TypeAlias

from cubecast.engine.protocol.http_bodies import RoutesAnswer
from cubecast.engine.protocol.messages import Attach, Message, PathRequest, StandbyRequest
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import (
    Advice,
    ChannelRecord,
    Compliance,
    HostRecord,
    Placement,
    Tree,
    Verdict,
)
from cubecast.types import ChannelName, HostId


@dataclass(frozen=True, slots=True)
class Placed:
    """The directory has sent this host its position in the cube."""

    placement: Placement


@dataclass(frozen=True, slots=True)
class LinkUp:
    """Messages flow both ways over the link to a host."""

    host: HostId


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The session to a host closed, or could not be opened."""

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
    """A message has arrived over the link from a host."""

    host: HostId
    message: Message


@dataclass(frozen=True, slots=True)
class RequestRejected:
    """A request arrived from the host, but the host may not receive the channel: `reason` is one line for the subscriber."""

    host: HostId
    message: PathRequest | Attach | StandbyRequest
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """EngineConfig.tick_s have passed. Silence is counted in ticks, so a host that was stalled does not blame its peers.

    Attributes:
        late_ms: how late this tick came.
    """

    late_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class PublishRequested:
    """The local user wants to publish a channel.

    Attributes:
        source: of a derived channel, the channel that this host receives for it; its delay counts into the promise.
    """

    channel: ChannelName
    tree: Tree = Tree.HYBRID
    source: ChannelName | None = None


@dataclass(frozen=True, slots=True)
class ProcessingMeasured:
    """Processing time of a derived channel: typical delay of a frame, and how much longer a late one takes, ms."""

    channel: ChannelName
    delay_ms: float
    spread_ms: float


@dataclass(frozen=True, slots=True)
class PublishFinished:
    """The source of a channel published here has ended, or the user stopped it."""

    channel: ChannelName


@dataclass(frozen=True, slots=True)
class SubscribeRequested:
    """The local user wants a channel under a contract."""

    channel: ChannelName
    contract: Contract


@dataclass(frozen=True, slots=True)
class ContractMeasured:
    """How the contract of a local subscription has been kept so far."""

    channel: ChannelName
    compliance: Compliance


@dataclass(frozen=True, slots=True)
class UnsubscribeRequested:
    """The local user no longer wants the channel."""

    channel: ChannelName


@dataclass(frozen=True, slots=True)
class ChannelResolved:
    """The directory knows the channel; `proposals` are possible parents."""

    record: ChannelRecord
    proposals: tuple[HostRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class RoutesFound:
    """The directory's answer to FindRoutes; None if it did not answer, or refused."""

    channel: ChannelName
    answer: RoutesAnswer | None


@dataclass(frozen=True, slots=True)
class Relocated:
    """The directory has answered a request for a label nearer to a channel's publisher."""

    channel: ChannelName
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Advised:
    """The directory proposes a better parent."""

    advice: Advice


@dataclass(frozen=True, slots=True)
class ProbesWanted:
    """The directory asks for the delays to these hosts."""

    hosts: tuple[HostRecord, ...]


@dataclass(frozen=True, slots=True)
class ChannelNotFound:
    """The directory does not know the channel; `known` are the channels it knows."""

    channel: ChannelName
    known: tuple[ChannelName, ...]


@dataclass(frozen=True, slots=True)
class ResolveFailed:
    """The directory refused to resolve a channel, or did not answer."""

    channel: ChannelName
    reason: str


@dataclass(frozen=True, slots=True)
class MediaSampled:
    """Bytes received so far on the media session to a parent, or published so far; then `host` is this host itself."""

    channel: ChannelName
    host: HostId
    bytes_received: int


@dataclass(frozen=True, slots=True)
class Pulled:
    """The media session to a new parent is open, and its media may flow."""

    channel: ChannelName
    host: HostId


@dataclass(frozen=True, slots=True)
class Prepared:
    """The standby session to a host is open: changing to it as parent will be fast."""

    channel: ChannelName
    host: HostId


@dataclass(frozen=True, slots=True)
class PullFailed:
    """A media or standby session to a host closed, or could not be opened."""

    channel: ChannelName
    host: HostId
    reason: str


@dataclass(frozen=True, slots=True)
class MediaRejected:
    """Media has come from a parent that the publisher has not sent so; `fault` names what was found, in a word."""

    channel: ChannelName
    parent: HostId
    fault: str


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
    | RequestRejected
    | Tick
    | PublishRequested
    | PublishFinished
    | SubscribeRequested
    | ContractMeasured
    | UnsubscribeRequested
    | ChannelResolved
    | RoutesFound
    | Relocated
    | Advised
    | ProbesWanted
    | ChannelNotFound
    | ResolveFailed
    | MediaSampled
    | Pulled
    | Prepared
    | PullFailed
    | MediaRejected
    | LeaveRequested
)
