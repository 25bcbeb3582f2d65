"""MoQ sessions between hosts: dialling, statistics, and the callbacks of their owner."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import moq

from cubecast.engine.protocol.records import HostRecord
from cubecast.texts import one_line
from cubecast.types import ChannelName, HostId

DIAL_S = 3.0
"""Time limit for opening a session, s: some ten round trips across the world, and the time-outs of a lost packet."""
UNAUTHORIZED = 401
"""Code of a rejection, as HTTP's: the host token is not accepted."""
FORBIDDEN = 403
"""Code of a rejection, as HTTP's: the host is not a child for the channel."""
NOT_FOUND = 404
"""Code of a rejection, as HTTP's: the channel, bridge or awaited session does not exist here."""
BUSY = 503
"""Code of a rejection, as HTTP's: too many sessions are open."""
REJECTED = 64
"""Offset that moq adds to the code of a rejection on the wire."""


class Hooks(Protocol):
    """Callbacks of the data plane, always on the event loop."""

    def link_up(self, host: HostId) -> None:
        """Messages flow both ways."""

    def link_down(self, host: HostId, reason: str) -> None:
        """The link closed, or could not be opened."""

    def message(self, host: HostId, payload: bytes) -> None:
        """A frame of the control track arrived.

        Raises:
            MessageError: it is malformed; nothing was done.
        """

    def may_pull(self, channel: ChannelName, host: HostId, key: str) -> bool:
        """Whether the host with this public key, hex, is a child for this channel, or this host is its standby."""

    def pulled(self, channel: ChannelName, host: HostId) -> None:
        """A session to a parent is open and its route announced: the channel's other sessions may close."""

    def pull_failed(self, channel: ChannelName, host: HostId, reason: str) -> None:
        """A session to a parent or standby closed, or could not be opened."""

    def prepared(self, channel: ChannelName, host: HostId) -> None:
        """A standby session is open: changing to that host as parent will be fast."""


@dataclass(frozen=True, slots=True)
class SessionStats:
    """Counters of one session since it opened; rtt_ms is None while unknown."""

    rtt_ms: float | None
    packets_lost: int
    packets_sent: int
    bytes_received: int
    bytes_sent: int
    send_bps: float | None = None
    """Rate that congestion control allows now; None while unknown."""


Dialler = Callable[[HostRecord, str, moq.OriginProducer, moq.OriginProducer], moq.Client]
"""Makes a client to a host for a path; it publishes the first origin and subscribes into the second."""


def dialler(token: Callable[[HostRecord], str], source: str) -> Dialler:
    """A dialler whose sessions carry a token made for the peer and pin the peer's certificate.

    Sessions are MoQ over plain QUIC. WebTransport takes two more round trips to open, and closing a session to a dead
    peer waits for three timeouts, in which the media stays on the dead route (docs/decisions/0010).

    Args:
        token: makes the token for a session with a peer.
        source: HOST:0 that sessions come from; empty leaves it to the system.
    """

    def dial(record: HostRecord, path: str, publish: moq.OriginProducer, subscribe: moq.OriginProducer) -> moq.Client:
        return moq.Client(
            f"moql://{record.address}/{path}?token={token(record)}",
            tls_fingerprints=[record.fingerprint],
            bind=source or None,
            websocket_enabled=False,
            reconnect=False,
            publish=publish,
            subscribe=subscribe,
        )

    return dial


def stats_of(session: moq.Session) -> SessionStats:
    """A session's statistics."""
    stats = session.stats()
    return SessionStats(
        None if stats.rtt_us is None else stats.rtt_us / 1000,
        stats.packets_lost or 0,
        stats.packets_sent or 0,
        stats.bytes_received or 0,
        stats.bytes_sent or 0,
        stats.estimated_send_rate_bps,
    )


def reason_of(error: BaseException | None) -> str:
    """The reason why a session closed, as a short phrase for the user."""
    if error is None:
        return "closed"
    if moq.is_auth(error):
        return "the token was refused"
    protocol = moq.protocol_error(error)
    if protocol is not None:
        return "it does not carry the channel" if protocol.code == REJECTED + NOT_FOUND else "it closed the session"
    text = str(error)
    known = next((each for each in ("fingerprint mismatch", "timed out") if each in text), "")
    return known or ("closed" if moq.is_shutdown(error) else one_line(text.strip("'\"")[:120]))
