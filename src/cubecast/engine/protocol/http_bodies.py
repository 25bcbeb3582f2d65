"""The super-node's HTTP bodies, shared by its API and the hosts that call it.

Plain dataclasses, so that the OpenAPI page shows them and a host decodes them without a framework.
"""

from dataclasses import dataclass, field

from cubecast.engine.protocol.job_records import Job, JobReport
from cubecast.engine.protocol.records import (
    FAN_OUT_DEFAULT,
    Advice,
    ChannelRecord,
    HostRecord,
    Placement,
    SubscriptionRecord,
    Verdict,
)
from cubecast.types import ChannelName, HostId


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """Body of POST /v1/hosts. `key` is the host's Ed25519 public key, hex; `label` a wish, empty for any."""

    name: HostId
    address: str
    fingerprint: str
    key: str
    fan_out: int = FAN_OUT_DEFAULT
    label: str = ""


@dataclass(frozen=True, slots=True)
class JoinAnswer:
    """The host's place, its credential, and the key that verifies everyone's (hex)."""

    placement: Placement
    credential: str
    public_key: str


@dataclass(frozen=True, slots=True)
class RefreshRequest:
    """Body of POST /v1/hosts/HOST/refresh: the lease is renewed; ledger lines, suspicions and delays reported.

    `links_ms` are the one-way delays of the host's links; `slots` the extensions it is willing to run for others, and
    `jobs` how those it has fare.
    """

    subscriptions: tuple[SubscriptionRecord, ...] = ()
    suspects: tuple[HostId, ...] = ()
    links_ms: dict[HostId, float] = field(default_factory=dict)
    slots: int = 0
    jobs: tuple[JobReport, ...] = ()


@dataclass(frozen=True, slots=True)
class Pushed:
    """One line of GET /v1/hosts/HOST/pushes: a new place, advice on parents, hosts to measure, all jobs of the host."""

    placement: Placement | None = None
    advice: tuple[Advice, ...] = ()
    probes: tuple[HostRecord, ...] = ()
    jobs: tuple[Job, ...] | None = None


@dataclass(frozen=True, slots=True)
class JobRequest:
    """Body of PUT /v1/jobs/CHANNEL, sent again and again while the job is wanted.

    Attributes:
        at: a host, `publisher` for the source's, or `auto`.
    """

    job: Job
    at: str


@dataclass(frozen=True, slots=True)
class RefreshAnswer:
    """A fresh credential, and the version of the placement the super-node holds for this host."""

    credential: str
    version: int
    channels: tuple[ChannelName, ...]
    """What the super-node knows this host to publish."""


@dataclass(frozen=True, slots=True)
class RelocationRequest:
    """Body of POST /v1/hosts/HOST/relocation: no path over the cube brings the channel here within the bound."""

    channel: ChannelName
    bound_ms: float


@dataclass(frozen=True, slots=True)
class RelocationAnswer:
    """Whether the host was moved: its new place is pushed to it, and to everyone beside it."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class ResolveAnswer:
    """An announced channel, the grant to subscribe to it, and hosts that may be parents, the best first."""

    channel: ChannelRecord
    grant: str
    proposals: tuple[HostRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel as the list shows it."""

    channel: ChannelName
    publisher: HostId
    label: str
    subscribers: int


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole directory: shape, hosts, channels and the ledger of subscriptions."""

    shape: str
    hosts: tuple[HostRecord, ...]
    channels: tuple[ChannelView, ...]
    subscriptions: tuple[SubscriptionRecord, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Body of every error: one line for the user, and for an unknown channel those that are known."""

    detail: str
    known: tuple[ChannelName, ...] = ()
