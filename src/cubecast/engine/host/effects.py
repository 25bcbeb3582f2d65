"""What to do: the effects a HostEngine asks its shell to perform."""

from dataclasses import dataclass
from typing import TypeAlias

from cubecast.engine.protocol.messages import Message
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.records import HostRecord, SubscriptionRecord, Tree
from cubecast.types import ChannelName, HostId


@dataclass(frozen=True, slots=True)
class Dial:
    """Open the link to a neighbour; answer with LinkUp or LinkDown."""

    record: HostRecord


@dataclass(frozen=True, slots=True)
class HangUp:
    """Close the link to a host that is no neighbour any more, or is silent."""

    host: HostId


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message over the link."""

    host: HostId
    message: Message


@dataclass(frozen=True, slots=True)
class Resolve:
    """Ask the directory for a channel; answer with ChannelResolved or ChannelNotFound."""

    channel: ChannelName


@dataclass(frozen=True, slots=True)
class Relocate:
    """Ask the directory for a seat nearer to the publisher; answer with Relocated."""

    channel: ChannelName
    bound_ms: float


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the directory that this host publishes the channel."""

    channel: ChannelName
    tree: Tree


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Tell the directory that the channel is over."""

    channel: ChannelName


@dataclass(frozen=True, slots=True)
class Pull:
    """Open a media session for the channel to a new parent, beside the one before.

    Pulled tells that its media may flow; a failure comes back as PullFailed. Nothing is lost while that takes its time
    where the one before still feeds us; else a standby is used, where there is one.
    """

    channel: ChannelName
    record: HostRecord
    fed: bool = False


@dataclass(frozen=True, slots=True)
class Push:
    """Open a media session for the channel to a new child, which cannot dial us: it waits for that with its Pull."""

    channel: ChannelName
    record: HostRecord


@dataclass(frozen=True, slots=True)
class Prepare:
    """Open a standby for the channel: a session to a host that may be its next parent.

    Prepared tells that it is open; a failure comes back as PullFailed.
    """

    channel: ChannelName
    record: HostRecord


@dataclass(frozen=True, slots=True)
class Rouse:
    """A pull from a standby is about to be asked for: have it send, if it is open."""

    channel: ChannelName
    host: HostId


@dataclass(frozen=True, slots=True)
class Evict:
    """Close the media sessions of a host that is no child of the channel any more."""

    channel: ChannelName
    host: HostId


@dataclass(frozen=True, slots=True)
class StopPull:
    """Close the channel's media session or standby to a host; with None every one, nobody here needs the channel any more."""

    channel: ChannelName
    host: HostId | None


@dataclass(frozen=True, slots=True)
class Admitted:
    """The local subscription stands: `reach` is what is promised, and keeps the contract."""

    channel: ChannelName
    contract: Contract
    metrics: PathMetrics


@dataclass(frozen=True, slots=True)
class Refused:
    """No path keeps the contract; `best` is the path that comes nearest, None when there was none."""

    channel: ChannelName
    contract: Contract
    best: PathMetrics | None
    reason: str


@dataclass(frozen=True, slots=True)
class NotFound:
    """The channel of a local subscription is not announced."""

    channel: ChannelName
    known: tuple[ChannelName, ...]


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """A local subscription is over: finished by the publisher, or lost at `host` for `reason`."""

    channel: ChannelName
    finished: bool
    host: HostId
    reason: str


@dataclass(frozen=True, slots=True)
class ParentChanged:
    """A channel this host carries has another parent now: `after` instead of `before`, for a reason."""

    channel: ChannelName
    before: HostId
    after: HostId
    reason: str


@dataclass(frozen=True, slots=True)
class Suspect:
    """Tell the directory that a neighbour is silent."""

    host: HostId


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the directory what a local subscription was promised."""

    record: SubscriptionRecord


@dataclass(frozen=True, slots=True)
class Leave:
    """Tell the directory that this host leaves, then stop."""


Effect: TypeAlias = (
    Dial
    | HangUp
    | Send
    | Resolve
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
