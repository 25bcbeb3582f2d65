"""The state of one simulated host: its engine, and the state that a live host's shell has."""

import hashlib
from dataclasses import dataclass, field

from cubecast.engine.host import events as ev
from cubecast.engine.host.engine import HostEngine
from cubecast.engine.protocol.records import Tree
from cubecast.simulation.shells.jobs import HostJobs
from cubecast.simulation.shells.subscribers import LocalSubscribers, Outcome
from cubecast.types import ChannelName, HostId


@dataclass(slots=True)
class SimulatedHost:
    """One host."""

    host: HostId
    number: int
    index: int
    """Its row in the delay matrix."""
    fan_out: int
    engine: HostEngine
    subscribers: LocalSubscribers
    jobs: HostJobs
    alive: bool = True
    stalled: bool = False
    """As after SIGSTOP: it sends and receives nothing, and no tick passes."""
    sessions: dict[ChannelName, dict[HostId, bool]] = field(default_factory=dict)
    """Media sessions by channel and parent; whether they are open."""
    prepared: dict[tuple[ChannelName, HostId], bool] = field(default_factory=dict)
    """Open standbys; whether they have been asked to send."""
    bytes: dict[ChannelName, int] = field(default_factory=dict)
    """Media bytes received or published, by channel."""
    dialled: set[HostId] = field(default_factory=set)
    """Hosts to which a link is open."""
    packets: dict[HostId, tuple[int, int]] = field(default_factory=dict)
    """Packets lost and sent, by link."""
    suspects: set[HostId] = field(default_factory=set)
    """Silent neighbours to report with the next refresh."""
    changes: int = 0
    """Number of changes of parents."""
    outcomes: list[Outcome] = field(default_factory=list)
    """Every decision of the engine on a local subscription."""
    announced: dict[ChannelName, Tree] = field(default_factory=dict)
    """Channels it publishes; announced again when the super-node has lost them."""
    frozen: list[ev.Event] = field(default_factory=list)
    """Events that arrived while it was stalled."""
    connected_to: int = 0
    """The start of the super-node that pushes to it: 0, or the number of restarts before it."""


def key_of(host: HostId) -> str:
    """What stands for a host's public key, hex: nothing is signed with it."""
    return hashlib.sha256(host.encode()).hexdigest()


def address_of(number: int) -> str:
    """The address of a host, by its number."""
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:4443"
