"""What the data plane reports, and what the super-node says about peers, as events of the engine."""

from collections import Counter
from collections.abc import Callable

from cubecast.engine.host import events as ev
from cubecast.engine.host.engine import HostEngine
from cubecast.engine.protocol import frames
from cubecast.engine.protocol.http_bodies import EndedRight
from cubecast.engine.protocol.messages import Goodbye, Release
from cubecast.errors import MessageError
from cubecast.host.media.dataplane import DataPlane
from cubecast.host.media.links import LEFT
from cubecast.host.peer_rights import PeerRights
from cubecast.types import NO_CHANNEL, ChannelName, HostId

UNREACHED_MAX = 1024
"""Maximum number of unreachable hosts whose failed dials are counted; it bounds memory."""
UNREACHED_REPORTED = 3
"""Number of failed dials in a row to a host after which the user is notified, once."""
UNDECODABLE = "undecodable"
"""Kind of a dropped frame: it is no frame of this protocol, or a field is out of range."""
UNPROVED = "unproved"
"""Kind of a dropped frame: a message names a host by a record that the super-node did not sign, or the sender by another's."""


class PlaneEvents:
    """The hooks of the data plane."""

    def __init__(
        self, engine: HostEngine, rights: PeerRights, handle: Callable[..., None], notify: Callable[[str], None]
    ) -> None:
        """Hooks of one host.

        Args:
            handle: passes events to the engine, and then sends what it decided.
            notify: shows the user one line.
        """
        self._engine = engine
        self._rights = rights
        self._handle = handle
        self._notify = notify
        self._unreached: dict[HostId, int] = {}
        self.malformed: Counter[str] = Counter()
        """Frames of messages that were dropped, by kind: UNDECODABLE or UNPROVED."""

    def link_up(self, host: HostId) -> None:
        """See Hooks."""
        self._unreached.pop(host, None)
        self._handle(ev.LinkUp(host))

    def link_down(self, host: HostId, reason: str) -> None:
        """See Hooks."""
        if reason != LEFT and len(self._unreached) < UNREACHED_MAX:
            self._unreached[host] = self._unreached.get(host, 0) + 1
            if self._unreached[host] == UNREACHED_REPORTED:
                self._notify(f"cannot reach neighbour {host}: {reason}; check that its UDP port is open; still trying")
        self._handle(ev.LinkDown(host, reason))

    def message(self, host: HostId, payload: bytes) -> None:
        """See Hooks."""
        kind = UNDECODABLE
        try:
            messages = frames.decode(payload)
            kind = UNPROVED
            events = [self._rights.received(host, message) for message in messages]
        except MessageError:
            self.malformed[kind] += 1
            raise
        self._handle(*events)

    @property
    def malformed_messages(self) -> int:
        """Frames of messages that were dropped, of every kind."""
        return self.malformed.total()

    def may_pull(self, channel: ChannelName, host: HostId, key: str) -> bool:
        """See Hooks."""
        return self._engine.may_pull(channel, host) and self._engine.key(host) in (None, key)

    def pulled(self, channel: ChannelName, host: HostId) -> None:
        """See Hooks."""
        self._handle(ev.Pulled(channel, host))

    def prepared(self, channel: ChannelName, host: HostId) -> None:
        """See Hooks."""
        self._handle(ev.Prepared(channel, host))

    def pull_failed(self, channel: ChannelName, host: HostId, reason: str) -> None:
        """See Hooks."""
        self._handle(ev.PullFailed(channel, host, reason))

    def right_ended(self, right: EndedRight, plane: DataPlane) -> None:
        """The super-node says that a host may no longer receive a channel, or take part: its sessions end."""
        if self._engine.key(right.host) != right.key:
            return  # no link to it, or the name is another host's since
        if right.channel == NO_CHANNEL:
            self._handle(ev.Received(right.host, Goodbye()))
            plane.expel(right.host)
        else:
            self._handle(ev.Received(right.host, Release(right.channel)))
            plane.channels.evict(right.channel, right.host)
