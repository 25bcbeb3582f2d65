"""What an attack is given, and what comes of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cubecast.types import ChannelName, HostId


@dataclass(frozen=True, slots=True)
class Target:
    """The overlay that is attacked, and the means to do it.

    Attributes:
        token: a join token that grants everything, as of a host that turns malicious.
        poor_token: a join token that allows to join and no channel at all.
        victim: the publisher of `channel`, which streams.
        listen: HOST:PORT for the attacker's data plane.
        advertise: HOST:PORT under which others dial it.
        source: HOST that its sessions come from.
        seconds: how long an attack that lasts goes on, s.
    """

    supernode: str
    token: str
    poor_token: str
    channel: ChannelName
    victim: HostId
    listen: str
    advertise: str
    source: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether an attack got what it is after, and what happened, in one line."""

    succeeded: bool
    detail: str


Attack = Callable[[Target], Awaitable[Outcome]]
