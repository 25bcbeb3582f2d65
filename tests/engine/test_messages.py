"""The wire format: what we send is what arrives, and garbage is refused in one way."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.engine import messages as m
from cubecast.errors import MessageError
from cubecast.types import ChannelName, HostId, Label

names = st.text(max_size=20)
times = st.floats(-1e9, 1e9)
delays = st.floats(0, 1e9)
numbers = st.integers(0, 2**31)
tries = st.integers(0, m.HOPS_MAX)

paths = st.lists(numbers.map(Label), min_size=1, max_size=20).map(tuple)
reaches = st.builds(
    m.Reach, delay_ms=delays, spread_ms=delays, path=paths, clock_offset_ms=times, clock_uncertainty_ms=delays
)
channels = names.map(ChannelName)
messages = st.one_of(
    st.builds(m.Beat),
    st.builds(m.Ping, sent_s=times),
    st.builds(m.Pong, sent_s=times, seen_s=times),
    st.builds(
        m.PathRequest,
        ask=numbers,
        channel=names.map(ChannelName),
        at=numbers.map(Label),
        target=numbers.map(Label),
        budget_ms=times,
        tries=tries,
        trail=st.lists(names.map(HostId), max_size=10).map(tuple),
        grant=names,
    ),
    st.builds(m.PathOffer, ask=numbers, channel=channels, reach=reaches, tries=tries),
    st.builds(m.PathRefusal, ask=numbers, channel=names.map(ChannelName), reason=names, tries=tries),
    st.builds(m.Cancel, ask=numbers),
    st.builds(m.Commit, ask=numbers),
    st.builds(m.Confirm, ask=numbers, channel=channels, reach=reaches),
    st.builds(m.Release, channel=names.map(ChannelName)),
    st.builds(m.Ended, channel=names.map(ChannelName), finished=st.booleans(), host=names.map(HostId), reason=names),
    st.builds(m.Goodbye),
)


@given(messages)
def test_what_is_sent_is_what_arrives(message: m.Message) -> None:
    assert m.decode(m.encode(message)) == message


@given(st.binary(max_size=300))
def test_garbage_is_refused(payload: bytes) -> None:
    with pytest.raises(MessageError):
        m.decode(payload)


@given(messages, st.data())
def test_a_damaged_message_is_refused_or_another_message(message: m.Message, data: st.DataObject) -> None:
    payload = bytearray(m.encode(message))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        again = m.decode(bytes(payload))
    except MessageError:
        return
    assert m.decode(m.encode(again)) == again


def test_unknown_fields_are_ignored_and_unknown_kinds_and_versions_refused() -> None:
    def pack(version: int, body: dict[str, object]) -> bytes:
        return msgspec.msgpack.encode({"v": version, "m": body, "later": 1})

    assert m.decode(pack(1, {"kind": "cancel", "ask": 3, "colour": "blue"})) == m.Cancel(3)
    with pytest.raises(MessageError, match="Invalid value 'dance'"):
        m.decode(pack(1, {"kind": "dance"}))
    with pytest.raises(MessageError, match="version 2"):
        m.decode(pack(2, {"kind": "cancel", "ask": 3}))


@pytest.mark.parametrize(
    "message",
    [
        m.Ping(float("nan")),
        m.Ping(float("inf")),
        m.PathRequest(1, ChannelName("c"), Label(0), Label(1), 1.0, m.HOPS_MAX + 1, (), ""),
        m.PathRequest(1, ChannelName("c"), Label(0), Label(1), 1.0, 1, (HostId("h"),) * (m.HOPS_MAX + 1), ""),
        m.PathOffer(1, ChannelName("c"), m.Reach(-1.0, 0.0, (Label(0),)), 1),
        m.Confirm(1, ChannelName("c"), m.Reach(1.0, -1.0, (Label(0),))),
        m.Confirm(1, ChannelName("c"), m.Reach(1.0, 1.0, ())),
    ],
)
def test_values_out_of_range_are_refused(message: m.Message) -> None:
    with pytest.raises(MessageError):
        m.decode(m.encode(message))


def test_a_message_that_is_too_long_is_refused() -> None:
    with pytest.raises(MessageError, match="limit"):
        m.decode(bytes(m.MESSAGE_BYTES_MAX + 1))
