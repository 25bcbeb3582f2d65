"""Messages between hosts: versioned msgspec structs, one per frame on the link's control track.

A path to a channel over the cube is found, then taken, in four messages that travel hop by hop:

    subscriber --PathRequest--> ... --PathRequest--> a host that carries the channel
    subscriber <--PathOffer---- ... <--PathOffer---- with the delay from the publisher, link by link
    subscriber --Commit-------> ...                  the subscriber's bound is kept, so it accepts the offer
    subscriber <--Confirm------ ...                  the definitive delay; each hop pulls the media from the one before

A host that knows another one on the tree asks it directly: Attach, answered by Confirm. PathRefusal answers a request
that found nothing, Cancel withdraws a request or returns an offer, Release ends a confirmed branch from below and Ended
from above. `ask` is a number that the asker chose; answers repeat it.

On a confirmed branch a PathUpdate goes down every second tick, and a SubtreeContract goes up every few. Unknown fields
are ignored; unknown kinds raise MessageError, and the receiver drops the message.
"""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from cubecast.engine.protocol.feasibility import FeasibilityDistance
from cubecast.engine.protocol.path import NUMBER_MAX, Contract, PathMetrics
from cubecast.engine.protocol.records import HostRecord, Tree
from cubecast.errors import MessageError
from cubecast.types import ChannelName, HostId, Label

VERSION = 5
"""Version of this protocol; hosts of different versions refuse each other's messages."""
MESSAGE_BYTES_MAX = 64 * 1024
"""Maximum length of an accepted message, bytes; a heartbeat with CARRIED_MAX channels over 8 hops has 17 000."""
HOPS_MAX = 256
"""Maximum number of hosts in an accepted path or trail; the diameters of live cubes are far below."""
CARRIED_MAX = 64
"""Maximum number of channels in one heartbeat; a host that carries more announces them in turn."""
ROUTE_MAX = 8
"""Maximum number of hosts that a path request may prescribe; the directory's routes are shorter (RoutesConfig.hops_max)."""
RELATIVES_MAX = 16
"""Maximum number of hosts in one Relatives message; a child keeps links to fewer of them (TreeConfig.relative_links)."""
SEQNO_MAX = 1 << 53
"""Largest sequence number: they are milliseconds since the Unix epoch, and floats hold them exactly up to here."""


class _Struct(msgspec.Struct, frozen=True, tag_field="kind", array_like=False):
    pass


class Carried(msgspec.Struct, frozen=True):
    """A channel the sender carries, the path to it there, and how many more copies the sender can feed."""

    channel: ChannelName
    metrics: PathMetrics
    spare: int = 0


class Hello(_Struct, frozen=True, tag="hello"):
    """First on every link: the sender's record, with the address where it is dialled."""

    record: HostRecord


class Heartbeat(_Struct, frozen=True, tag="beat"):
    """The sender is alive and carries these channels. Answered by Pong if it asks for the clock.

    Attributes:
        needs: the sender needs this link; one that neither end needs is closed.
        slow: the next one comes after the slow period: no stream depends on the link.
        sent_s: as in Ping; 0 asks for nothing.
    """

    carried: tuple[Carried, ...] = ()
    needs: bool = False
    slow: bool = False
    sent_s: float = 0.0


class Ping(_Struct, frozen=True, tag="ping"):
    """Asks for the peer's clock; `sent_s` is the sender's, s since the Unix epoch."""

    sent_s: float


class Pong(_Struct, frozen=True, tag="pong"):
    """The answer: the ping's time, and the answerer's clock when it saw it (as NTP, RFC 5905, with t2 = t3)."""

    sent_s: float
    seen_s: float


class PathRequest(_Struct, frozen=True, tag="path-request"):
    """Finds a path to the channel, towards the publisher's seat `target`, a label of the given epoch.

    Attributes:
        contract: what is left of the subscriber's at the receiver.
        tries: requests that this search may still send.
        trail: hosts that the request has passed, the subscriber first.
        grant: the subscriber's permission for this channel; the shell checks it before the engine sees the request.
        feasibility: what the offered path must beat, so that no loop forms.
        onward: the hosts to ask, one after the other; empty where the receiver may choose.
    """

    ask: int
    channel: ChannelName
    epoch: int
    target: Label
    contract: Contract
    tries: int
    trail: tuple[HostId, ...]
    grant: str
    feasibility: FeasibilityDistance = FeasibilityDistance()
    onward: Annotated[tuple[HostId, ...], Meta(max_length=ROUTE_MAX)] = ()


class Attach(_Struct, frozen=True, tag="attach"):
    """Asks a host that carries the channel to feed the sender.

    Attributes:
        contract: what must hold at the receiver for every host below the sender.
        trail: hosts that this is asked for, the subscriber first, the sender last.
        grant: that subscriber's permission.
        feasibility: as in PathRequest.
    """

    ask: int
    channel: ChannelName
    contract: Contract
    trail: tuple[HostId, ...]
    grant: str
    feasibility: FeasibilityDistance = FeasibilityDistance()


class PathOffer(_Struct, frozen=True, tag="path-offer"):
    """The sender can feed the channel: path metrics from the publisher to the sender; `tries` the request has left."""

    ask: int
    channel: ChannelName
    metrics: PathMetrics
    tries: int


class PathRefusal(_Struct, frozen=True, tag="path-refusal"):
    """No offer; `reason` is one line for the user."""

    ask: int
    channel: ChannelName
    reason: str
    tries: int


class Cancel(_Struct, frozen=True, tag="cancel"):
    """The asker does not accept the offer, or no longer waits for one."""

    ask: int


