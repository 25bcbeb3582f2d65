"""Dial-back: finds out whether a host is at the address that it names, or cannot be dialled there.

An address is a hint, which may name a machine that has no part in this. So the first thing sent there is one datagram, a
QUIC packet of a version that does not exist: any QUIC endpoint answers with the versions it supports (RFC 9000, section 6),
and with the connection ID drawn for this packet, which shows that it received it. Only then follows a handshake, which is
pinned to the certificate of the join request, and in which the host confirms its key. A host never sends datagrams to the
super-node, so no NAT has a mapping that would admit either by chance.
"""

import asyncio
import secrets
from contextlib import suppress
from dataclasses import dataclass

import moq

from cubecast.engine.protocol.dial_back import DIAL_BACK_PATH

PROBE_S = 0.6
"""Longest wait for the answer to the datagram, s: twice a round trip between any two continents. It is sent once only."""
HANDSHAKE_S = 2.0
"""Longest time for the handshake and the host's rejection, s: QUIC sends lost packets of a handshake again after 1 s."""
FAILED_S = PROBE_S + HANDSHAKE_S
"""Time that a dial-back takes in any case in which it fails, s: the time must not show what else answers at an address."""
DATAGRAM_BYTES = 1200
"""Size of the datagram, bytes, the least one to which every QUIC endpoint answers (RFC 9000, section 14.1). The join request
that caused it has more, with its token and proof: nobody can have more sent to a machine that does not answer than he sends
himself. An endpoint that answers, with another certificate, is sent 2400 bytes more (trials of moq-rs 0.5.1)."""
RESERVED_VERSION = bytes.fromhex("1a2a3a4a")
"""Versions of the form 0x?a?a?a?a are reserved to provoke version negotiation (RFC 9000, section 15)."""
LONG_HEADER = 0xC0
"""First byte of a packet with a long header (RFC 9000, section 17.2)."""
ID_BYTES = 8
"""Length of each connection ID, bytes."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a host says about itself.

    Attributes:
        address: IP:PORT, canonical.
        fingerprint: SHA-256 of its certificate, hex.
        key: its public key, hex.
    """

    address: str
    fingerprint: str
    key: str


class _Probe(asyncio.DatagramProtocol):
    def __init__(self, own_id: bytes) -> None:
        self.answered = asyncio.Event()
        self._own_id = own_id

    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:  # noqa: ARG002  asyncio's signature
        negotiates = len(data) > 6 and data[0] & 0x80 and data[1:5] == bytes(4)
        if negotiates and data[6 : 6 + data[5]] == self._own_id:
            self.answered.set()


async def proved(claim: Claim) -> bool:
    """Whether the host with this certificate and this key is at its address, dialled from here."""
    return await _answers(claim.address) and await _confirms(claim)


async def _answers(address: str) -> bool:
    """Whether a QUIC endpoint answers one datagram."""
    ip, _, port = address.rpartition(":")
    host_id, own_id = secrets.token_bytes(ID_BYTES), secrets.token_bytes(ID_BYTES)
    head = bytes([LONG_HEADER]) + RESERVED_VERSION + bytes([ID_BYTES]) + host_id + bytes([ID_BYTES]) + own_id
    try:
        transport, probe = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Probe(own_id), remote_addr=(ip.strip("[]"), int(port))
        )
    except OSError:  # this machine has no route there
        return False
    try:
        transport.sendto(head.ljust(DATAGRAM_BYTES, b"\0"))
        with suppress(TimeoutError):
            async with asyncio.timeout(PROBE_S):
                await probe.answered.wait()
        return probe.answered.is_set()
    finally:
        transport.close()


async def _confirms(claim: Claim) -> bool:
    """Whether the endpoint has the certificate, and the host behind it the key."""
    client = moq.Client(
        f"moql://{claim.address}/{DIAL_BACK_PATH}{claim.key}",
        tls_fingerprints=[claim.fingerprint],
        websocket_enabled=False,
        reconnect=False,
        publish=moq.OriginProducer(),
        subscribe=moq.OriginProducer(),
    )
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            await client.__aenter__()
            if client.session is not None:
                await client.session.closed()
    except (TimeoutError, ValueError):
        return False
    except moq.Error as error:
        return moq.is_auth(error)
    finally:
        await client.__aexit__(None, None, None)  # also after a handshake that failed: it holds a socket
    return False
