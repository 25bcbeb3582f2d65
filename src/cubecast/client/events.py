"""The events that a host reports to its user, as typed values; the command line prints them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from cubecast.engine.protocol.job_records import JobProgress
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import Compliance
from cubecast.host.channel.verification import Rejections
from cubecast.host.local.reception_stats import ReceptionSummary
from cubecast.types import ChannelName, HostId


@dataclass(frozen=True, slots=True)
class Joined:
    """The host has joined the overlay.

    Attributes:
        label: its seat in the cube, as a number; `seat` is the same in digits.
        shape: of the cube, such as 2^4.
        address: HOST:PORT (UDP) that other hosts dial.
    """

    host: HostId
    label: int
    seat: str
    shape: str
    address: str


@dataclass(frozen=True, slots=True)
class Notice:
    """One line for the user."""

    text: str


@dataclass(frozen=True, slots=True)
class ParentChanged:
    """A channel that this host carries has another parent: `after` instead of `before`.

    Attributes:
        at_s: when, by the host's clock, s since the Unix epoch.
    """

    at_s: float
    channel: ChannelName
    before: HostId
    after: HostId
    reason: str


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """A channel that a host carries: its parent, None at the publisher, and its children."""

    upstream: HostId | None
    children: tuple[HostId, ...]


@dataclass(frozen=True, slots=True)
class HostStatus:
    """The state of a host.

    Attributes:
        copies: frames that were read into Python and written out again; 0 unless relaying goes wrong.
        ready: whether the links to all neighbours are up and measured.
        shape: of the cube, such as 2^4.
        links: one-way delay, ms, of each link that is up; None where it is not measured.
        channels: the channels that the host carries.
        control_frames: frames of control messages sent so far, over all links.
        malformed_messages: frames of other hosts that could not be decoded and were dropped.
        illegal_moves: faults of the engine that a search survived, or that ended it.
    """

    copies: int
    ready: bool
    shape: str
    links: Mapping[HostId, float | None]
    channels: Mapping[ChannelName, ChannelStatus]
    control_frames: int = 0
    malformed_messages: int = 0
    illegal_moves: int = 0


@dataclass(frozen=True, slots=True)
class Carrying:
    """The carried channels, or their numbers of children, have changed: the number of children of each channel now."""

    children: Mapping[ChannelName, int]


@dataclass(frozen=True, slots=True)
class Announced:
    """A published channel can be subscribed to; `tracks` describes each track."""

    channel: ChannelName
    tracks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PublicationStatus:
    """The state of a publication: frames written so far, by track."""

    channel: ChannelName
    frames: tuple[int, ...]
    host: HostStatus


@dataclass(frozen=True, slots=True)
class Finished:
    """A publication has ended: frames written, by track."""

    channel: ChannelName
    frames: tuple[int, ...]
    host: HostStatus


@dataclass(frozen=True, slots=True)
class Admitted:
    """A path that keeps the contract was found.

    Attributes:
        promised_ms: the promised delay; late frames may take up to spread_ms more.
        path: hosts of the path, the publisher first.
        loss: share of packets that are lost on the path and sent again, 0..1.
        rate_bps: the rate of the path, bit/s; None where it is not limited.
        clock_offset_ms: the publisher's clock minus this host's, with an uncertainty of clock_uncertainty_ms.
    """

    channel: ChannelName
    contract: Contract
    promised_ms: float
    spread_ms: float
    path: tuple[HostId, ...]
    loss: float
    rate_bps: float | None
    clock_offset_ms: float
    clock_uncertainty_ms: float


@dataclass(frozen=True, slots=True)
class Refused:
    """No path keeps the contract.

    Attributes:
        bound_ms, rate_bps, loss: the counter-offer, the contract that could be kept now; None without any path.
        best_path: the path that could keep it, the publisher first.
        reason: one line for the user.
    """

    channel: ChannelName
    bound_ms: float | None
    rate_bps: float | None
    loss: float | None
    best_path: tuple[HostId, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Receiving:
    """The channel's format has arrived and frames follow; `tracks` describes each track."""

    channel: ChannelName
    tracks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContractViolated:
    """Some seconds of the stream violated the contract since the last such event: `seconds` counts only those."""

    channel: ChannelName
    seconds: Compliance


