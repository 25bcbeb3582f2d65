"""What a relay can do to a subscriber with the bytes of a channel's side tracks."""

import time
from contextlib import aclosing

import moq
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.errors import MediaError, RemoteError
from cubecast.frames import EncodedFrame, Kind, TrackFormat
from cubecast.host.channel import tracks
from cubecast.host.channel.reader import ChannelReader
from cubecast.host.channel.timing import JUMP_MAX, TimingReader
from cubecast.host.channel.tracks import ChannelWriter, CopyCount, EndRecord, FrameRecord
from tests.host.test_reader import a_channel, frames_of
from tests.wire_values import unbounded, values

BIG, NAN, INF = 2**64 - 1, float("nan"), float("inf")
TEXT = TrackFormat(Kind.DATA, "text")


def timing() -> TimingReader:
    def nothing() -> moq.BroadcastConsumer:
        raise AssertionError("it is not started")

    return TimingReader(nothing, moq.Subscription(), lambda: False)


def test_every_field_of_a_side_track_has_a_range() -> None:
    assert unbounded(FrameRecord) == []
    assert unbounded(EndRecord) == []
    assert unbounded(tracks._Description) == []


@given(st.binary(max_size=100) | values(FrameRecord | EndRecord).map(msgspec.msgpack.encode))
def test_any_bytes_are_a_record_or_counted_as_malformed(payload: bytes) -> None:
    reader = timing()
    reader._take(payload)
    assert reader.malformed + len(reader._joiner.records) + reader.over.is_set() == 1


@pytest.mark.parametrize(
    "record",
    [
        ["f", 0, 0, 0, 0, 0, NAN, 0],
        ["f", 0, 0, 0, 0, 0, INF, 0],
        ["f", 0, 0, 0, 0, 0, -1.0, 0],
        ["f", 0, -1, 0, 0, 0, 1.0, 0],
        ["f", 0, BIG, 0, 0, 0, 1.0, 0],
        ["f", 0, 0, 0, BIG, 0, 1.0, 0],
        ["f", 0, 0, 0, -(2**63), 0, 1.0, 0],
        ["f", 16, 0, 0, 0, 0, 1.0, 0],
        ["f", 0, 3, 0, 0, 0, 1.0, 4],
        ["f", 0, 10 + JUMP_MAX + 1, 0, 0, 0, 1.0, 0],
        ["e", [-1], [0]],
        ["e", [BIG], [0]],
        ["e", [10 + JUMP_MAX + 2], [0]],
        ["e", [0] * 17, []],
    ],
    ids=str,
)
def test_a_record_that_cannot_be_is_counted_and_dropped(record: list[object]) -> None:
    reader = timing()
    reader._take(msgspec.msgpack.encode(FrameRecord(0, 10, 0, 0, 0, 1.0)))
    reader._take(msgspec.msgpack.encode(record))
    assert reader.malformed == 1
    assert not reader.over.is_set()
    reader._take(msgspec.msgpack.encode(FrameRecord(0, 11, 1, 0, 0, 1.0)))
    assert len(reader._joiner.records) == 2, "the next one counts"


@given(
    st.recursive(
        st.none() | st.floats() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_format_is_a_description_or_refused(value: object) -> None:
    assert tracks.parse_end(value) is None
    with pytest.raises(RemoteError):
        tracks.parse_description(value)


async def test_a_subscriber_goes_on_after_malformed_records() -> None:
    writer, reader = a_channel([TEXT])
    async with frames_of(reader) as frames, aclosing(frames):
        for number in range(3):
            writer._record(b"\xff" + b"\x91" * 50_000)
            writer._record(msgspec.msgpack.encode(["f", 0, number, 0, 0, 0, NAN, 0]))
            writer.write(EncodedFrame(0, number * 1000, number * 1000, 1000, True, b"x"), time.time())
        writer.finish()
        received = [item async for item in frames]
    assert [item.number for item in received] == [0, 1, 2]
    assert reader.malformed == 6


@pytest.mark.parametrize("text", ["{", "[" * 50_000, '{"version": 1, "tracks": NaN}'])
async def test_a_format_that_is_not_json_is_a_remote_error(text: str) -> None:
    origin = moq.OriginProducer()
    broadcast = origin.create_broadcast(tracks.BROADCAST)
    group = broadcast.publish_track(tracks.FORMAT).append_group()
    group.write_frame(text.encode())
    broadcast.announce()
    reader = ChannelReader(origin, 1000.0, CopyCount(), time.time)
    with pytest.raises(RemoteError):
        await reader.open()


@pytest.mark.parametrize("wrong", [{"dts_us": 2**62}, {"pts_us": -(2**63)}, {"duration_us": -1}])
def test_a_frame_that_subscribers_would_refuse_is_not_published(wrong: dict[str, int]) -> None:
    writer = ChannelWriter(moq.OriginProducer(), [TEXT], CopyCount())
    frame = EncodedFrame(0, 0, 0, 1000, True, b"x")
    for name, value in wrong.items():
        object.__setattr__(frame, name, value)
    with pytest.raises(MediaError, match="out of range"):
        writer.write(frame, time.time())
    with pytest.raises(MediaError, match="out of range"):
        writer.write(EncodedFrame(0, 0, 0, 1000, True, b"x"), NAN)
