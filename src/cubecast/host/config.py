"""How a host runs."""

from dataclasses import dataclass

from cubecast.engine.records import FAN_OUT_DEFAULT
from cubecast.overlay.routing import Policy
from cubecast.types import HostId


@dataclass(frozen=True, slots=True)
class HostConfig:
    """How a host runs.

    Attributes:
        listen: HOST:PORT of the data plane, UDP; port 0 takes a free one.
        advertise: HOST:PORT peers dial; empty works it out from `listen`.
        source: HOST that outgoing sessions come from; empty leaves it to the system.
        label: wished seat, digits; empty takes any.
    """

    name: HostId
    supernode: str
    token: str
    listen: str = "0.0.0.0:0"
    advertise: str = ""
    source: str = ""
    label: str = ""
    fan_out: int = FAN_OUT_DEFAULT
    policy: Policy = Policy.GREEDY
    seed: int = 0
