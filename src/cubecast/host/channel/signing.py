"""What a publisher signs, and the digests of its frames.

The key is the publisher's own (Ed25519, RFC 8032), as the super-node names it. Everything that is signed begins with what it
is, the channel and the publication, so that no signature counts for anything else. Digests are over payloads as they are on
the wire (docs/decisions/0024).
"""

import hashlib
from dataclasses import dataclass

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cubecast.host.channel.records import FrameRecord
from cubecast.types import ChannelName

DIGEST_BYTES = 16
"""Length of a frame's digest, bytes: to find another frame with the same digest takes 2^128 attempts."""

BATCH, END, FORMAT, FRAME = "cubecast:batch", "cubecast:end", "cubecast:format", "cubecast:frame"

_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Publication:
    """One publication of a channel's name; a later one has a higher number."""

    channel: ChannelName
    number: int

    def content(self, kind: str, *values: object) -> bytes:
        """The bytes that a signature is over.

        Args:
            kind: BATCH, END or FORMAT.
        """
        return _encode((kind, self.channel, self.number, *values))

    def digest(self, record: FrameRecord, payload_hash: bytes) -> bytes:
        """The digest of a frame; `record.digest` does not count."""
        header = (record.track, record.number, record.pts_us, record.dts_us, record.duration_us, record.keyframe)
        return hashlib.sha256(self.content(FRAME, *header, payload_hash)).digest()[:DIGEST_BYTES]


def hash_of(payload: bytes) -> bytes:
    """The hash of a payload, which the digest of its frame is over."""
    return hashlib.sha256(payload).digest()


class ChannelSigner:
    """Signs one publication."""

    def __init__(self, key: Ed25519PrivateKey, publication: Publication) -> None:
        self._key = key
        self.publication = publication

    def digest(self, record: FrameRecord, payload: bytes) -> bytes:
        """The digest of a frame; `record.digest` does not count."""
        return self.publication.digest(record, hash_of(payload))

    def sign(self, kind: str, *values: object) -> bytes:
        """A signature over values of a kind."""
        return self._key.sign(self.publication.content(kind, *values))


class PublisherKey:
    """The public key of one publication."""

    def __init__(self, publication: Publication, key_hex: str) -> None:
        """A key.

        Raises:
            ValueError: that is no public key.
        """
        self.publication = publication
        self._key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key_hex))

    def has_signed(self, signature: bytes, kind: str, *values: object) -> bool:
        """Whether the publisher has signed these values."""
        try:
            self._key.verify(signature, self.publication.content(kind, *values))
        except InvalidSignature:
            return False
        return True