class Commit(_Struct, frozen=True, tag="commit"):
    """The asker accepts the offer made to this ask."""

    ask: int


class Confirm(_Struct, frozen=True, tag="confirm"):
    """The receiver is a child now and may open a media session; path metrics from the publisher to the sender."""

    ask: int
    channel: ChannelName
    metrics: PathMetrics


class PathUpdate(_Struct, frozen=True, tag="pulse"):
    """From parent to child, every second tick: path metrics from the publisher to the parent.

    Attributes:
        epoch, target: the publisher's seat, a label of that epoch.
        flowing: media has arrived at the parent without a pause for a while.
        fed: the parent publishes, or has a parent itself; else it looks for one.
        tree: how parents are chosen; the publisher decides it.
    """

    channel: ChannelName
    metrics: PathMetrics
    epoch: int
    target: Label
    flowing: bool
    fed: bool
    tree: Tree = Tree.HYBRID


class SubtreeContract(_Struct, frozen=True, tag="need"):
    """From child to parent: what must hold at the parent for the child and every host below it."""

    channel: ChannelName
    contract: Contract


class Relatives(_Struct, frozen=True, tag="kin"):
    """From parent to child: its grandparent, uncles and siblings; one with a copy left may replace the parent."""

    channel: ChannelName
    hosts: tuple[HostRecord, ...]


class StandbyRequest(_Struct, frozen=True, tag="stand-by"):
    """Asks the receiver to be ready to feed the sender when its parent dies; repeated while that is wanted.

    Attributes:
        parent: the sender's; if it is a child of the receiver, its slot is free then.
        trail, grant: as in Attach.
    """

    channel: ChannelName
    trail: tuple[HostId, ...]
    grant: str
    parent: HostId


class StandbyStatus(_Struct, frozen=True, tag="standing-by"):
    """Whether the sender is the receiver's standby."""

    channel: ChannelName
    ready: bool


class Leaving(_Struct, frozen=True, tag="leaving"):
    """The sender is about to leave; it feeds its children for a while until they have other parents."""


class Release(_Struct, frozen=True, tag="release"):
    """The sender no longer receives the channel from the receiver."""

    channel: ChannelName


class Ended(_Struct, frozen=True, tag="ended"):
    """The channel has ended at the sender: `finished` by its publisher, or lost at `host` for `reason`."""

    channel: ChannelName
    finished: bool
    host: HostId
    reason: str


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
    | Relatives
    | StandbyRequest
    | StandbyStatus
    | Leaving
    | Release
    | Ended
    | Goodbye
)


class _Envelope(msgspec.Struct, frozen=True):
    v: int
    m: Message


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Envelope)


def encode(message: Message) -> bytes:
    """One message as msgpack."""
    return _encoder.encode(_Envelope(VERSION, message))


def decode(payload: bytes) -> Message:
    """The message in a frame.

    Raises:
        MessageError: too long, not msgpack, another version, an unknown kind, or a field of the wrong type or range.
    """
    if len(payload) > MESSAGE_BYTES_MAX:
        raise MessageError(f"a message of {len(payload)} bytes; the limit is {MESSAGE_BYTES_MAX}")
    try:
        envelope = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MessageError(f"not a message of this protocol: {error}") from error
    if envelope.v != VERSION:
        raise MessageError(f"protocol version {envelope.v}; this host speaks {VERSION}")
    _check_ranges(envelope.m)
    return envelope.m


def _check_ranges(message: Message) -> None:
    numbers: tuple[float, ...] = ()
    paths: tuple[PathMetrics, ...] = ()
    match message:
        case Ping(sent_s):
            numbers = (sent_s,)
        case Pong(sent_s, seen_s):
            numbers = (sent_s, seen_s)
        case PathRequest():
            numbers = _terms(message.contract)
            if len(message.trail) > HOPS_MAX or not 0 <= message.tries <= HOPS_MAX:
                raise MessageError(f"a path request with a trail or a number of tries beyond {HOPS_MAX}")
        case StandbyRequest(trail=trail):
            if not 0 < len(trail) <= HOPS_MAX:
                raise MessageError("a request with an impossible trail")
        case Attach():
            numbers = _terms(message.contract)
            if not 0 < len(message.trail) <= HOPS_MAX:
                raise MessageError("a request with an impossible trail")
        case Heartbeat(sent_s=sent_s):
            numbers = (sent_s,)
            paths = tuple(each.metrics for each in message.carried)
            if len(paths) > CARRIED_MAX:
                raise MessageError("a heartbeat with too many channels")
        case Relatives():
            if len(message.hosts) > RELATIVES_MAX:
                raise MessageError("too many relatives")
        case SubtreeContract():
            numbers = _terms(message.contract)
        case PathOffer() | Confirm() | PathUpdate():
            paths = (message.metrics,)
        case _:
            pass
    for r in paths:
        numbers += (r.delay_ms, r.spread_ms, r.clock_offset_ms, r.clock_uncertainty_ms, r.rate_bps)
        if not 0 < len(r.path) <= HOPS_MAX or r.delay_ms < 0 or r.spread_ms < 0 or not 0 <= r.seqno <= SEQNO_MAX:
            raise MessageError("a channel with an impossible path or delay")
        if not 0 <= r.loss <= 1 or not r.rate_bps >= 0:
            raise MessageError("a channel with an impossible loss or rate")
    if not all(abs(n) <= NUMBER_MAX for n in numbers):
        raise MessageError("a number out of range")


def _terms(contract: Contract) -> tuple[float, ...]:
    return contract.bound_ms, contract.rate_bps, contract.loss
