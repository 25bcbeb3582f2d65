"""How a host runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cubecast.engine.protocol.path import NUMBER_MAX
from cubecast.engine.protocol.records import FAN_OUT_DEFAULT
from cubecast.overlay.routing import Policy
from cubecast.types import ChannelName, HostId


@dataclass(frozen=True, slots=True)
class HostConfig:
    """How a host runs.

    Attributes:
        listen: HOST:PORT of the data plane, UDP; port 0 takes a free one.
        advertise: HOST:PORT peers dial; empty works it out from `listen`.
        source: HOST that outgoing sessions come from; empty leaves it to the system.
        label: wished seat, digits; empty takes any.
        uplink_bps: what all copies together may carry.
        reserve: copies kept for channels.
        process: extensions at a time this host is willing to run for others.
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
