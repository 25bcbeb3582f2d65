"""Dial-back: finds out whether a host can be dialled at its address, or is behind a NAT or firewall.

A host never sends datagrams to the super-node, so no NAT has a mapping that would admit the dial-back by chance. The datagram
is a QUIC packet of a version that does not exist; any QUIC endpoint answers with the versions it supports (RFC 9000,
section 6).
"""

import asyncio
import secrets

from cubecast.errors import AddressError

TRIES = 3
"""Number of datagrams sent before a host counts as hidden: one may be lost."""
WAIT_S = 0.3
"""Longest wait for the answer to one datagram, s: a round trip between any two continents."""
DATAGRAM_BYTES = 1200
"""Size of the datagram, bytes; an endpoint may ignore a smaller first one (RFC 9000, section 14.1)."""
RESERVED_VERSION = bytes.fromhex("1a2a3a4a")
"""Versions of the form 0x?a?a?a?a are reserved to provoke version negotiation (RFC 9000, section 15)."""
LONG_HEADER = 0xC0
"""First byte of a packet with a long header (RFC 9000, section 17.2)."""
ID_BYTES = 8
"""Length of each connection ID, bytes."""


class _DialBack(asyncio.DatagramProtocol):
    def __init__(self, packet: bytes, own_id: bytes) -> None:
        self.answered = asyncio.Event()
        self._packet = packet
        self._own_id = own_id

    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:  # noqa: ARG002  asyncio's signature
        negotiates = len(data) > 6 and data[0] & 0x80 and data[1:5] == bytes(4)
        if negotiates and data[6 : 6 + data[5]] == self._own_id:
            self.answered.set()


async def reachable(address: str) -> bool:
    """Whether a QUIC endpoint answers at HOST:PORT within about a second.

    Raises:
        AddressError: the name cannot be resolved.
    """
    name, _, port = address.rpartition(":")
    host_id, own_id = secrets.token_bytes(ID_BYTES), secrets.token_bytes(ID_BYTES)
    head = bytes([LONG_HEADER]) + RESERVED_VERSION + bytes([ID_BYTES]) + host_id + bytes([ID_BYTES]) + own_id
    packet = head.ljust(DATAGRAM_BYTES, b"\0")
    loop = asyncio.get_running_loop()
    try:
        transport, dial_back = await loop.create_datagram_endpoint(
            lambda: _DialBack(packet, own_id), remote_addr=(name.strip("[]"), int(port))
        )
    except (OSError, UnicodeError) as error:  # UnicodeError: no name has such a form
        reason = error.strerror if isinstance(error, OSError) else "it is no name of a host"
        raise AddressError(f"cannot dial back {address}: {reason}") from error
    try:
        for _ in range(TRIES):
            transport.sendto(packet)
            try:
                async with asyncio.timeout(WAIT_S):
                    await dial_back.answered.wait()
            except TimeoutError:
                continue
            return True
        return False
    finally:
        transport.close()
