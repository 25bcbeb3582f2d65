"""The directory's records: hosts, channels, placements, subscriptions.

Plain dataclasses, so that the super-node's OpenAPI description has them and a host can decode them without a web framework.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from cubecast.engine.protocol.ranges import (
    END,
    AddressOrNone,
    Amount,
    Channel,
    Hex32,
    Hex32OrNone,
    HostName,
    HostNameOrNone,
    Number,
    PathOrNone,
    Place,
    Share,
    Signature,
    Signed,
)
from cubecast.overlay.cube import LABELS_MAX
from cubecast.types import NOBODY, Label

FAN_OUT_DEFAULT = 8
"""Copies a host is willing to send by default, over all channels."""
FAN_OUT_MAX = 1024
"""Greatest fan-out a host may offer, copies."""
HOST_LABELS_MAX = 1 << 16
"""Maximum number of labels of one host that are accepted in a placement: those of a lost neighbour are shared out."""
NEIGHBOURS_MAX = 1 << 18
"""Maximum number of neighbours in a placement; a label in a cube 2^n has n."""
FanOut: TypeAlias = Annotated[int, Meta(ge=0, le=FAN_OUT_MAX)]
"""Copies."""


class Tree(StrEnum):
    """How hosts choose their parents for a channel.

    - cube: over the cube alone, as in the slides: the tree is the union of the routing policy's paths.
    - graft: over the cube, but a neighbour that already receives the channel is preferred where that shortens the delay.
    - hybrid: any host on the tree, as the directory proposes and the hosts measure; the cube is the fallback.
    """

    CUBE = "cube"
    GRAFT = "graft"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class HostRecord:
    """A host of the overlay.

    Attributes:
        address: where its data plane can be dialled, IP:PORT over UDP, one spelling for each endpoint; empty for a hidden host,
            whose address is not proved.
        fingerprint: SHA-256 of its certificate, hex; every link to it checks it.
        key: its Ed25519 public key, hex; the name belongs to the host that signs with it.
        seat: its own label in the cube.
        fan_out: copies it is willing to send, over all channels.
        reachable: whether it can be dialled; a hidden host, behind a NAT or firewall, can only dial.
        version: rises with every change; of two records of a host the newer one counts.
        signature: the super-node's, over all else, hex: hosts pass records on, and believe no others. Empty in the simulation.
    """

    host: HostName
    address: AddressOrNone
    fingerprint: Hex32
    key: Hex32
    seat: Place
    fan_out: FanOut = FAN_OUT_DEFAULT
    reachable: bool = True
    version: Number = 0
    signature: Signature = ""

    def signed_content(self) -> bytes:
        """What the signature is over."""
        return msgspec.msgpack.encode(
            (
                "cubecast:record",
                self.host,
                self.address,
                self.fingerprint,
                self.key,
                self.seat,
                self.fan_out,
                self.reachable,
                self.version,
            )
        )


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A label beside one of a host's own labels, and the host that carries it.

    Attributes:
        via: the reachable host that relays between the two when both are hidden; else None.
    """

    label: Place
    record: HostRecord
    via: HostRecord | None = None

    @property
    def first(self) -> HostRecord:
        """The host to link to: the neighbour itself, or the host that relays to it."""
        return self.via or self.record


