"""Messages between hosts: msgspec structs.

A path to a channel over the cube is found, then taken, in four messages that travel hop by hop:

    subscriber --PathRequest--> ... --PathRequest--> a host that carries the channel
    subscriber <--PathOffer---- ... <--PathOffer---- with the delay from the publisher, link by link
    subscriber --Commit-------> ...                  the subscriber's bound is kept, so it accepts the offer
    subscriber <--Confirm------ ...                  the definitive delay; each hop pulls the media from the one before

A host that knows another one on the tree asks it directly: Attach, answered by Confirm. PathRefusal answers a request
that found nothing, Cancel withdraws a request or returns an offer, Release ends a confirmed branch from below and Ended
from above. `ask` is a number that the requester chose; answers repeat it.

On a confirmed branch PathUpdates go down and SubtreeContracts up: when they change, and with the heartbeats of the link,
so that a link at rest carries a frame every two seconds, however many channels it serves. A PathUpdate also goes down
at every tick without media, so that a pause of the publisher is not mistaken for the parent's death.

How they are encoded, and what a frame may hold, is in `frames`.
"""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from cubecast.engine.protocol.feasibility import FeasibilityDistance
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.ranges import (
    Channel,
    ChannelOrNone,
    Hops,
    HostName,
    HostNameOrNone,
    Number,
    Path,
    PathOrNone,
    Place,
    Signed,
    Text,
    Token,
)
from cubecast.engine.protocol.records import HostRecord, Tree
from cubecast.types import NOBODY

CARRIED_MAX = 64
"""Maximum number of channels in one heartbeat; a host that carries more announces them in turn."""
ROUTE_MAX = 8
"""Maximum number of hosts that a path request may prescribe; the directory's routes are shorter (RoutesConfig.hops_max)."""
RELATIVES_MAX = 16
"""Maximum number of hosts in one Relatives message; a child keeps links to fewer of them (TreeConfig.relative_links)."""
PAUSE_TICKS_MAX = 1_000_000
"""Longest usual pause of a channel that is accepted, ticks; hosts clip it at TreeConfig.idle_ticks."""


class _Struct(msgspec.Struct, frozen=True, tag_field="kind", array_like=False):
    pass


class Carried(msgspec.Struct, frozen=True):
    """A channel the sender carries, the path to it there, and how many more copies the sender can feed."""

    channel: Channel
    metrics: PathMetrics
    spare: Number = 0


class Hello(_Struct, frozen=True, tag="hello"):
    """First on every link: the sender's record, with the address where it is dialled."""

    record: HostRecord


class Heartbeat(_Struct, frozen=True, tag="heartbeat"):
    """The sender is alive and carries these channels.

    Heartbeats measure the link and the clocks as NTP's symmetric mode does (RFC 5905): each names the last one of the
    peer, so that none needs an answer of its own.

    Attributes:
        needs: the sender needs this link; one that neither end needs is closed.
        slow: the next one comes after the slow period: no stream depends on the link.
        sent_s: the sender's clock, s since the Unix epoch.
        echo_s: `sent_s` of the last heartbeat that came from the receiver; 0 if none has come.
        seen_s: the sender's clock when that one came.
    """

    carried: Annotated[tuple[Carried, ...], Meta(max_length=CARRIED_MAX)] = ()
    needs: bool = False
    slow: bool = False
    sent_s: Signed = 0.0
    echo_s: Signed = 0.0
    seen_s: Signed = 0.0


class Ping(_Struct, frozen=True, tag="ping"):
    """Asks for a sign of life and the peer's clock; `sent_s` is the sender's, s since the Unix epoch.

    Attributes:
        slower: the sender sees that the delay of the link has jumped; a child then watches its link to its parent.
    """

    sent_s: Signed
    slower: bool = False


class Pong(_Struct, frozen=True, tag="pong"):
    """The answer: the ping's time, and the answerer's clock when it saw it (as NTP, RFC 5905, with t2 = t3)."""

    sent_s: Signed
    seen_s: Signed


class PathRequest(_Struct, frozen=True, tag="path-request"):
    """Finds a path to the channel, towards the publisher's seat `target`, a label of the given epoch.

    Attributes:
        contract: what is left of the subscriber's at the receiver.
        tries: requests that this search may still send.
        trail: hosts that the request has passed, the subscriber first.
        feasibility: what the offered path must beat, so that no loop forms.
        onward: the hosts to ask, one after the other; empty where the receiver may choose.
        credential: the sender's, with the right to receive the channel, for itself or to carry it for others. The shell adds it
            when it sends the request, and checks it before the engine sees one.
    """

    ask: Number
    channel: Channel
    epoch: Number
    target: Place
    contract: Contract
    tries: Hops
    trail: PathOrNone
    feasibility: FeasibilityDistance = FeasibilityDistance()
    onward: Annotated[tuple[HostName, ...], Meta(max_length=ROUTE_MAX)] = ()
    credential: Token = ""


