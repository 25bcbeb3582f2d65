"""The bodies of the super-node's HTTP requests and answers, shared by its API and the hosts.

Plain dataclasses, so that the OpenAPI description has them and a host can decode them without a web framework.
"""

from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from cubecast.engine.protocol.job_records import Job, JobReport
from cubecast.engine.protocol.ranges import (
    LISTED_MAX,
    Address,
    Amount,
    Channel,
    ChannelOrNone,
    DelaysByHost,
    Hex32,
    HostName,
    Name,
    Number,
    Signed,
    Spelling,
    Text,
    Token,
)
from cubecast.engine.protocol.records import (
    FAN_OUT_DEFAULT,
    Advice,
    ChannelRecord,
    FanOut,
    HostRecord,
    Placement,
    Route,
    SubscriptionRecord,
    Verdict,
)
from cubecast.types import NO_CHANNEL

LINES_MAX = 64
"""Maximum number of subscription records in one refresh: about 2 kB each with the longest names and paths."""
SUSPECTS_MAX = 64
"""Maximum number of suspected hosts in one refresh; a host that has more drops the oldest.

Only suspicions about neighbours matter, about 2n per label in a k-ary n-cube: the super-node ignores all others.
"""
JOBS_REPORTED_MAX = 128
"""Maximum number of jobs in one refresh; a host is assigned 64 at most (JobsConfig)."""
PUSHED_MAX = 4096
"""Maximum number of hosts, jobs or pieces of advice in one push or answer; the super-node sends tens."""
JOIN_BYTES_MAX = 4 * 1024
"""Maximum size of a JoinRequest, and of a RelocationRequest, bytes: all of its strings together have some 600 characters."""
JOB_REPORTS_BYTES_MAX = 104 * 1024
"""Maximum size of the jobs in one refresh, bytes: as much as one job with the longest settings has."""
REFRESH_BYTES_MAX = 384 * 1024
"""Maximum size of a RefreshRequest, bytes: a third for LINES_MAX records, as much for jobs, the rest for links and suspects."""
ROUTES_BYTES_MAX = 64 * 1024
"""Maximum size of a RoutesRequest, bytes: the delays of 700 links to hosts with the longest names."""
JOB_BYTES_MAX = 128 * 1024
"""Maximum size of a JobRequest, bytes: settings of 16 384 characters, each written in 6 bytes at most."""


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """Body of POST /v1/hosts.

    Attributes:
        address, fingerprint, key, fan_out: as in HostRecord.
        label: the label it asks for, spelled in digits; empty for a random one.
    """

    name: HostName
    address: Address
    fingerprint: Hex32
    key: Hex32
    fan_out: FanOut = FAN_OUT_DEFAULT
    label: Spelling = ""


@dataclass(frozen=True, slots=True)
class JoinAnswer:
    """What a host gets when it joins.

    Attributes:
        public_key: verifies all credentials and host records; Ed25519, hex.
        now_s: the super-node's time, s since the Unix epoch.
        ended: the number of the right that has ended last, as in EndedRight.
    """

    placement: Placement
    credential: Token
    public_key: Hex32
    now_s: Amount
    ended: Number = 0


@dataclass(frozen=True, slots=True)
class EndedRight:
    """A host may no longer receive a channel; or any, and takes no part any more, if the channel is empty.

    Attributes:
        number: rises with every right that ends.
    """

    number: Number
    host: HostName
    key: Hex32
    channel: ChannelOrNone = NO_CHANNEL


@dataclass(frozen=True, slots=True)
class RefreshRequest:
    """Body of POST /v1/hosts/HOST/refresh: renews the lease and reports.

    Attributes:
        subscriptions: those of the host that have changed, LINES_MAX at most.
        suspects: neighbours that are silent.
        links_ms: one-way delays of the host's links.
        slots: extensions it is willing to run for others.
        jobs: the state of every job it has; where that is more than JOB_REPORTS_BYTES_MAX, of some of them in turn.
        ended: the number of the last ended right that it knows, as in EndedRight.
    """

    subscriptions: Annotated[tuple[SubscriptionRecord, ...], Meta(max_length=LINES_MAX)] = ()
    suspects: Annotated[tuple[HostName, ...], Meta(max_length=SUSPECTS_MAX)] = ()
    links_ms: DelaysByHost = field(default_factory=dict)
    slots: Number = 0
    jobs: Annotated[tuple[JobReport, ...], Meta(max_length=JOBS_REPORTED_MAX)] = ()
    ended: Number = 0


