"""The records of the timing track: one for each frame, in signed batches, and the end of the channel.

Each group of the track is a batch: BatchStart, FrameRecords, perhaps the EndRecord, BatchEnd.
"""

import hashlib
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from cubecast.engine.protocol.ranges import INTEGER_MAX, Number

TRACKS_MAX = 16
"""Maximum number of tracks of one channel; a description of more is refused."""
CAPTURED_MAX_S = 1e11
"""Latest capture time that is accepted, s since the Unix epoch: the year 5138."""
DIGEST_BYTES_MAX = 64
"""Maximum length of a digest or signature, bytes: that of an Ed25519 signature."""
Times: TypeAlias = Annotated[int, Meta(ge=-INTEGER_MAX, le=INTEGER_MAX)]
"""A time of presentation or decoding, microseconds; the first ones of a stream may be negative."""
Digest: TypeAlias = Annotated[bytes, Meta(max_length=DIGEST_BYTES_MAX)]
"""A digest or signature."""
Counts: TypeAlias = Annotated[tuple[Number, ...], Meta(max_length=TRACKS_MAX)]
"""Numbers of frames, by track."""
LastGroups: TypeAlias = Annotated[tuple[Annotated[int, Meta(ge=-1, le=INTEGER_MAX)], ...], Meta(max_length=TRACKS_MAX)]
"""Numbers of the last groups, by track; -1 for a track that had none."""
BATCH_FRAMES_MAX = 64
"""Maximum number of frames in a batch: a group that was lost is fetched again as a whole."""
BATCH_S = 0.1
"""Longest time, s, from the first record of a batch to its signature: for so long a forged frame goes unnoticed."""


class FrameRecord(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    """One frame's timing record.

    Attributes:
        group: sequence number of the group that carries the frame.
        digest: of the frame and of all else here but `captured_s` and `group` (cubecast.host.channel.signing).
    """

    track: Annotated[int, Meta(ge=0, le=TRACKS_MAX - 1)]
    number: Number
    pts_us: Times
    dts_us: Times
    duration_us: Number
    keyframe: bool
    captured_s: Annotated[float, Meta(ge=0, le=CAPTURED_MAX_S)]
    group: Number
    digest: Digest


class EndRecord(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    """The channel's end: frames published and number of the last group, by track. It is used at once, so it is signed alone."""

    frames: Counts
    groups: LastGroups = ()
    signature: Digest = b""


class BatchStart(msgspec.Struct, frozen=True, array_like=True, tag="b"):
    """The publication that the records of a batch belong to."""

    publication: Number


class BatchEnd(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """The number of records between BatchStart and this one, and a signature over them (`BatchContent.signed`)."""

    records: Number
    signature: Digest


Record = FrameRecord | EndRecord | BatchStart | BatchEnd
encode_record = msgspec.msgpack.Encoder().encode
decode_record = msgspec.msgpack.Decoder(Record).decode


class BatchContent:
    """What the signature of a batch is over: its number, and its records in order."""

    def __init__(self, number: int) -> None:
        """No records yet; the number is that of the timing track's group."""
        self._number = number
        self._hash = hashlib.sha256()
        self.records = 0

    def add(self, record: bytes) -> None:
        """Adds a record as it is on the wire."""
        self._hash.update(len(record).to_bytes(4, "big") + record)
        self.records += 1

    @property
    def signed(self) -> tuple[int, int, bytes]:
        """What is signed."""
        return self._number, self.records, self._hash.digest()
