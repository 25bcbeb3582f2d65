"""Connections to the super-node: how many there may be, and how long each may wait for its client.

uvicorn reads HTTP (with h11) and runs the API. It limits the pause between two requests, and headers that are not complete;
it has no deadline for headers, for bodies, or for a client that does not read, and above its `limit_concurrency` it refuses
every client alike. A Connection adds the deadlines to uvicorn's protocol, and Connections the limits on their number.
"""

import asyncio
import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

CONNECTIONS_MAX = 8192
"""Maximum number of open connections: two for each of 4096 hosts, its stream of pushes and its latest request."""
ADDRESS_SHARE = 2
"""One address may have one in this many of all connections: a share so great that many hosts can be behind one address."""
ACCEPTED_MAX = 128
"""Maximum number of connections accepted in one turn of the event loop, before the first of them is counted."""
QUEUE_MAX = 1024
"""Connections that the system keeps until they are accepted: so many take less time than the 2 s for which a host waits. What
does not fit is dropped, and its client tries again a second later or more."""
DESCRIPTORS_RESERVED = 384
"""File descriptors that connections leave free: ACCEPTED_MAX, twice DIAL_BACKS_MAX, and 128 for the store, the trace and
what the interpreter opens."""
HEADER_BYTES_MAX = 16 * 1024
"""Maximum size of a request line and its headers, bytes; a token, the longest header, has about 1000."""
SWEEP_S = 0.5
"""Deadlines are checked once in this time, s: short against all of them."""
HANDSHAKE_S = 5.0
"""Time for the handshake of TLS, from the connection's start, s: two round trips, some of whose packets are sent again."""
HEADERS_S = 5.0
"""Time to send a request's headers, from the connection's start or their first byte, s: they fit into a few packets, and a
host gives up a request after as long."""
BODY_S = 10.0
"""Time to send a body, s, besides what RATE_BPS_MIN allows for its size: several retransmissions of a lost packet."""
UNREAD_S = 10.0
"""Time to read what was sent, s, besides what RATE_BPS_MIN allows for its size. A host takes a stream of pushes for broken
after 6 s."""
RATE_BPS_MIN = 256_000
"""Rate at which the slowest link delivers a large body or answer, bit/s; a module of 1 MiB takes 33 s then."""
IDLE_S = 10.0
"""Time between two requests on one connection, s: longer than the 5 s for which a host keeps a connection to use it again,
so that the super-node does not close it just then."""
IPV6_SITE_BITS = 64
"""Prefix of an IPv6 address that counts as one address, bits: one customer or machine has a whole /64 (RFC 6177)."""


class Waits(Enum):
    """What a connection waits for."""

    HANDSHAKE = auto()
    """TLS is not up yet; plain HTTP has no such stage."""
    HEADERS = auto()
    BODY = auto()
    ANSWER = auto()
    """The super-node has the request and has not answered it completely; a stream of pushes stays here."""
    REQUEST = auto()
    """Nothing is under way: the client may send another request."""


_ALLOWED_S = {
    Waits.HANDSHAKE: HANDSHAKE_S,
    Waits.HEADERS: HEADERS_S,
    Waits.BODY: BODY_S,
    Waits.ANSWER: math.inf,
    Waits.REQUEST: IDLE_S,
}


