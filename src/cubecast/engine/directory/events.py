"""The events a DirectoryEngine handles, and the effects it asks the super-node to perform."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from cubecast.engine.protocol.http_bodies import RoutesAnswer
from cubecast.engine.protocol.job_records import Job, JobReport
from cubecast.engine.protocol.records import (
    Advice,
    ChannelRecord,
    HostRecord,
    SubscriptionRecord,
    Tree,
    Verdict,
)
from cubecast.overlay.cube import Cube
from cubecast.types import ChannelName, HostId


@dataclass(frozen=True, slots=True)
class HostJoined:
    """A host asks for a seat.

    Attributes:
        address: where it says it can be dialled, IP:PORT.
        key: its Ed25519 public key, hex.
        fan_out: copies it is willing to send, over all channels.
        requested_label: the label it asks for, spelled in digits; empty for a random one.
        reachable: whether its certificate was found there, or nobody is dialled back.
    """

    host: HostId
    address: str
    fingerprint: str
    key: str
    fan_out: int
    requested_label: str = ""
    reachable: bool = True


@dataclass(frozen=True, slots=True)
class HostTested:
    """A host was dialled back; `reachable` is the result."""

    host: HostId
    reachable: bool


@dataclass(frozen=True, slots=True)
class HostRefreshed:
    """A host renews its lease."""

    host: HostId


@dataclass(frozen=True, slots=True)
class HostLeft:
    """A host leaves."""

    host: HostId


@dataclass(frozen=True, slots=True)
class HostSuspected:
    """Host `by` reports that a neighbour, `host`, is silent."""

    host: HostId
    by: HostId


@dataclass(frozen=True, slots=True)
class ChannelAnnounced:
    """A host publishes a channel.

    Attributes:
        publication: the number that it was given before, if it announces the same publication again; 0 for a new one.
    """

    host: HostId
    channel: ChannelName
    tree: Tree = Tree.HYBRID
    publication: int = 0


@dataclass(frozen=True, slots=True)
class ChannelWithdrawn:
    """A host no longer publishes a channel."""

    host: HostId
    channel: ChannelName


@dataclass(frozen=True, slots=True)
class SubscriptionReported:
    """A host reports a subscription of its own."""

    record: SubscriptionRecord


@dataclass(frozen=True, slots=True)
class RelocationWanted:
    """A subscriber asks for a seat nearer to the publisher: no path over the cube keeps its bound."""

    host: HostId
    channel: ChannelName
    bound_ms: float


@dataclass(frozen=True, slots=True)
class RoutesWanted:
    """A subscriber asks for routes to a channel over hosts that need not carry it yet; it reports the delays of its links."""

    host: HostId
    channel: ChannelName
    links_ms: Mapping[HostId, float]


@dataclass(frozen=True, slots=True)
class LinksReported:
    """A host reports the one-way delays of its links, ms."""

    host: HostId
    links_ms: Mapping[HostId, float]


@dataclass(frozen=True, slots=True)
class JobWanted:
    """The owner of a job requests it, or repeats its request.

    Attributes:
        at: a host, PUBLISHER or AUTO (cubecast.engine.directory.job_placement).
        has_module: whether the super-node has the extension's module.
    """

    job: Job
    at: str
    has_module: bool


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The owner of a job ends it."""

    channel: ChannelName
    owner: str


@dataclass(frozen=True, slots=True)
class JobsReported:
    """A host reports how many extensions it is willing to run for others, and the state of each job it has."""

    host: HostId
    slots: int
    reports: tuple[JobReport, ...] = ()


@dataclass(frozen=True, slots=True)
class UnknownChannelRequested:
    """A host asked for a channel that is not announced."""

    host: HostId
    channel: ChannelName


@dataclass(frozen=True, slots=True)
class LeaseTick:
    """Time to check leases, jobs, seats and trees."""


DirectoryEvent: TypeAlias = (
    HostJoined
    | HostTested
    | HostRefreshed
    | HostLeft
    | HostSuspected
    | ChannelAnnounced
    | ChannelWithdrawn
    | SubscriptionReported
    | LinksReported
    | RelocationWanted
    | RoutesWanted
    | JobWanted
    | JobEnded
    | JobsReported
    | UnknownChannelRequested
    | LeaseTick
)


@dataclass(frozen=True, slots=True)
class SaveHost:
    """Store a host's record, with the address that the host has named, proved or not."""

    record: HostRecord


@dataclass(frozen=True, slots=True)
class DeleteHost:
    """Delete a host from the store."""

    host: HostId


@dataclass(frozen=True, slots=True)
class SaveShape:
    """Store the overlay's shape."""

    cube: Cube
    epoch: int


@dataclass(frozen=True, slots=True)
class SaveChannel:
    """Store a channel."""

    record: ChannelRecord


@dataclass(frozen=True, slots=True)
class DeleteChannel:
    """Delete a channel from the store."""

    channel: ChannelName


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of the relocation request that is being handled."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class AnswerRoutes:
    """The answer to the request for routes that is being handled, as in RoutesAnswer."""

    answer: RoutesAnswer


@dataclass(frozen=True, slots=True)
class PushPlacement:
    """Send a host its placement as it is then, unless it is the one that was sent last: it may have changed."""

    host: HostId


@dataclass(frozen=True, slots=True)
class Advise:
    """Send a host advice: another one would be a better parent for a channel."""

    host: HostId
    advice: Advice


@dataclass(frozen=True, slots=True)
class AskProbes:
    """Ask a host to measure its delays to others."""

    host: HostId
    others: tuple[HostRecord, ...]


@dataclass(frozen=True, slots=True)
class Assign:
    """Send a host all its jobs."""

    host: HostId
    jobs: tuple[Job, ...]


DirectoryEffect: TypeAlias = (
    SaveShape
    | SaveHost
    | DeleteHost
    | SaveChannel
    | DeleteChannel
    | PushPlacement
    | Advise
    | AskProbes
    | Answer
    | AnswerRoutes
    | Assign
)