class Attach(_Struct, frozen=True, tag="attach"):
    """Asks a host that carries the channel to feed the sender.

    Attributes:
        contract: what must hold at the receiver for every host below the sender.
        trail: hosts that this is asked for, the subscriber first, the sender last.
        feasibility, credential: as in PathRequest.
    """

    ask: Number
    channel: Channel
    contract: Contract
    trail: Path
    feasibility: FeasibilityDistance = FeasibilityDistance()
    credential: Token = ""


class PathOffer(_Struct, frozen=True, tag="path-offer"):
    """The sender can feed the channel: path metrics from the publisher to the sender; `tries` the request has left."""

    ask: Number
    channel: Channel
    metrics: PathMetrics
    tries: Hops


class PathRefusal(_Struct, frozen=True, tag="path-refusal"):
    """No offer; `reason` is one line for the user. The channel is empty where the sender does not know the request."""

    ask: Number
    channel: ChannelOrNone
    reason: Text
    tries: Hops


class Cancel(_Struct, frozen=True, tag="cancel"):
    """The requester does not accept the offer, or no longer waits for one."""

    ask: Number


class Commit(_Struct, frozen=True, tag="commit"):
    """The requester accepts the offer made to this ask."""

    ask: Number


class Confirm(_Struct, frozen=True, tag="confirm"):
    """The receiver is a child now and may open a media session; path metrics from the publisher to the sender."""

    ask: Number
    channel: Channel
    metrics: PathMetrics


class PathUpdate(_Struct, frozen=True, tag="path-update"):
    """From parent to child: path metrics from the publisher to the parent.

    Attributes:
        epoch, target: the publisher's seat, a label of that epoch.
        flowing: media has arrived at the parent without a pause for a while.
        fed: the parent publishes, or has a parent itself; else it looks for one.
        tree: how parents are chosen; the publisher decides it.
        sent_s, echo_s, seen_s: as in Heartbeat, and of the child's last one.
        pause_ticks: how long the channel usually pauses between two frames.
    """

    channel: Channel
    metrics: PathMetrics
    epoch: Number
    target: Place
    flowing: bool
    fed: bool
    tree: Tree = Tree.HYBRID
    sent_s: Signed = 0.0
    echo_s: Signed = 0.0
    seen_s: Signed = 0.0
    pause_ticks: Annotated[int, Meta(ge=0, le=PAUSE_TICKS_MAX)] = 0


class SubtreeContract(_Struct, frozen=True, tag="subtree-contract"):
    """From child to parent: what must hold at the parent for the child and every host below it."""

    channel: Channel
    contract: Contract


class SeqnoRequest(_Struct, frozen=True, tag="seqno-request"):
    """From child to parent, up to the publisher: a newer sequence number is needed, so that a host may change parents."""

    channel: Channel


class Relatives(_Struct, frozen=True, tag="relatives"):
    """From parent to child: its grandparent, uncles and siblings; one with spare fan-out may replace the parent."""

    channel: Channel
    hosts: Annotated[tuple[HostRecord, ...], Meta(max_length=RELATIVES_MAX)]


class StandbyRequest(_Struct, frozen=True, tag="standby-request"):
    """Asks the receiver to be ready to feed the sender when its parent dies; repeated while that is wanted.

    Attributes:
        parent: the sender's; if it is a child of the receiver, its slot is free then.
        trail, credential: as in Attach.
        ready: the receiver has agreed already; it answers only if it no longer does.
        silent: nothing comes from the parent any more; the receiver asks it for a sign of life.
    """

    channel: Channel
    trail: Path
    parent: HostName
    ready: bool = False
    silent: bool = False
    credential: Token = ""


class StandbyStatus(_Struct, frozen=True, tag="standby-status"):
    """Whether the sender is the receiver's standby."""

    channel: Channel
    ready: bool


class Leaving(_Struct, frozen=True, tag="leaving"):
    """The sender is about to leave; it feeds its children for a while until they have other parents."""


class Release(_Struct, frozen=True, tag="release"):
    """The sender no longer receives the channel from the receiver.

    Attributes:
        slot_for: the host for which the freed slot is to be reserved, at the directory's advice; empty for none.
    """

    channel: Channel
    slot_for: HostNameOrNone = NOBODY


class Ended(_Struct, frozen=True, tag="ended"):
    """The channel has ended at the sender: `finished` by its publisher, or lost at `host` for `reason`."""

    channel: Channel
    finished: bool
    host: HostName
    reason: Text


class Goodbye(_Struct, frozen=True, tag="goodbye"):
    """The sender leaves the overlay."""


Message: TypeAlias = (
    Hello
    | Heartbeat
    | Ping
    | Pong
    | PathRequest
    | Attach
    | PathOffer
    | PathRefusal
    | Cancel
    | Commit
    | Confirm
    | PathUpdate
    | SubtreeContract
    | SeqnoRequest
    | Relatives
    | StandbyRequest
    | StandbyStatus
    | Leaving
    | Release
    | Ended
    | Goodbye
)
