"""The settings of one host."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cubecast.engine.protocol.ranges import NUMBER_MAX
from cubecast.engine.protocol.records import FAN_OUT_DEFAULT
from cubecast.overlay.routing import Policy
from cubecast.types import ChannelName, HostId


@dataclass(frozen=True, slots=True)
class HostConfig:
    """The settings of one host.

    Attributes:
        name: unique in the overlay.
        supernode: URL of the super-node.
        token: join token, issued by the super-node.
        listen: HOST:PORT of the data plane, UDP; with port 0 the system chooses a free one.
        advertise: HOST:PORT that peers dial; empty derives it from `listen`.
        source: HOST that outgoing sessions come from; empty leaves the choice to the system.
        label: requested seat in the cube, digits; empty accepts any.
        fan_out: maximum number of copies that this host sends, over all channels.
        uplink_bps: maximum rate of all copies together, bit/s.
        reserve: number of copies that are reserved for a channel, by channel.
        policy: how the next hop towards a publisher is chosen.
        seed: seed of the random policy.
        key: PEM file of the host's key, made if it does not exist; None for a key that ends with the process. A host's name
            belongs to its key: with the same one it comes back under its name at once.
        own_key: without the file, or while another process uses it, the host does not start; else it gets a key that ends
            with the process.
        trace: file to which the engine's events and effects are appended; None for no trace.
        process: maximum number of extensions that this host runs for others at a time; 0 for none.
    """

    name: HostId
    supernode: str
    token: str
    listen: str = "0.0.0.0:0"
    advertise: str = ""
    source: str = ""
    label: str = ""
    fan_out: int = FAN_OUT_DEFAULT
    uplink_bps: float = NUMBER_MAX
    reserve: Mapping[ChannelName, int] = field(default_factory=dict)
    policy: Policy = Policy.GREEDY
    seed: int = 0
    process: int = 0
    key: Path | None = None
    own_key: bool = False
    trace: Path | None = None
