"""Dial-back: whether a host can be dialled where it says, or sits behind a NAT or firewall that lets nobody in.

A host never sends datagrams to the super-node, so no mapping of a NAT lets this one in by chance. What is sent is a QUIC
packet of a version that does not exist; any QUIC endpoint answers with the versions it speaks (RFC 9000, section 6).
Source of the version: RFC 9000, section 15: 0x?a?a?a?a is reserved to exercise this.
"""

import asyncio
import secrets

from cubecast.errors import AddressError

TRIES, WAIT_S = 3, 0.3
DATAGRAM_BYTES = 1200
RESERVED_VERSION = bytes.fromhex("1a2a3a4a")
LONG_HEADER, ID_BYTES = 0xC0, 8


class _Knock(asyncio.DatagramProtocol):
    def __init__(self, packet: bytes, ours: bytes) -> None:
        self.answered = asyncio.Event()
        self._packet = packet
        self._ours = ours

    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:  # noqa: ARG002  asyncio's signature
        negotiates = len(data) > 6 and data[0] & 0x80 and data[1:5] == bytes(4)
        if negotiates and data[6 : 6 + data[5]] == self._ours:
            self.answered.set()


async def reachable(address: str) -> bool:
    """Whether a QUIC endpoint answers at HOST:PORT within about a second.

    Raises:
        AddressError: the name cannot be resolved.
    """
    name, _, port = address.rpartition(":")
    theirs, ours = secrets.token_bytes(ID_BYTES), secrets.token_bytes(ID_BYTES)
    head = bytes([LONG_HEADER]) + RESERVED_VERSION + bytes([ID_BYTES]) + theirs + bytes([ID_BYTES]) + ours
    packet = head.ljust(DATAGRAM_BYTES, b"\0")
    loop = asyncio.get_running_loop()
    try:
        transport, knock = await loop.create_datagram_endpoint(
            lambda: _Knock(packet, ours), remote_addr=(name.strip("[]"), int(port))
        )
    except OSError as error:
        raise AddressError(f"cannot dial back {address}: {error.strerror}") from error
    try:
        for _ in range(TRIES):
            transport.sendto(packet)
            try:
                async with asyncio.timeout(WAIT_S):
                    await knock.answered.wait()
            except TimeoutError:
                continue
            return True
        return False
    finally:
        transport.close()
