"""Snapshots of a HostEngine for status lines, metrics and tests."""

from dataclasses import dataclass

from cubecast.engine.protocol.path import Contract
from cubecast.types import ChannelName, HostId, Label


@dataclass(frozen=True, slots=True)
class LinkView:
    """One link; one_way_ms is None before the first sample."""

    host: HostId
    up: bool
    one_way_ms: float | None
    rttvar_ms: float
    loss: float


@dataclass(frozen=True, slots=True)
class BranchView:
    """One channel that a host carries; upstream, its parent, is None at the publisher."""

    channel: ChannelName
    upstream: HostId | None
    children: tuple[HostId, ...]
    delay_ms: float
    path: tuple[HostId, ...]
    """Hosts from the publisher to this one, both included."""
    contract: Contract | None
    """The local subscriber's; None without one."""


@dataclass(frozen=True, slots=True)
class ConsideredView:
    """A host that announced a channel, as a possible parent of this one."""

    host: HostId
    link_ms: float
    """One-way delay of the link to it."""
    least_bound_ms: float
    """The least bound that the path through it keeps here."""
    spare: int
    """Copies it announced it has left."""
    path: tuple[HostId, ...]
    """Hosts from the publisher to this one."""


@dataclass(frozen=True, slots=True)
class HostView:
    """One host."""

    host: HostId
    labels: tuple[Label, ...]
    neighbours: tuple[HostId, ...]
    links: tuple[LinkView, ...]
    branches: tuple[BranchView, ...]
