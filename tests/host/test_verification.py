"""A relay alters, leaves out, repeats or forges what it passes on; the reader notices, and delivers nothing altered."""

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import moq
import msgspec
import pytest

from cubecast.errors import RemoteError
from cubecast.frames import EncodedFrame, Kind, TrackFormat
from cubecast.host.channel.description import describe, parse_description
from cubecast.host.channel.reader import ChannelReader, ReceivedFrame
from cubecast.host.channel.records import (
    BatchContent,
    BatchEnd,
    BatchStart,
    EndRecord,
    FrameRecord,
    decode_record,
    encode_record,
)
from cubecast.host.channel.signing import Publication, PublisherKey, hash_of
from cubecast.host.channel.tracks import TIMING, ChannelWriter, CopyCount
from cubecast.host.channel.verification import Fault, Rejections, Verification
from cubecast.host.tasks import Tasks
from cubecast.media.sources import MediaSource
from tests.conditions import eventually
from tests.host.hostile_relay import Passed, Tamper, honest, relay
from tests.host.publications import a_publication
from tests.media.test_sources_and_sinks import make

FRAMES = 40
END_S = 15.0
DATA = TrackFormat(Kind.DATA, "json")


def frames() -> list[EncodedFrame]:
    return [
        EncodedFrame(0, n * 20_000, n * 20_000, 20_000, keyframe=True, payload=b"frame %d" % n) for n in range(FRAMES)
    ]


class Received:
    """What a subscriber behind a relay has got of FRAMES frames."""

    def __init__(self) -> None:
        self.frames: list[ReceivedFrame] = []
        self.reports: list[Fault] = []
        self.rejections = Rejections()

    @property
    def numbers(self) -> list[int]:
        return [each.number for each in self.frames]

    def all_true(self) -> bool:
        sent = frames()
        return all(each.frame == sent[each.number] for each in self.frames)


async def through(
    tamper: Tamper,
    until: Callable[[Received], bool] | None = None,
    key: PublisherKey | None = None,
    *,
    batches_end: bool = True,
) -> Received:
    """Sends all frames through a relay.

    Args:
        until: the channel ends when this holds; None ends it after the last frame and waits until the reader has seen that.
    """
    here, there, got = moq.OriginProducer(), moq.OriginProducer(), Received()
    signer, right_key = a_publication()
    verification = Verification(key or right_key, report=got.reports.append)
    got.rejections = verification.rejections
    writer = ChannelWriter(here, [DATA], CopyCount(), signer)
    reader = ChannelReader(there, 1000.0, CopyCount(), time.time, verification)

    async def read() -> None:
        async for frame in reader.frames():
            got.frames.append(frame)

    async with (
        asyncio.timeout(END_S),
        relay(here, there, 1, tamper, batches_end=batches_end),
        asyncio.TaskGroup() as group,
    ):
        await reader.open()
        tasks = Tasks(group)
        reader.start(tasks)
        reading = group.create_task(read())
        for frame in frames():
            writer.write(frame, time.time())
            await asyncio.sleep(0.01)
        if until is None:
            writer.finish()
            await reading
        else:
            await eventually(lambda: until(got))
        reading.cancel()
        reader.stop()
        tasks.cancel_all()
    writer.close()
    return got


def of(content: bytes, number: int) -> bool:
    return content.endswith(b"frame %d" % number)


async def test_what_an_honest_relay_passes_on_is_delivered_and_nothing_is_rejected() -> None:
    got = await through(honest)
    assert got.numbers == list(range(FRAMES))
    assert got.all_true()
    assert (got.rejections, got.reports) == (Rejections(), [])


async def test_an_altered_frame_is_not_delivered_and_the_others_are() -> None:
    def alter(passed: Passed) -> Iterable[bytes]:
        yield passed.payload[:-1] + b"x" if passed.track == "0" and of(passed.payload, 17) else passed.payload

    got = await through(alter)
    assert got.numbers == [n for n in range(FRAMES) if n != 17]
    assert got.all_true()
    assert got.rejections == Rejections(altered=1)
    assert got.reports == [Fault.ALTERED]


async def test_a_frame_that_is_sent_again_under_another_number_is_not_delivered() -> None:
    def repeat(passed: Passed) -> Iterable[bytes]:
        yield passed.payload.replace(b"frame 17", b"frame 12") if passed.track == "0" else passed.payload

    got = await through(repeat)
    assert got.numbers == [n for n in range(FRAMES) if n != 17]
    assert got.rejections == Rejections(replayed=1)
    assert got.reports == [Fault.REPLAYED]


