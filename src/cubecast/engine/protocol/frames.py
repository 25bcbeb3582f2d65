"""Frames on a link: versioned msgpack of messages. All that one event causes for one host goes in one frame.

Unknown fields are ignored; unknown kinds raise MessageError, and the receiver drops the frame.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from cubecast.engine.protocol.messages import (
    CARRIED_MAX,
    HOPS_MAX,
    RELATIVES_MAX,
    SEQNO_MAX,
    Attach,
    Confirm,
    Heartbeat,
    Message,
    PathOffer,
    PathRequest,
    PathUpdate,
    Ping,
    Pong,
    Relatives,
    StandbyRequest,
    SubtreeContract,
)
from cubecast.engine.protocol.path import NUMBER_MAX, Contract, PathMetrics
from cubecast.errors import MessageError

VERSION = 9
"""Version of this protocol; hosts of different versions refuse each other's messages."""
MESSAGE_BYTES_MAX = 64 * 1024
"""Maximum length of an accepted frame, bytes; a heartbeat with CARRIED_MAX channels over 8 hops has 17 000."""
FRAME_MESSAGES_MAX = 256
"""Maximum number of messages in one frame."""


class _Frame(msgspec.Struct, frozen=True):
    v: int
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
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MessageError(f"not a message of this protocol: {error}") from error
    if frame.v != VERSION:
        raise MessageError(f"protocol version {frame.v}; this host speaks {VERSION}")
    for message in frame.m:
        _check_ranges(message)
    return frame.m


def _check_ranges(message: Message) -> None:
    numbers: tuple[float, ...] = ()
    paths: tuple[PathMetrics, ...] = ()
    match message:
        case Ping(sent_s):
            numbers = (sent_s,)
        case Pong(sent_s, seen_s):
            numbers = (sent_s, seen_s)
        case PathRequest():
            numbers = _terms(message.contract)
            if len(message.trail) > HOPS_MAX or not 0 <= message.tries <= HOPS_MAX:
                raise MessageError(f"a path request with a trail or a number of tries beyond {HOPS_MAX}")
        case StandbyRequest(trail=trail):
            if not 0 < len(trail) <= HOPS_MAX:
                raise MessageError("a request with an impossible trail")
        case Attach():
            numbers = _terms(message.contract)
            if not 0 < len(message.trail) <= HOPS_MAX:
                raise MessageError("a request with an impossible trail")
        case Heartbeat(sent_s=sent_s, echo_s=echo_s, seen_s=seen_s):
            numbers = (sent_s, echo_s, seen_s)
            paths = tuple(each.metrics for each in message.carried)
            if len(paths) > CARRIED_MAX:
                raise MessageError("a heartbeat with too many channels")
        case Relatives():
            if len(message.hosts) > RELATIVES_MAX:
                raise MessageError("too many relatives")
        case SubtreeContract():
            numbers = _terms(message.contract)
        case PathUpdate(sent_s=sent_s, echo_s=echo_s, seen_s=seen_s):
            numbers = (sent_s, echo_s, seen_s)
            paths = (message.metrics,)
        case PathOffer() | Confirm():
            paths = (message.metrics,)
    for r in paths:
        numbers += (r.delay_ms, r.spread_ms, r.clock_offset_ms, r.clock_uncertainty_ms, r.rate_bps)
        if not 0 < len(r.path) <= HOPS_MAX or r.delay_ms < 0 or r.spread_ms < 0 or not 0 <= r.seqno <= SEQNO_MAX:
            raise MessageError("a channel with an impossible path or delay")
        if not 0 <= r.loss <= 1 or not r.rate_bps >= 0:
            raise MessageError("a channel with an impossible loss or rate")
    if not all(abs(n) <= NUMBER_MAX for n in numbers):
        raise MessageError("a number out of range")


def _terms(contract: Contract) -> tuple[float, ...]:
    return contract.bound_ms, contract.rate_bps, contract.loss
