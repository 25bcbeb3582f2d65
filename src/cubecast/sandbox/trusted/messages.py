"""Messages between a host and its worker process, as msgpack."""

from typing import Literal, TypeAlias

import msgspec

from cubecast.frames import EncodedFrame, TrackFormat
from cubecast.sandbox.abi import Manifest

Language: TypeAlias = Literal["native", "python"]


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """First request: everything that the worker needs, as it cannot open files later."""

    language: Language
    code: bytes
    manifest: Manifest
    tracks: tuple[TrackFormat, ...]
    config: dict[str, str]


class Process(msgspec.Struct, frozen=True, tag="process"):
    """Request to process frames."""

    frames: tuple[EncodedFrame, ...]


class Event(msgspec.Struct, frozen=True, tag="event"):
    """Request to handle an event."""

    kind: int
    time_us: int
    value: float


class Confined(msgspec.Struct, frozen=True, tag="confined"):
    """First answer to Begin: the worker is confined and starts to run the extension's code."""


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """Second answer to Begin: the tracks that the extension emits."""

    tracks: tuple[TrackFormat, ...]
    memory_bytes: int


class Emitted(msgspec.Struct, frozen=True, tag="emitted"):
    """Answer to Process and Event: the frames emitted, and those that were too large for the extension."""

    frames: tuple[EncodedFrame, ...]
    skipped: tuple[EncodedFrame, ...] = ()


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Answer with an error: `kind` is that of ExtensionFailed, or empty for ExtensionRefused."""

    kind: Literal["", "deadline", "trap", "output", "error"]
    text: str


Request: TypeAlias = Begin | Process | Event
Answer: TypeAlias = Confined | Begun | Emitted | Failed

encode = msgspec.msgpack.Encoder().encode
request_decoder = msgspec.msgpack.Decoder(Request)
answer_decoder = msgspec.msgpack.Decoder(Answer)