async def test_a_record_that_is_left_out_of_a_batch_is_noticed_by_its_signature() -> None:
    left_out: list[int] = []

    def leave_out(passed: Passed) -> Iterable[bytes]:
        record = passed.record
        if isinstance(record, FrameRecord) and record.number == 17:
            left_out.append(passed.place)
        else:
            yield passed.payload

    got = await through(leave_out)
    assert left_out
    assert got.rejections.missing == 1
    assert Fault.MISSING in got.reports
    assert 17 not in got.numbers
    assert got.all_true()


async def test_records_in_another_order_are_noticed() -> None:
    held: dict[int, bytes] = {}

    def swap(passed: Passed) -> Iterable[bytes]:
        if passed.track != TIMING or passed.place not in (1, 2):
            yield passed.payload
        elif passed.place == 1:
            held[passed.group] = passed.payload
        elif isinstance(passed.record, BatchEnd):
            yield from (held[passed.group], passed.payload)
        else:
            yield from (passed.payload, held[passed.group])

    got = await through(swap)
    assert got.rejections.unsigned > 0
    assert Fault.UNSIGNED in got.reports


async def test_a_batch_that_is_sent_again_in_place_of_another_is_noticed() -> None:
    first: list[bytes] = []

    def replay(passed: Passed) -> Iterable[bytes]:
        if passed.track != TIMING or passed.group not in (0, 1):
            yield passed.payload
        elif passed.group == 0:
            first.append(passed.payload)
            yield passed.payload
        elif passed.place == 0:
            yield from first

    got = await through(replay)
    assert first
    assert got.rejections.unsigned > 0
    assert Fault.UNSIGNED in got.reports
    assert got.all_true()


async def test_frames_and_records_that_a_relay_has_forged_together_are_noticed_by_the_signature() -> None:
    """The record fits the frame, so that it is delivered; the batch shows that the publisher has not signed it."""
    publication, forged = a_publication()[0].publication, b"forged"

    def forge(passed: Passed) -> Iterable[bytes]:
        record = passed.record
        if passed.track == "0" and of(passed.payload, 17):
            yield passed.payload.removesuffix(b"frame 17") + forged
        elif isinstance(record, FrameRecord) and record.number == 17:
            digest = publication.digest(record, hash_of(forged))
            yield encode_record(msgspec.structs.replace(record, digest=digest))
        else:
            yield passed.payload

    got = await through(forge)
    assert got.rejections.unsigned > 0
    assert Fault.UNSIGNED in got.reports


@pytest.mark.parametrize("batches_end", [True, False])
async def test_signatures_that_are_left_out_are_noticed(*, batches_end: bool) -> None:
    """Whether the batches end without them, or never end."""

    def strip(passed: Passed) -> Iterable[bytes]:
        if passed.track != TIMING or not isinstance(passed.record, BatchEnd):
            yield passed.payload

    got = await through(strip, lambda got: bool(got.reports), batches_end=batches_end)
    assert got.reports == [Fault.UNSIGNED]
    assert got.rejections.unsigned > 0


async def test_frames_whose_records_never_come_are_not_delivered_and_the_parent_is_reported() -> None:
    def strip(passed: Passed) -> Iterable[bytes]:
        record = passed.record
        if not isinstance(record, FrameRecord):
            yield passed.payload

    got = await through(strip, lambda got: bool(got.reports))
    assert got.numbers == []
    assert got.rejections.unsigned + got.rejections.missing > 0


async def test_an_end_that_the_publisher_has_not_signed_does_not_end_the_channel() -> None:
    def end_early(passed: Passed) -> Iterable[bytes]:
        yield passed.payload
        if passed.track == TIMING and (passed.group, passed.place) == (1, 0):
            yield encode_record(EndRecord((3,), (2,), bytes(64)))

    got = await through(end_early)
    assert got.numbers == list(range(FRAMES))
    assert Fault.UNSIGNED in got.reports


async def test_a_stream_of_another_key_is_not_opened() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await through(honest, key=a_publication()[1])


async def test_a_stream_of_an_older_publication_is_not_accepted() -> None:
    reports: list[Fault] = []
    verification = Verification(a_publication(8)[1], report=reports.append)
    assert await verification.accepts(8)
    assert not await verification.accepts(7)
    assert (verification.rejections.foreign, reports) == (1, [Fault.FOREIGN])


