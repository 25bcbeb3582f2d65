"""What a relay can do to a subscriber with the bytes of a channel's side tracks."""

import asyncio
import time
from contextlib import aclosing

import moq
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.errors import MediaError, RemoteError
from cubecast.frames import EncodedFrame, Kind, TrackFormat
from cubecast.host.channel import description, tracks
from cubecast.host.channel.reader import ChannelReader
from cubecast.host.channel.records import BatchEnd, BatchStart, EndRecord, FrameRecord, Record, encode_record
from cubecast.host.channel.signing import END, ChannelSigner
from cubecast.host.channel.timing import JUMP_MAX, TimingReader, _Batch
from cubecast.host.channel.tracks import ChannelWriter, CopyCount
from cubecast.host.channel.verification import Verification
from tests.host.publications import a_publication
from tests.host.test_reader import a_channel, frames_of
from tests.wire_values import unbounded, values

BIG, NAN, INF = 2**64 - 1, float("nan"), float("inf")
TEXT = TrackFormat(Kind.DATA, "text")


class Relay:
    """A reader of side tracks, in the middle of a batch of the right publication, and what a relay sends it."""

    def __init__(self) -> None:
        def nothing() -> moq.BroadcastConsumer:
            raise AssertionError("it is not started")

        async def no_renewal() -> None:
            raise AssertionError("it is not started")

        self.signer, key = a_publication()
        self.reader = TimingReader(nothing, no_renewal, moq.Subscription(), Verification(key), lambda: False)
        self._batch = _Batch(0)

    async def send(self, *payloads: bytes) -> None:
        for payload in payloads:
            await self.reader._take(self._batch, payload)

    @classmethod
    async def begun(cls) -> "Relay":
        relay = cls()
        await relay.send(encode_record(BatchStart(relay.signer.publication.number)))
        return relay


def record(number: int, pts_us: int = 0) -> bytes:
    return encode_record(FrameRecord(0, number, pts_us, 0, 0, True, 1.0, 0, b"digest"))


def end(signer: ChannelSigner, frames: tuple[int, ...]) -> bytes:
    return encode_record(EndRecord(frames, (0,), signer.sign(END, frames, (0,))))


@pytest.mark.parametrize("kind", [FrameRecord, EndRecord, BatchStart, BatchEnd, description._Description])
def test_every_field_of_a_side_track_has_a_range(kind: type) -> None:
    assert unbounded(kind) == []


@given(st.binary(max_size=100) | values(Record).map(msgspec.msgpack.encode))
def test_any_bytes_are_a_record_or_dropped(payload: bytes) -> None:
    async def take() -> TimingReader:
        relay = await Relay.begun()
        await relay.send(payload)
        return relay.reader

    reader = asyncio.run(take())
    assert reader.malformed + len(reader._joiner.records) <= 1
    assert not reader.over.is_set(), "no end is believed that the publisher has not signed"


@pytest.mark.parametrize(
    "values",
    [
        ["f", 0, 0, 0, 0, 0, True, NAN, 0, b"d"],
        ["f", 0, 0, 0, 0, 0, True, INF, 0, b"d"],
        ["f", 0, 0, 0, 0, 0, True, -1.0, 0, b"d"],
        ["f", 0, -1, 0, 0, 0, True, 1.0, 0, b"d"],
        ["f", 0, BIG, 0, 0, 0, True, 1.0, 0, b"d"],
        ["f", 0, 0, 0, BIG, 0, True, 1.0, 0, b"d"],
        ["f", 0, 0, 0, -(2**63), 0, True, 1.0, 0, b"d"],
        ["f", 16, 0, 0, 0, 0, True, 1.0, 0, b"d"],
        ["f", 0, 3, 0, 0, 0, True, 1.0, 4, b"d"],
        ["f", 0, 3, 0, 0, 0, True, 1.0, 0, b"d" * 1000],
        ["f", 0, 10 + JUMP_MAX + 1, 0, 0, 0, True, 1.0, 0, b"d"],
        ["e", [-1], [0], b""],
        ["e", [BIG], [0], b""],
        ["e", [0] * 17, [], b""],
    ],
    ids=str,
)
async def test_a_record_that_cannot_be_is_counted_and_dropped(values: list[object]) -> None:
    relay = await Relay.begun()
    await relay.send(record(10), msgspec.msgpack.encode(values))
    assert relay.reader.malformed == 1
    assert not relay.reader.over.is_set()
    await relay.send(record(11, 1))
    assert len(relay.reader._joiner.records) == 2, "the next one counts"


async def test_an_end_far_beyond_what_was_published_is_dropped_even_if_it_is_signed() -> None:
    relay = await Relay.begun()
    await relay.send(record(10), end(relay.signer, (10 + JUMP_MAX + 2,)))
    assert relay.reader.malformed == 1
    assert not relay.reader.over.is_set()
    await relay.send(end(relay.signer, (11,)))
    assert relay.reader.over.is_set()


@given(
    st.recursive(
        st.none() | st.floats() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_format_is_a_description_or_refused(value: object) -> None:
    with pytest.raises(RemoteError):
        description.parse_description(value)


async def test_a_subscriber_goes_on_after_malformed_records() -> None:
    """A publisher whose records make no sense: it has signed them."""
    writer, reader = a_channel([TEXT])
    async with frames_of(reader) as frames, aclosing(frames):
        for number in range(3):
            writer._record(FrameRecord(0, number, 0, 0, 0, True, NAN, 0, b""))
            writer.write(EncodedFrame(0, number * 1000, number * 1000, 1000, True, b"x"), time.time())
        writer.finish()
        received = [item async for item in frames]
    assert [item.number for item in received] == [0, 1, 2]
    assert reader.malformed == 3


@pytest.mark.parametrize("text", ["{", "[" * 50_000, '{"version": 1, "tracks": NaN}'])
async def test_a_format_that_is_not_json_is_a_remote_error(text: str) -> None:
    origin = moq.OriginProducer()
    broadcast = origin.create_broadcast(tracks.BROADCAST)
    group = broadcast.publish_track(tracks.FORMAT).append_group()
    group.write_frame(text.encode())
    broadcast.announce()
    _, key = a_publication()
    reader = ChannelReader(origin, 1000.0, CopyCount(), time.time, Verification(key))
    with pytest.raises(RemoteError):
        await reader.open()


@pytest.mark.parametrize("wrong", [{"dts_us": 2**62}, {"pts_us": -(2**63)}, {"duration_us": -1}])
async def test_a_frame_that_subscribers_would_refuse_is_not_published(wrong: dict[str, int]) -> None:
    signer, _ = a_publication()
    writer = ChannelWriter(moq.OriginProducer(), [TEXT], CopyCount(), signer)
    frame = EncodedFrame(0, 0, 0, 1000, True, b"x")
    for name, value in wrong.items():
        object.__setattr__(frame, name, value)
    with pytest.raises(MediaError, match="out of range"):
        writer.write(frame, time.time())
    with pytest.raises(MediaError, match="out of range"):
        writer.write(EncodedFrame(0, 0, 0, 1000, True, b"x"), NAN)
