"""The subscriber's checks: whether what arrives is what the publisher sent. Whatever fails one is counted and not delivered.

A frame is delivered once its record has arrived and its digest is right. The signature of the record's batch arrives up to
BATCH_S later and is checked then, so a parent that forges both is noticed by it after some frames.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from cubecast.errors import CubecastError
from cubecast.host.channel.records import BATCH_FRAMES_MAX, BatchContent, BatchEnd, EndRecord, FrameRecord
from cubecast.host.channel.signing import BATCH, END, FORMAT, PublisherKey, hash_of

HASHES_MAX = 4096
"""Maximum number of payload hashes that are stored, to recognise a payload that is sent again under another number."""
RENEW_PAUSE_S = 1.0
"""Shortest interval, s, at which the super-node is asked for a newer publication: anybody can claim that there is one."""
REPORT_PAUSE_S = 0.1
"""Shortest interval, s, between two reports on the parent: hundreds of frames may fail in that time."""
CUT_OFF_MAX = 3
"""Number of batches whose signatures were cut off within CUT_OFF_S, at which the parent is reported: one is cut off by each
parent that dies."""
CUT_OFF_S = 10.0
"""The time, s, in which these are counted."""


class Fault(StrEnum):
    """Why something was rejected."""

    ALTERED = "altered"
    UNSIGNED = "unsigned"
    MISSING = "missing"
    REPLAYED = "replayed"
    FOREIGN = "foreign"


@dataclass(slots=True)
class Rejections:
    """What a subscriber has rejected.

    Attributes:
        altered: frames that differ from what was published.
        unsigned: frames without a record, and records that the publisher has not signed.
        missing: records that were left out of a batch.
        replayed: frames that were sent again in place of others.
        foreign: batches and formats of another publication of the channel's name.
    """

    altered: int = 0
    unsigned: int = 0
    missing: int = 0
    replayed: int = 0
    foreign: int = 0

    def add(self, fault: Fault, count: int) -> None:
        """Counts some more."""
        setattr(self, fault, getattr(self, fault) + count)


async def _no_newer(_: int) -> PublisherKey | None:
    return None


class Verification:
    """Checks what arrives of one channel."""

    def __init__(
        self,
        key: PublisherKey,
        renew: Callable[[int], Awaitable[PublisherKey | None]] = _no_newer,
        report: Callable[[Fault], None] = lambda _: None,
    ) -> None:
        """Checks against a publisher's key.

        Args:
            renew: asks the super-node for the key of a publication that is newer than this number.
            report: called when the parent has sent what the publisher has not.
        """
        self._key = key
        self._renew, self._report = renew, report
        self._loop = asyncio.get_running_loop()
        self._renewing = asyncio.Lock()
        self._renew_at_s = self._report_at_s = 0.0
        self._hashes: OrderedDict[bytes, None] = OrderedDict()
        self._cut_off_s: list[float] = []
        self.rejections = Rejections()

    async def accepts(self, publication: int) -> bool:
        """Whether something is of the newest publication; the super-node is asked about one that is newer than known."""
        async with self._renewing:
            if publication > self._key.publication.number and self._loop.time() >= self._renew_at_s:
                self._renew_at_s = self._loop.time() + RENEW_PAUSE_S
                with suppress(CubecastError):
                    self._key = await self._renew(self._key.publication.number) or self._key
                    self._renew_at_s = self._loop.time() + RENEW_PAUSE_S
        if publication == self._key.publication.number:
            return True
        self.reject(Fault.FOREIGN)
        return False

    def frame(self, record: FrameRecord, payload: bytes) -> bool:
        """Whether a frame is the one that its record is about."""
        payload_hash = hash_of(payload)
        if self._key.publication.digest(record, payload_hash) != record.digest:
            self.reject(Fault.REPLAYED if payload_hash in self._hashes else Fault.ALTERED)
            return False
        self._hashes[payload_hash] = None
        if len(self._hashes) > HASHES_MAX:
            self._hashes.popitem(last=False)
        return True

    def batch(self, content: BatchContent, end: BatchEnd) -> bool:
        """Whether the publisher has signed the records of a batch."""
        if self._key.has_signed(end.signature, BATCH, *content.signed):
            return True
        missing = end.records - content.records
        if 0 < missing <= BATCH_FRAMES_MAX:
            self.reject(Fault.MISSING, missing)
        else:
            self.reject(Fault.UNSIGNED, content.records)
        return False

    def end(self, end: EndRecord) -> bool:
        """Whether the publisher has ended the channel so."""
        return self._or_reject(self._key.has_signed(end.signature, END, end.frames, end.groups))

    def format(self, signature: bytes, content: bytes) -> bool:
        """Whether the publisher has signed a description of the tracks."""
        return self._or_reject(self._key.has_signed(signature, FORMAT, content))

    def cut_off(self, records: int) -> None:
        """The signature over some records has not arrived: the parent died while it sent them, or has left it out."""
        now_s = self._loop.time()
        self._cut_off_s = [each for each in self._cut_off_s if each > now_s - CUT_OFF_S] + [now_s]
        if len(self._cut_off_s) >= CUT_OFF_MAX:
            self._cut_off_s.clear()
            self.reject(Fault.UNSIGNED, records)
        else:
            self.rejections.add(Fault.UNSIGNED, records)

    def reject(self, fault: Fault, count: int = 1) -> None:
        """Counts what was rejected, and reports the parent."""
        self.rejections.add(fault, count)
        now_s = self._loop.time()
        if now_s >= self._report_at_s:
            self._report_at_s = now_s + REPORT_PAUSE_S
            self._report(fault)

    def _or_reject(self, signed: bool) -> bool:
        if not signed:
            self.reject(Fault.UNSIGNED)
        return signed
