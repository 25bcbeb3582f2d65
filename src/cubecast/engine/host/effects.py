"""The effects that a HostEngine asks its shell to perform."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from cubecast.engine.protocol.messages import Message
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.records import HostRecord, SubscriptionRecord, Tree
from cubecast.types import ChannelName, HostId


@dataclass(frozen=True, slots=True)
class Dial:
    """Open the link to a host; answered by LinkUp or LinkDown."""

    record: HostRecord


@dataclass(frozen=True, slots=True)
class HangUp:
    """Close the link to a host that is no longer needed, or is silent."""

    host: HostId


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message over the link."""

    host: HostId
    message: Message


@dataclass(frozen=True, slots=True)
class Resolve:
    """Ask the directory for a channel; answered by ChannelResolved, ChannelNotFound or ResolveFailed."""

    channel: ChannelName


@dataclass(frozen=True, slots=True)
class FindRoutes:
    """Ask the directory for routes to a channel over hosts that need not carry it yet; answered by RoutesFound.

    Attributes:
        links_ms: one-way delays of this host's links.
    """

    channel: ChannelName
    links_ms: Mapping[HostId, float]


@dataclass(frozen=True, slots=True)
class Relocate:
    """Ask the directory for a seat nearer to the publisher; answered by Relocated."""

    channel: ChannelName
    bound_ms: float


@dataclass(frozen=True, slots=True)
class Announce:
    """Report to the directory that this host publishes the channel."""

    channel: ChannelName
    tree: Tree


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Report to the directory that the channel has ended."""

    channel: ChannelName


@dataclass(frozen=True, slots=True)
class Pull:
    """Open a media session for the channel to a new parent, beside the session to the former one.

    Answered by Pulled once its media may flow, or by PullFailed.

    Attributes:
        former_feeds: the former parent still feeds this host, so that nothing is lost while the session opens; else an open
            standby session to the host is used, if there is one.
    """

    channel: ChannelName
    record: HostRecord
    former_feeds: bool = False


@dataclass(frozen=True, slots=True)
class Push:
    """Open a media session for the channel to a new child that cannot dial this host; its Pull waits for it."""

    channel: ChannelName
    record: HostRecord


@dataclass(frozen=True, slots=True)
class Prepare:
    """Open a standby session for the channel to a host that may be its next parent.

    Answered by Prepared once it is open, or by PullFailed.
    """

    channel: ChannelName
    record: HostRecord


@dataclass(frozen=True, slots=True)
class Rouse:
    """Start the media of a standby session, if it is open: the standby is about to become the parent."""

    channel: ChannelName
    host: HostId


@dataclass(frozen=True, slots=True)
class Evict:
    """Close the media sessions of a host that is no longer a child for the channel."""

    channel: ChannelName
    host: HostId


@dataclass(frozen=True, slots=True)
class StopPull:
    """Close the channel's media or standby session to a host; with None all of them, the channel is no longer needed."""

    channel: ChannelName
    host: HostId | None


@dataclass(frozen=True, slots=True)
class Admitted:
    """The local subscription is admitted; `metrics` are what is promised, and keep the contract."""

    channel: ChannelName
    contract: Contract
    metrics: PathMetrics


@dataclass(frozen=True, slots=True)
class Refused:
    """The local subscription is refused: no path keeps the contract; `best` comes nearest, None when there was no path."""

    channel: ChannelName
    contract: Contract
    best: PathMetrics | None
    reason: str


@dataclass(frozen=True, slots=True)
class NotFound:
    """The channel of a local subscription is not announced; `known` are those that are."""

    channel: ChannelName
    known: tuple[ChannelName, ...]


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """A local subscription has ended: finished by the publisher, or lost at `host` for `reason`."""

    channel: ChannelName
    finished: bool
    host: HostId
    reason: str


@dataclass(frozen=True, slots=True)
class ParentChanged:
    """The parent of a channel has changed from `before` to `after`, for a reason."""

    channel: ChannelName
    before: HostId
    after: HostId
    reason: str


@dataclass(frozen=True, slots=True)
class Suspect:
    """Report to the directory that a host is silent."""

    host: HostId


@dataclass(frozen=True, slots=True)
class Report:
    """Report the state of a local subscription to the directory."""

    record: SubscriptionRecord


@dataclass(frozen=True, slots=True)
class Leave:
    """Report to the directory that this host leaves, then stop."""


Effect: TypeAlias = (
    Dial
    | HangUp
    | Send
    | Resolve
    | FindRoutes
    | Relocate
    | Announce
    | Withdraw
    | Pull
    | Push
    | Prepare
    | Rouse
    | Evict
    | StopPull
    | Admitted
    | Refused
    | NotFound
    | StreamEnded
    | ParentChanged
    | Suspect
    | Report
    | Leave
)