async def test_a_newer_publication_is_accepted_once_the_super_node_names_it() -> None:
    asked: list[int] = []

    async def renew(newer_than: int) -> PublisherKey | None:
        asked.append(newer_than)
        return a_publication(9)[1]

    verification = Verification(a_publication(8)[1], renew)
    assert not await verification.accepts(10)
    assert await verification.accepts(9)
    assert not await verification.accepts(10)
    assert asked == [8], "it is not asked again at once, whatever a peer claims"


async def test_a_publisher_of_an_older_version_is_refused() -> None:
    described = describe([DATA], a_publication()[0])
    assert isinstance(described, dict)
    with pytest.raises(RemoteError, match=r"version 1.*use the same version of cubecast"):
        parse_description({"version": 1, "tracks": described["tracks"]})


def test_each_field_of_a_description_is_signed() -> None:
    signer, key = a_publication()
    described = describe([DATA], signer, EndRecord((3,), (2,)))
    assert isinstance(described, dict)
    whole = parse_description(described)
    assert key.has_signed(whole.signature, "cubecast:format", whole.content)
    for name, value in (("frames", (2,)), ("groups", (1,)), ("publication", 8), ("tracks", described["tracks"] * 2)):
        other = parse_description({**described, name: value})
        assert not key.has_signed(other.signature, "cubecast:format", other.content)


def test_a_signature_counts_for_one_kind_one_channel_and_one_publication() -> None:
    signer, key = a_publication()
    signature = signer.sign("cubecast:end", (1,))
    assert key.has_signed(signature, "cubecast:end", (1,))
    assert not key.has_signed(signature, "cubecast:batch", (1,))
    assert not key.has_signed(signer.sign("cubecast:end", (2,)), "cubecast:end", (1,))
    other = Publication(signer.publication.channel, signer.publication.number + 1)
    assert other.content("cubecast:end", (1,)) != signer.publication.content("cubecast:end", (1,))


def test_the_digest_of_a_frame_is_over_all_that_its_receiver_uses() -> None:
    publication = Publication(a_publication()[0].publication.channel, 7)
    record = FrameRecord(0, 1, 2, 3, 4, True, 5.0, 6, b"")
    changes = {"track": 1, "number": 2, "pts_us": 3, "dts_us": 4, "duration_us": 5, "keyframe": False}
    digests = {publication.digest(record, hash_of(b"payload")), publication.digest(record, hash_of(b"other"))}
    digests |= {
        publication.digest(msgspec.structs.replace(record, **{name: value}), hash_of(b"payload"))
        for name, value in changes.items()
    }
    digests.add(Publication(publication.channel, 8).digest(record, hash_of(b"payload")))
    assert len(digests) == len(changes) + 3


def test_batches_of_the_same_bytes_cut_differently_are_different() -> None:
    one, two = BatchContent(0), BatchContent(0)
    for part in (b"ab", b"c"):
        one.add(part)
    for part in (b"a", b"bc"):
        two.add(part)
    assert one.signed != two.signed
    assert isinstance(decode_record(encode_record(BatchStart(3))), BatchStart)


async def test_a_keyframe_in_annex_b_has_its_parameter_sets_and_is_verified(tmp_path: Path) -> None:
    with MediaSource(str(make(tmp_path, "h264.ts", "libx264", None))) as source:
        sent, tracks = [frame for frame in source.frames() if frame.track == 0], source.tracks[:1]
    origin, (signer, key) = moq.OriginProducer(), a_publication()
    verification = Verification(key)
    writer = ChannelWriter(origin, tracks, CopyCount(), signer)
    reader = ChannelReader(origin, 60_000.0, CopyCount(), time.time, verification)
    await reader.open()
    received: list[ReceivedFrame] = []
    async with asyncio.timeout(END_S), asyncio.TaskGroup() as group:
        tasks = Tasks(group)
        for frame in sent:
            writer.write(frame, time.time())
        reader.start(tasks)
        writer.finish()
        received = [item async for item in reader.frames()]
        tasks.cancel_all()
    writer.close()
    assert len(received) == len(sent)
    assert verification.rejections == Rejections()
    assert all(tracks[0].extradata in each.frame.payload for each in received if each.frame.keyframe)
