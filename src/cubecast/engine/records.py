"""What the directory knows and tells: hosts, channels, placements.

Plain dataclasses, so that the super-node's HTTP API can show them in its OpenAPI page and the host can decode them.
"""

from dataclasses import dataclass

from cubecast.types import ChannelName, HostId, Label

FAN_OUT_DEFAULT = 8
FAN_OUT_MAX = 1024


@dataclass(frozen=True, slots=True)
class HostRecord:
    """A host of the overlay.

    Attributes:
        address: where its data plane is dialled, `HOST:PORT` over UDP.
        fingerprint: SHA-256 of its certificate, hex; every link pins it.
        seat: its own label in the cube.
        fan_out: copies it is willing to send, over all channels.
    """

    host: HostId
    address: str
    fingerprint: str
    seat: Label
    fan_out: int = FAN_OUT_DEFAULT


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A label next to one of ours, and the host that carries it."""

    label: Label
    record: HostRecord


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a host stands in the cube; the directory pushes a new one whenever it changes.

    Attributes:
        version: rises with every change; an older one is ignored.
        labels: every label this host carries, its seat among them.
        neighbours: one entry for every label next to ours that another host carries.
    """

    version: int
    radix: int
    dimensions: int
    seat: Label
    labels: tuple[Label, ...]
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class ChannelRecord:
    """An announced channel and its publisher's place."""

    channel: ChannelName
    publisher: HostId
    seat: Label


@dataclass(frozen=True, slots=True)
class SubscriptionRecord:
    """One line of the ledger a host reports: what a subscriber was promised.

    `state` is one of `searching`, `receiving`, `refused`, `ended`.
    """

    channel: ChannelName
    subscriber: HostId
    bound_ms: float
    state: str
    promised_ms: float | None = None
    best_ms: float | None = None
    path: tuple[Label, ...] = ()
