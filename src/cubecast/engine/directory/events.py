"""What happens to a DirectoryEngine, and what it asks its shell to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from cubecast.engine.protocol.job_records import Job, JobReport
from cubecast.engine.protocol.records import (
    Advice,
    ChannelRecord,
    HostRecord,
    Placement,
    SubscriptionRecord,
    Tree,
    Verdict,
)
from cubecast.overlay.cube import Cube
from cubecast.types import ChannelName, HostId


@dataclass(frozen=True, slots=True)
class HostJoined:
    """A host asks for a place. `seat` is the label it wishes for, spelled in digits; empty takes a random one."""

    host: HostId
    address: str
    fingerprint: str
    key: str
    fan_out: int
    seat: str = ""
    reachable: bool = True


@dataclass(frozen=True, slots=True)
class HostTested:
    """A host was dialled back: whether it can be dialled."""

    host: HostId
    reachable: bool


@dataclass(frozen=True, slots=True)
class HostRefreshed:
    """A host is alive."""

    host: HostId


@dataclass(frozen=True, slots=True)
class HostLeft:
    """A host leaves."""

    host: HostId


@dataclass(frozen=True, slots=True)
class HostSuspected:
    """A neighbour says that a host is silent."""

    host: HostId
    by: HostId


@dataclass(frozen=True, slots=True)
class ChannelAnnounced:
    """A host publishes a channel."""

    host: HostId
    channel: ChannelName
    tree: Tree = Tree.HYBRID


@dataclass(frozen=True, slots=True)
class ChannelWithdrawn:
    """A host no longer publishes a channel."""

    host: HostId
    channel: ChannelName


@dataclass(frozen=True, slots=True)
class SubscriptionReported:
    """A host reports a line of its ledger."""

    record: SubscriptionRecord


@dataclass(frozen=True, slots=True)
class RelocationWanted:
    """A subscriber over the cube that no path serves in time wants a seat nearer to the publisher."""

    host: HostId
    channel: ChannelName
    bound_ms: float


@dataclass(frozen=True, slots=True)
class LinksReported:
    """A host tells the one-way delays of its links, ms."""

    host: HostId
    links_ms: Mapping[HostId, float]


@dataclass(frozen=True, slots=True)
class JobWanted:
    """A channel is to be made; `at` is a host, PUBLISHER or AUTO, and `module` tells whether the module is here."""

    job: Job
    at: str
    module: bool


@dataclass(frozen=True, slots=True)
class JobUnwanted:
    """The owner of a job wants it no more."""

    channel: ChannelName
    owner: str


@dataclass(frozen=True, slots=True)
class JobsReported:
    """A host tells how many extensions it is willing to run for others, and how those it has fare."""

    host: HostId
    slots: int
    reports: tuple[JobReport, ...] = ()


@dataclass(frozen=True, slots=True)
class ChannelMissed:
    """A host asked for a channel that nobody announces."""

    host: HostId
    channel: ChannelName


@dataclass(frozen=True, slots=True)
class LeaseTick:
    """Time to look for expired leases, and for better trees."""


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
    | JobWanted
    | JobUnwanted
    | JobsReported
    | ChannelMissed
    | LeaseTick
)


@dataclass(frozen=True, slots=True)
class SaveHost:
    """Make a host's record last."""

    record: HostRecord


@dataclass(frozen=True, slots=True)
class DeleteHost:
    """Forget a host."""

    host: HostId


@dataclass(frozen=True, slots=True)
class SaveShape:
    """Make the overlay's shape last."""

    cube: Cube
    epoch: int


@dataclass(frozen=True, slots=True)
class SaveChannel:
    """Make a channel last."""

    record: ChannelRecord


@dataclass(frozen=True, slots=True)
class DeleteChannel:
    """Forget a channel."""

    channel: ChannelName


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of the wish to be moved that is being handled."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class PushPlacement:
    """Tell a host its new place."""

    host: HostId
    placement: Placement


@dataclass(frozen=True, slots=True)
class Advise:
    """Tell a host that another one would be a better parent for a channel."""

    host: HostId
    advice: Advice


@dataclass(frozen=True, slots=True)
class AskProbes:
    """Ask a host to measure others."""

    host: HostId
    others: tuple[HostRecord, ...]


@dataclass(frozen=True, slots=True)
class Assign:
    """Tell a host what it is to make, all of it."""

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
    | Assign
)
