"""The wire format: decoding gives the message that was encoded, and malformed input raises MessageError only."""

from dataclasses import replace
from functools import partial
from typing import get_args

import msgspec
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from cubecast.engine.protocol import frames as f
from cubecast.engine.protocol import messages as m
from cubecast.engine.protocol.feasibility import FeasibilityDistance
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.ranges import HOPS_MAX, INTEGER_MAX, NUMBER_MAX, SEQNO_MAX
from cubecast.engine.protocol.records import HostRecord
from cubecast.errors import MessageError
from cubecast.types import ChannelName, HostId, Label
from tests.wire_values import unbounded, values

NAME, HEX = HostId("h"), "ab" * 32
RECORD = HostRecord(NAME, "h.example:1", HEX, HEX, Label(0))
messages: st.SearchStrategy[m.Message] = values(m.Message)


@given(messages)
def test_what_is_sent_is_what_arrives(message: m.Message) -> None:
    assert round_trip(message) == message


@given(st.lists(messages, max_size=30), st.integers(1, 20))
@settings(max_examples=20)
def test_what_is_sent_together_arrives_in_order_in_as_few_frames_as_fit(drawn: list[m.Message], times: int) -> None:
    sent = drawn * times
    frames = list(f.encode(sent))
    assert [message for frame in frames for message in f.decode(frame)] == sent
    assert all(len(frame) <= f.MESSAGE_BYTES_MAX for frame in frames)
    assert len(sent) == 0 or len(frames) >= 1
    if len(sent) <= f.FRAME_MESSAGES_MAX and sum(map(len, frames)) < f.MESSAGE_BYTES_MAX // 3:
        assert len(frames) == bool(sent)


def round_trip(message: m.Message) -> m.Message:
    (frame,) = f.encode([message])
    (again,) = f.decode(frame)
    return again


def is_a(kind: type, message: m.Message) -> bool:
    return isinstance(message, kind)


def test_every_kind_of_message_is_generated() -> None:
    search = settings(max_examples=2000, phases=[Phase.generate], database=None)
    for kind in get_args(m.Message):
        find(messages, partial(is_a, kind), settings=search)


@given(st.binary(max_size=300))
def test_garbage_is_refused(payload: bytes) -> None:
    with pytest.raises(MessageError):
        f.decode(payload)


def test_every_field_of_every_message_has_a_range() -> None:
    assert unbounded(f._Frame) == []


@pytest.mark.parametrize("deep", [b"\x91" * 60_000, b"\x81\xa1x" * 20_000])
def test_what_is_nested_too_deeply_is_refused(deep: bytes) -> None:
    with pytest.raises(MessageError):
        f.decode(deep)
    with pytest.raises(MessageError):
        f.decode(b"\x83\xa1v\x09\xa1m\x90\xa5later" + deep)


@given(messages, st.data())
def test_a_damaged_message_is_refused_or_another_message(message: m.Message, data: st.DataObject) -> None:
    payload = bytearray(b"".join(f.encode([message])))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        again = f.decode(bytes(payload))
    except MessageError:
        return
    assert [each for frame in f.encode(again) for each in f.decode(frame)] == list(again)


def test_unknown_fields_are_ignored_and_unknown_kinds_and_versions_refused() -> None:
    def pack(version: int, body: dict[str, object]) -> bytes:
        return msgspec.msgpack.encode({"v": version, "m": [body], "later": 1})

    assert f.decode(pack(f.VERSION, {"kind": "cancel", "ask": 3, "colour": "blue"})) == (m.Cancel(3),)
    with pytest.raises(MessageError, match="Invalid value 'dance'"):
        f.decode(pack(f.VERSION, {"kind": "dance"}))
    with pytest.raises(MessageError, match=f"version {f.VERSION + 1}"):
        f.decode(pack(f.VERSION + 1, {"kind": "cancel", "ask": 3}))