@dataclass(frozen=True, slots=True)
class Placement:
    """A host's position in the cube; the directory pushes a new one whenever it changes.

    Attributes:
        version: rises with every change, and over restarts; hosts ignore an older one.
        epoch: rises with every change of shape; labels of different epochs cannot be compared.
        record: the host's own record, as others receive it.
        labels: every label the host carries, its seat among them.
        neighbours: one entry for every label beside these that another host carries.
    """

    version: Number
    epoch: Number
    radix: Annotated[int, Meta(ge=2, le=LABELS_MAX)]
    dimensions: Annotated[int, Meta(ge=1, le=32)]
    record: HostRecord
    labels: Annotated[tuple[Place, ...], Meta(min_length=1, max_length=HOST_LABELS_MAX)]
    neighbours: Annotated[tuple[Neighbour, ...], Meta(max_length=NEIGHBOURS_MAX)]

    def __post_init__(self) -> None:
        """Checks that the cube has the labels.

        Raises:
            ValueError: it does not, or has more than LABELS_MAX itself.
        """
        count = self.radix**self.dimensions
        if count > LABELS_MAX:
            raise ValueError(f"a cube of more than {LABELS_MAX} labels")
        if any(label >= count for label in (*self.labels, self.record.seat, *(each.label for each in self.neighbours))):
            raise ValueError("a label that the cube does not have")

    @property
    def seat(self) -> Label:
        """The host's own label."""
        return self.record.seat

    def says_the_same(self, other: "Placement") -> bool:
        """Whether two placements differ in their versions at most."""
        return (self.epoch, self.radix, self.dimensions, self.record, self.labels, self.neighbours) == (
            other.epoch,
            other.radix,
            other.dimensions,
            other.record,
            other.labels,
            other.neighbours,
        )


SubscriptionState: TypeAlias = Annotated[str, Meta(pattern=f"^(searching|receiving|refused|ended){END}")]


class Verdict(StrEnum):
    """The directory's answer to a host that asked for a seat nearer to a publisher."""

    MOVED = "moved"
    LATER = "later"
    """The host's delay to the publisher is measured first; ask again."""
    STAYS = "stays"


@dataclass(frozen=True, slots=True)
class ChannelRecord:
    """An announced channel.

    Attributes:
        seat: the publisher's, a label of the given epoch.
        key: the publisher's Ed25519 public key, hex: it signs what it sends.
        publication: which publication of the name this is; a later one has a higher number.
    """

    channel: Channel
    publisher: HostName
    seat: Place
    epoch: Number = 0
    tree: Tree = Tree.HYBRID
    key: Hex32OrNone = ""
    publication: Number = 0


@dataclass(frozen=True, slots=True)
class Advice:
    """Advice from the directory: a host that may be a better parent for a channel.

    Attributes:
        slot_for: the host for which the slot at the present parent is to be reserved; empty when the change helps this host.
    """

    channel: Channel
    parent: HostRecord
    slot_for: HostNameOrNone = NOBODY


@dataclass(frozen=True, slots=True)
class Route:
    """A path to a channel that a subscriber may ask for: a host to begin with, and the hosts from there to one that has it.

    Attributes:
        first: the host next to the subscriber.
        onward: the hosts after it, ending with one that carries the channel; empty when `first` does.
        expected_ms: the delay expected at `first`.
    """

    first: HostRecord
    onward: PathOrNone
    expected_ms: Amount


@dataclass(frozen=True, slots=True)
class Compliance:
    """Seconds of a stream in which its contract was kept, or violated in one or more terms.

    Attributes:
        late_s: seconds with more frames late or lost than the contract allows.
        lost_s: seconds with more frames lost than it allows.
        slow_s: seconds with less than its rate.
    """

    kept_s: Number = 0
    violated_s: Number = 0
    late_s: Number = 0
    lost_s: Number = 0
    slow_s: Number = 0


@dataclass(frozen=True, slots=True)
class SubscriptionRecord:
    """A host's report of one subscription: its contract, what it was promised, and how well that was kept.

    Attributes:
        state: one of `searching`, `receiving`, `refused`, `ended`.
        promised_ms: the promised delay; None where there is none yet.
        best_ms: the least bound that can be kept; None where that is not known.
        path: the hosts from the publisher to the subscriber; empty where it is not known.
        rate_bps, loss: the other terms of the contract; 0 and 1 allow any.
    """

    channel: Channel
    subscriber: HostName
    bound_ms: Signed
    state: SubscriptionState
    promised_ms: Amount | None = None
    best_ms: Amount | None = None
    path: PathOrNone = ()
    rate_bps: Amount = 0.0
    loss: Share = 1.0
    compliance: Compliance = Compliance()
