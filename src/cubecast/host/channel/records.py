"""The records of the timing track: one for each frame, in signed batches, and the end of the channel.

Each group of the track is a batch: BatchStart, FrameRecords, perhaps the EndRecord, BatchEnd.
"""

import hashlib

import msgspec

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

    track: int
    number: int
    pts_us: int
    dts_us: int
    duration_us: int
    keyframe: bool
    captured_s: float
    group: int
    digest: bytes


class EndRecord(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    """The channel's end: frames published and number of the last group, by track. It is used at once, so it is signed alone."""

    frames: tuple[int, ...]
    groups: tuple[int, ...] = ()
    signature: bytes = b""


class BatchStart(msgspec.Struct, frozen=True, array_like=True, tag="b"):
    """The publication that the records of a batch belong to."""

    publication: int


class BatchEnd(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """The number of records between BatchStart and this one, and a signature over them (`BatchContent.signed`)."""

    records: int
    signature: bytes


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