class Connection(H11Protocol):
    """One connection, which is cut when its client lets a deadline pass. The API finds it as `request.state.connection`."""

    table: ClassVar["Connections"]

    def reached(self, transport: asyncio.Transport) -> None:
        """A client has opened a TCP connection: counts it, which may have another one cut. TLS calls it, or connection_made."""
        self._tcp = transport
        self._stops = False
        self._wait(Waits.HANDSHAKE, None)
        self._read_by_s = math.inf
        peer = transport.get_extra_info("peername")
        self.address = site(str(peer[0]) if peer else "")
        transport.set_write_buffer_limits(high=0)  # of TCP, also below TLS: `unread` then hears of every byte
        self.table.add(self)

    def gone(self) -> None:
        """Stops counting the connection."""
        self.table.remove(self)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """HTTP begins, over TLS or not."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "connection": self}
        if self.encrypted:
            transport.set_write_buffer_limits(high=1)  # the least: TLS pauses from so many bytes on, TCP above as many
        else:
            self.reached(transport)
        self._wait(Waits.HEADERS, None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops counting the connection."""
        self.gone()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Ends the connection when the super-node stops: at once, or after the answer that is under way."""
        self._stops = True
        super().shutdown()
        self._close_tcp()

    def data_received(self, data: bytes) -> None:
        """Passes bytes to the parser, unless they make the headers too large; h11 checks only those that are incomplete."""
        if self.conn.their_state is h11.IDLE:
            before = self.conn.trailing_data[0]
            if len(before) + len(data) > HEADER_BYTES_MAX:
                start = before + data
                end = start.find(b"\r\n\r\n")
                if not 0 <= end <= HEADER_BYTES_MAX:
                    self.send_400_response(f"The headers have more than {HEADER_BYTES_MAX} bytes.")
                    return
        elif self.waits is Waits.BODY:
            self._deadline_s += len(data) * 8 / RATE_BPS_MIN
        super().data_received(data)

    def handle_events(self) -> None:
        """Handles what was parsed, and sets the deadline of what comes next."""
        super().handle_events()
        self._look()

    def on_response_complete(self) -> None:
        """Sets the deadline of the next request."""
        super().on_response_complete()
        self._look()
        if self._stops:
            self._close_tcp()

    def pause_writing(self) -> None:
        """What was written waits in this process; below TLS, Handshake knows how much."""
        if not self.encrypted:
            self.unread()
        super().pause_writing()

    def resume_writing(self) -> None:
        """What was written has left this process."""
        if not self.encrypted:
            self.read()
        super().resume_writing()

    def unread(self) -> None:
        """The client has not read everything yet: begins the time that it has for that."""
        unread_bytes = self._tcp.get_write_buffer_size()
        self._read_by_s = self.table.now_s + UNREAD_S + unread_bytes * 8 / RATE_BPS_MIN

    def read(self) -> None:
        """The client has read everything, or the system keeps it."""
        self._read_by_s = math.inf

    def send_400_response(self, msg: str) -> None:
        """Refuses malformed HTTP; where an answer has begun, no other can be sent, and the connection is cut."""
        begun = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if begun or self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.cut()
        else:
            super().send_400_response(msg)

    @property
    def encrypted(self) -> bool:
        """Whether HTTP runs over TLS."""
        return self.scheme == "https"

    @property
    def waits(self) -> Waits:
        """What the connection waits for."""
        return self._stage[0]

    @property
    def overdue(self) -> bool:
        """Whether its client has let a deadline pass."""
        return self.table.now_s > min(self._deadline_s, self._read_by_s)

    def authenticated(self) -> None:
        """Keeps the connection when connections are short: its client has sent a valid token."""
        self.table.keep(self)

    def cut(self) -> None:
        """Ends the connection at once, with what was not sent yet."""
        self._tcp.abort()

    def _close_tcp(self) -> None:
        """Does not wait for the client to answer the end of TLS, which an idle one does not do."""
        if self.transport.is_closing():
            self._tcp.close()

    def _look(self) -> None:
        match self.conn.their_state:
            case h11.IDLE:
                waits = Waits.HEADERS if self.conn.trailing_data[0] else Waits.REQUEST
            case h11.SEND_BODY:
                waits = Waits.BODY
            case _:
                waits = Waits.ANSWER
        if self._stage != (waits, self.cycle):
            self._wait(waits, self.cycle)

    def _wait(self, waits: Waits, cycle: RequestResponseCycle | None) -> None:
        self._stage = (waits, cycle)
        self._deadline_s = self.table.now_s + _ALLOWED_S[waits]


@dataclass(slots=True)
class _Group:
    """The open connections of all addresses, or of one; the oldest first."""

    connections_max: int
    unknown: OrderedDict[Connection, None] = field(default_factory=OrderedDict)
    """Those whose client has not sent a valid token."""
    kept: OrderedDict[Connection, None] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self.unknown) + len(self.kept)

    def least(self) -> Connection | None:
        """The connection to cut for another one; None where all are in use by clients with a valid token."""
        if self.unknown:
            return next(iter(self.unknown))
        return next((connection for connection in self.kept if connection.waits is Waits.REQUEST), None)


class Connections:
    """The open connections. Where they are short, those without a valid token are cut first, the oldest of them first."""

    def __init__(self, connections_max: int = CONNECTIONS_MAX) -> None:
        self.now_s = 0.0
        """Time that this process has run, s: while it is stalled, clients are not late."""
        self.cut = 0
        """Number of connections that were cut for others, or refused, since the start."""
        self._all = _Group(connections_max)
        self._by_address: dict[str, _Group] = {}

    def protocol(self) -> type[Connection]:
        """The protocol class for uvicorn, which makes one object of it for each connection."""

        class Counted(Connection):
            table = self

        return Counted

    @property
    def connections_max(self) -> int:
        """Maximum number of connections."""
        return self._all.connections_max

    @property
    def kept(self) -> int:
        """Number of connections whose client has sent a valid token."""
        return len(self._all.kept)

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: Connection) -> None:
        """Counts a new connection; cuts another one for it where there are too many, or else the new one."""
        address_max = max(1, self.connections_max // ADDRESS_SHARE)
        for group in (self._by_address.get(connection.address), self._all):
            if group is None or len(group) < group.connections_max:
                continue
            self.cut += 1
            least = group.least()
            if least is None:
                connection.cut()
                return
            self.remove(least)
            least.cut()
        self._all.unknown[connection] = None
        self._by_address.setdefault(connection.address, _Group(address_max)).unknown[connection] = None

    def keep(self, connection: Connection) -> None:
        """Records that the client of an open connection has sent a valid token."""
        if connection in self._all.unknown:
            for group in (self._all, self._by_address[connection.address]):
                del group.unknown[connection]
                group.kept[connection] = None

    def remove(self, connection: Connection) -> None:
        """Stops counting a connection; nothing happens where it is not counted."""
        if connection not in self._all.unknown and connection not in self._all.kept:
            return
        own = self._by_address[connection.address]
        for group in (self._all, own):
            group.unknown.pop(connection, None)
            group.kept.pop(connection, None)
        if not own:
            del self._by_address[connection.address]

    def cut_all(self) -> None:
        """Cuts every connection: the super-node has stopped."""
        for connection in [*self._all.unknown, *self._all.kept]:
            connection.cut()

    async def enforce(self) -> None:
        """Cuts connections whose client is late, until it is cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep()

    def sweep(self) -> None:
        """Advances the time by SWEEP_S, and cuts the connections whose client is late."""
        self.now_s += SWEEP_S
        for connection in [*self._all.unknown, *self._all.kept]:
            if connection.overdue:
                connection.cut()


def connections_for(descriptors: int) -> int:
    """The maximum number of connections of a process that may have so many file descriptors."""
    return min(CONNECTIONS_MAX, max(descriptors - DESCRIPTORS_RESERVED, descriptors // 2))


def site(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip.packed, IPV6_SITE_BITS), strict=False))
    return str(ip)