@dataclass(frozen=True, slots=True)
class SubscriptionStatus:
    """The state of a subscription; `compliance` is None before its admission."""

    channel: ChannelName
    summary: ReceptionSummary
    compliance: Compliance | None
    host: HostStatus


@dataclass(frozen=True, slots=True)
class Ended:
    """A subscription has ended.

    Attributes:
        path: the latest path, the publisher first.
        catch_up: frames captured before the subscription began, whose delay does not count.
        timed: frames whose delay counts.
        late: timed frames that arrived later than bound_ms.
        gaps: times without a frame: their end, s since the Unix epoch, and their length, ms.
        replayed: frames that arrived a second time after a change of parents and were dropped.
        filled: frames that were lost with a parent and fetched afterwards.
        rejected: what has arrived that the publisher has not sent so, by kind.
        clock_correction_ms: what was added to each delay for the difference of the clocks.
    """

    channel: ChannelName
    bound_ms: float
    summary: ReceptionSummary
    path: tuple[str, ...]
    catch_up: int
    timed: int
    late: int
    gaps: tuple[tuple[float, float], ...]
    replayed: int
    filled: int
    rejected: Rejections
    clock_correction_ms: float
    compliance: Compliance
    host: HostStatus


@dataclass(frozen=True, slots=True)
class Waiting:
    """A channel is not announced yet; the subscription is tried again."""

    channel: ChannelName


@dataclass(frozen=True, slots=True)
class ChannelFailed:
    """A publication or subscription has failed; the host continues without it."""

    channel: ChannelName
    reason: str


@dataclass(frozen=True, slots=True)
class DerivedAnnounced:
    """A derived channel, made here, can be subscribed to; `input_ms` is the promised bound of its source."""

    channel: ChannelName
    source: ChannelName
    tracks: tuple[str, ...]
    input_ms: float


@dataclass(frozen=True, slots=True)
class JobAnnounced:
    """A derived channel can be subscribed to; the super-node has assigned the job to `host`."""

    channel: ChannelName
    source: ChannelName
    host: HostId | None


@dataclass(frozen=True, slots=True)
class DerivedStatus:
    """Counters and times of the extension of a derived channel so far."""

    channel: ChannelName
    progress: JobProgress


@dataclass(frozen=True, slots=True)
class JobStatus:
    """The state of a job, as cubecast.engine.protocol.job_records.JobStatus describes it."""

    channel: ChannelName
    host: HostId | None
    state: str
    reason: str
    progress: JobProgress


@dataclass(frozen=True, slots=True)
class ExtensionFailing:
    """The extension of a derived channel has failed since the last such event; the channel continues."""

    channel: ChannelName
    progress: JobProgress


@dataclass(frozen=True, slots=True)
class ExtensionUpgraded:
    """A new version of the extension, named by `extension`, processes the channel from now on."""

    channel: ChannelName
    extension: str


@dataclass(frozen=True, slots=True)
class UpgradeFailed:
    """A new version of the extension cannot be used; the previous version continues."""

    channel: ChannelName
    reason: str


@dataclass(frozen=True, slots=True)
class DerivedFinished:
    """The source of a derived channel has ended, and so has the channel."""

    channel: ChannelName
    progress: JobProgress


@dataclass(frozen=True, slots=True)
class EventsDropped:
    """The reader of `Host.events` was too slow: `count` events were dropped, the oldest first."""

    count: int


Event: TypeAlias = (
    Joined
    | Notice
    | ParentChanged
    | HostStatus
    | Carrying
    | Announced
    | PublicationStatus
    | Finished
    | Admitted
    | Refused
    | Receiving
    | ContractViolated
    | SubscriptionStatus
    | Ended
    | Waiting
    | ChannelFailed
    | DerivedAnnounced
    | JobAnnounced
    | DerivedStatus
    | JobStatus
    | ExtensionFailing
    | ExtensionUpgraded
    | UpgradeFailed
    | DerivedFinished
    | EventsDropped
)