@pytest.mark.parametrize(
    "message",
    [
        m.Ping(float("nan")),
        m.Ping(float("inf")),
        m.PathRequest(1, ChannelName("c"), 0, Label(1), Contract(1.0), HOPS_MAX + 1, ()),
        m.PathRequest(1, ChannelName("c"), 0, Label(1), Contract(1.0), 1, (HostId("h"),) * (HOPS_MAX + 1)),
        m.PathOffer(1, ChannelName("c"), PathMetrics(-1.0, 0.0, (HostId("z"),)), 1),
        m.Confirm(1, ChannelName("c"), PathMetrics(1.0, -1.0, (HostId("z"),))),
        m.Confirm(1, ChannelName("c"), PathMetrics(1.0, 1.0, ())),
        m.Confirm(1, ChannelName("c"), PathMetrics(1.0, 1.0, (HostId("z"),), seqno=SEQNO_MAX + 1)),
        m.Attach(1, ChannelName("c"), Contract(1.0), ()),
        m.Attach(1, ChannelName("c"), Contract(float("nan")), (HostId("z"),)),
        m.Heartbeat((m.Carried(ChannelName("c"), PathMetrics(1.0, 1.0, (HostId("z"),))),) * (m.CARRIED_MAX + 1)),
        m.Heartbeat((m.Carried(ChannelName("c"), PathMetrics(-1.0, 1.0, (HostId("z"),))),)),
        m.Attach(1, ChannelName("c"), Contract(1.0, rate_bps=float("inf")), (HostId("z"),)),
        m.Confirm(1, ChannelName("c"), PathMetrics(1.0, 1.0, (HostId("z"),), loss=1.5)),
        m.Confirm(1, ChannelName("c"), PathMetrics(1.0, 1.0, (HostId("z"),), loss=-0.5)),
        m.Confirm(1, ChannelName("c"), PathMetrics(1.0, -0.5, (HostId("z"),))),
        m.Confirm(1, ChannelName("c"), PathMetrics(1.0, 1.0, (HostId("z"),), seqno=-1)),
        m.Confirm(1, ChannelName("c"), PathMetrics(1.0, 1.0, (HostId("z"),) * (HOPS_MAX + 1))),
        m.PathRequest(1, ChannelName("c"), 0, Label(1), Contract(1.0), -1, ()),
        m.Attach(1, ChannelName("c"), Contract(1.0), (HostId("z"),) * (HOPS_MAX + 1)),
        m.StandbyRequest(ChannelName("c"), (), HostId("p")),
        m.StandbyRequest(ChannelName("c"), (HostId("z"),) * (HOPS_MAX + 1), HostId("p")),
        m.Confirm(1, ChannelName("c"), PathMetrics(1.0, 1.0, (HostId("z"),), rate_bps=-1.0)),
        m.Relatives(ChannelName("c"), (RECORD,) * (m.RELATIVES_MAX + 1)),
        m.SubtreeContract(ChannelName("c"), Contract(float("inf"))),
        m.Attach(1, ChannelName("c"), Contract(1.0), (NAME,), FeasibilityDistance(SEQNO_MAX, -(2**63))),
        m.Attach(1, ChannelName("c"), Contract(1.0), (NAME,), FeasibilityDistance(SEQNO_MAX + 1, 0)),
        m.Attach(1, ChannelName("c"), Contract(1.0), (NAME,), FeasibilityDistance(0, 2**64 - 1)),
        m.Cancel(-1),
        m.Cancel(INTEGER_MAX + 1),
        m.Release(ChannelName("../x")),
        m.Release(ChannelName("c\n")),
        m.Release(ChannelName("c" * 65)),
        m.Ended(ChannelName("c"), False, NAME, "\x1b[2J"),
        m.Ended(ChannelName("c"), False, NAME, "two\nlines"),
        m.Ended(ChannelName("c"), False, NAME, "x" * 1025),
        m.Hello(replace(RECORD, fingerprint="AB" * 32)),
        m.Hello(replace(RECORD, key="ab" * 31)),
        m.Hello(replace(RECORD, seat=Label(-1))),
        m.Hello(replace(RECORD, fan_out=-1)),
        m.Hello(replace(RECORD, address="h.example:1?token=x")),
    ],
)
def test_values_out_of_range_are_refused(message: m.Message) -> None:
    with pytest.raises(MessageError):
        round_trip(message)


LONGEST = (HostId("h"),) * HOPS_MAX
GREATEST = PathMetrics(1.0, 1.0, LONGEST, seqno=SEQNO_MAX, loss=1.0, rate_bps=NUMBER_MAX)
LEAST = PathMetrics(0.0, 0.0, (HostId("h"),), seqno=0, loss=0.0, rate_bps=0.0)


@pytest.mark.parametrize(
    "message",
    [
        m.PathRequest(1, ChannelName("c"), 0, Label(1), Contract(NUMBER_MAX), HOPS_MAX, LONGEST),
        m.PathRequest(1, ChannelName("c"), 0, Label(1), Contract(0.0), 0, ()),
        m.Attach(1, ChannelName("c"), Contract(1.0), LONGEST),
        m.StandbyRequest(ChannelName("c"), LONGEST, HostId("p")),
        m.Confirm(1, ChannelName("c"), GREATEST),
        m.Confirm(1, ChannelName("c"), LEAST),
        m.Heartbeat((m.Carried(ChannelName("c"), LEAST),) * m.CARRIED_MAX),
        m.Relatives(ChannelName("c"), (RECORD,) * m.RELATIVES_MAX),
    ],
)
def test_the_greatest_and_least_values_in_range_arrive(message: m.Message) -> None:
    assert round_trip(message) == message


def test_a_frame_holds_256_messages_and_not_one_more() -> None:
    """The number is part of the protocol: a peer refuses a frame with more, so none is sent."""

    def frame(count: int) -> bytes:
        return msgspec.msgpack.encode({"v": f.VERSION, "m": [{"kind": "cancel", "ask": 3}] * count})

    assert f.decode(frame(256)) == (m.Cancel(3),) * 256
    with pytest.raises(MessageError, match="length <= 256"):
        f.decode(frame(257))
    assert [len(f.decode(sent)) for sent in f.encode([m.Cancel(3)] * 257)] == [256, 1]


def test_a_message_that_is_too_long_is_refused() -> None:
    with pytest.raises(MessageError, match="limit"):
        f.decode(bytes(f.MESSAGE_BYTES_MAX + 1))


def test_long_messages_go_in_several_frames_before_one_is_too_long_to_be_accepted() -> None:
    sent = [m.PathRefusal(ask, ChannelName("c"), "x" * 1000, 0) for ask in range(100)]
    frames = list(f.encode(sent))
    assert [message for frame in frames for message in f.decode(frame)] == sent


def test_a_channel_carried_by_a_host_that_names_no_spare_fan_out_has_none() -> None:
    carried = msgspec.to_builtins(m.Carried(ChannelName("c"), LEAST))
    carried.pop("spare")
    body = {"kind": "heartbeat", "carried": [carried]}
    (beat,) = f.decode(msgspec.msgpack.encode({"v": f.VERSION, "m": [body]}))
    assert isinstance(beat, m.Heartbeat)
    assert [each.spare for each in beat.carried] == [0]
