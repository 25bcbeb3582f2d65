"""What the directory knows and tells: hosts, channels, placements.

Plain dataclasses, so that the super-node's HTTP API can show them in its OpenAPI page and the host can decode them.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from cubecast.errors import UsageError
from cubecast.types import ChannelName, HostId, Label

FAN_OUT_DEFAULT = 8
FAN_OUT_MAX = 1024
NAME_MAX = 64
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_ADDRESS = re.compile(r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}")


class Tree(StrEnum):
    """How hosts choose their parents for a channel.

    - cube: over the cube alone, as in the slides: the union of the policy's paths.
    - graft: over the cube, but a neighbour that receives the channel already is preferred where the whole delay falls.
    - hybrid: among all hosts on the tree, as the directory proposes and the hosts measure; the cube is the fallback.
    """

    CUBE = "cube"
    GRAFT = "graft"
    HYBRID = "hybrid"


def check_name(what: str, name: str) -> None:
    """Host and channel names are letters, digits, dot, dash and underscore: they stand in URLs and file names.

    Raises:
        UsageError: some other character, empty, or too long.
    """
    if not name or len(name) > NAME_MAX or not set(name) <= _NAME or name.startswith("."):
        raise UsageError(
            f"{what} {name[:NAME_MAX]!r} is not allowed: use up to {NAME_MAX} letters, digits, dots, dashes, underscores"
        )


def check_address(address: str) -> None:
    """An address is HOST:PORT, an IPv6 host in brackets.

    Raises:
        UsageError: it is not of that form.
    """
    if not _ADDRESS.fullmatch(address) or not 0 < int(address.rpartition(":")[2]) < 65_536:
        raise UsageError(f"address {address[:100]!r} is not HOST:PORT, such as 203.0.113.5:4443 or [2001:db8::5]:4443")


@dataclass(frozen=True, slots=True)
class HostRecord:
    """A host of the overlay.

    Attributes:
        address: where its data plane is dialled, `HOST:PORT` over UDP.
        fingerprint: SHA-256 of its certificate, hex; every link pins it.
        key: its Ed25519 public key, hex; the name belongs to whoever signs with it.
        seat: its own label in the cube.
        fan_out: copies it is willing to send, over all channels.
        reachable: whether it can be dialled; behind a NAT or firewall it can dial only.
    """

    host: HostId
    address: str
    fingerprint: str
    key: str
    seat: Label
    fan_out: int = FAN_OUT_DEFAULT
    reachable: bool = True


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A label next to one of ours, and the host that carries it.

    Attributes:
        via: the reachable host that carries what goes between the two when neither can be dialled.
    """

    label: Label
    record: HostRecord
    via: HostRecord | None = None

    @property
    def first(self) -> HostRecord:
        """The host to have a link to: the neighbour itself, or who carries what goes between."""
        return self.via or self.record


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a host stands in the cube; the directory pushes a new one whenever it changes.

    Attributes:
        version: rises with every change; an older one is ignored.
        epoch: rises with every change of shape; labels of different epochs mean different seats.
        record: this host itself, as others are told of it.
        labels: every label this host carries, its seat among them.
        neighbours: one entry for every label next to ours that another host carries.
    """

    version: int
    epoch: int
    radix: int
    dimensions: int
    record: HostRecord
    labels: tuple[Label, ...]
    neighbours: tuple[Neighbour, ...]

    @property
    def seat(self) -> Label:
        """This host's own label."""
        return self.record.seat


class Verdict(StrEnum):
    """The directory's answer to a host that asked for a label nearer to a publisher."""

    MOVED = "moved"
    LATER = "later"
    """Delays are being measured first; ask again."""
    STAYS = "stays"


@dataclass(frozen=True, slots=True)
class ChannelRecord:
    """An announced channel and its publisher's place: its seat, a label of the given epoch."""

    channel: ChannelName
    publisher: HostId
    seat: Label
    epoch: int = 0
    tree: Tree = Tree.HYBRID


@dataclass(frozen=True, slots=True)
class Advice:
    """The directory thinks that a host would be a better parent for a channel."""

    channel: ChannelName
    parent: HostRecord


@dataclass(frozen=True, slots=True)
class Compliance:
    """How a contract has fared, in seconds of the stream: each was kept, or violated by one or more terms.

    Attributes:
        late_s: seconds with more frames late or lost than the contract allows.
        lost_s: seconds with more frames lost.
        slow_s: seconds with less than the rate.
    """

    kept_s: int = 0
    violated_s: int = 0
    late_s: int = 0
    lost_s: int = 0
    slow_s: int = 0


@dataclass(frozen=True, slots=True)
class SubscriptionRecord:
    """One line of the ledger a host reports: what a subscriber asked for, what it was promised, and how that was kept.

    Attributes:
        state: one of `searching`, `receiving`, `refused`, `ended`.
        rate_bps, loss: the other terms of its contract; 0 and 1 stand for any.
        best_ms: the least bound that can be kept; None where that is not known.
    """

    channel: ChannelName
    subscriber: HostId
    bound_ms: float
    state: str
    promised_ms: float | None = None
    best_ms: float | None = None
    path: tuple[HostId, ...] = ()
    rate_bps: float = 0.0
    loss: float = 1.0
    compliance: Compliance = Compliance()