@dataclass(frozen=True, slots=True)
class Pushed:
    """One line of GET /v1/hosts/HOST/pushes.

    Attributes:
        placement: the host's new placement; None where it has not changed.
        probes: hosts to measure the delay to.
        jobs: all jobs of the host; None where they have not changed.
    """

    placement: Placement | None = None
    advice: Annotated[tuple[Advice, ...], Meta(max_length=PUSHED_MAX)] = ()
    probes: Annotated[tuple[HostRecord, ...], Meta(max_length=PUSHED_MAX)] = ()
    jobs: Annotated[tuple[Job, ...], Meta(max_length=PUSHED_MAX)] | None = None


@dataclass(frozen=True, slots=True)
class JobRequest:
    """Body of PUT /v1/jobs/CHANNEL, repeated for as long as the job shall run.

    Attributes:
        at: a host, `publisher` for the source's publisher, or `auto` for any host.
    """

    job: Job
    at: Name


@dataclass(frozen=True, slots=True)
class RefreshAnswer:
    """A fresh credential, and what else the host needs to know.

    Attributes:
        version: of the host's placement at the super-node.
        channels: those that the host publishes according to the super-node.
        now_s: the super-node's time, s since the Unix epoch.
        ended: rights of any host that have ended since those that the request knew of.
        refused: one line for the user if the super-node does not follow some of the subscriptions.
    """

    credential: Token
    version: Number
    channels: Annotated[tuple[Channel, ...], Meta(max_length=LISTED_MAX)]
    now_s: Amount
    ended: Annotated[tuple[EndedRight, ...], Meta(max_length=LISTED_MAX)] = ()
    refused: Text = ""


@dataclass(frozen=True, slots=True)
class RelocationRequest:
    """Body of POST /v1/hosts/HOST/relocation: no path over the cube keeps this bound."""

    channel: Channel
    bound_ms: Signed


@dataclass(frozen=True, slots=True)
class RelocationAnswer:
    """Whether the host was moved; its new placement is pushed to it, and its neighbours' to them."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class RoutesRequest:
    """Body of POST /v1/hosts/HOST/routes: no host that carries the channel keeps the bound.

    Attributes:
        links_ms: one-way delays of the host's links.
    """

    channel: Channel
    links_ms: DelaysByHost


@dataclass(frozen=True, slots=True)
class RoutesAnswer:
    """Routes to a channel over hosts that need not carry it yet.

    Attributes:
        routes: the one with the least delay first.
        probes: further hosts to measure: a route may begin at one of them.
        pending: delays are being measured: asking again may give more.
        carriers: hosts that carry the channel.
        others_search: other subscribers are being admitted, who may relay soon.
    """

    routes: Annotated[tuple[Route, ...], Meta(max_length=PUSHED_MAX)]
    probes: Annotated[tuple[HostRecord, ...], Meta(max_length=PUSHED_MAX)]
    pending: bool
    carriers: Number = 0
    others_search: bool = False


@dataclass(frozen=True, slots=True)
class ResolveAnswer:
    """An announced channel, and possible parents, the one expected best first."""

    channel: ChannelRecord
    proposals: Annotated[tuple[HostRecord, ...], Meta(max_length=PUSHED_MAX)] = ()


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel in the overview; `label` is its publisher's seat, spelled in digits, `subscribers` those that receive it."""

    channel: Channel
    publisher: HostName
    label: Spelling
    subscribers: Number


@dataclass(frozen=True, slots=True)
class Overview:
    """The directory: shape, hosts, channels and the latest report of each subscription."""

    shape: Spelling
    hosts: Annotated[tuple[HostRecord, ...], Meta(max_length=LISTED_MAX)]
    channels: Annotated[tuple[ChannelView, ...], Meta(max_length=LISTED_MAX)]
    subscriptions: Annotated[tuple[SubscriptionRecord, ...], Meta(max_length=LISTED_MAX)]


@dataclass(frozen=True, slots=True)
class Problem:
    """Body of every error: one line for the user, and for an unknown channel the channels that are announced."""

    detail: Text
    known: Annotated[tuple[Channel, ...], Meta(max_length=LISTED_MAX)] = ()
