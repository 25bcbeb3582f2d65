"""Frames on a link: versioned msgpack of messages. All that one event causes for one host goes in one frame.

Unknown fields are ignored; unknown kinds raise MessageError, and the receiver drops the frame.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from cubecast.engine.protocol.messages import Message
from cubecast.engine.protocol.ranges import Number
from cubecast.errors import MessageError

VERSION = 9
"""Version of this protocol; hosts of different versions refuse each other's messages."""
MESSAGE_BYTES_MAX = 64 * 1024
"""Maximum length of an accepted frame, bytes; a heartbeat with CARRIED_MAX channels over 8 hops has 17 000."""
FRAME_MESSAGES_MAX = 256
"""Maximum number of messages in one frame."""


class _Frame(msgspec.Struct, frozen=True):
    v: Number
    m: Annotated[tuple[Message, ...], Meta(min_length=1, max_length=FRAME_MESSAGES_MAX)]


class _EncodedFrame(msgspec.Struct, frozen=True):
    v: int
    m: tuple[msgspec.Raw, ...]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Frame)


def encode(messages: Iterable[Message]) -> Iterator[bytes]:
    """Frames with these messages in order: one, unless they are too many or too long for it."""
    encoded: list[msgspec.Raw] = []
    size = 0
    for message in messages:
        raw = msgspec.Raw(_encoder.encode(message))
        if encoded and (size + len(raw) > MESSAGE_BYTES_MAX // 2 or len(encoded) == FRAME_MESSAGES_MAX):
            yield _encoder.encode(_EncodedFrame(VERSION, tuple(encoded)))
            encoded, size = [], 0
        encoded.append(raw)
        size += len(raw)
    if encoded:
        yield _encoder.encode(_EncodedFrame(VERSION, tuple(encoded)))


def decode(payload: bytes) -> tuple[Message, ...]:
    """The messages in a frame.

    Raises:
        MessageError: too long, not msgpack, another version, an unknown kind, or a field of the wrong type or range.
    """
    if len(payload) > MESSAGE_BYTES_MAX:
        raise MessageError(f"a frame of {len(payload)} bytes; the limit is {MESSAGE_BYTES_MAX}")
    try:
        frame = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise MessageError(f"not a message of this protocol: {error}") from error
    if frame.v != VERSION:
        raise MessageError(f"protocol version {frame.v}; this host speaks {VERSION}")
    return frame.m
