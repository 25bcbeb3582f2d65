"""What a host does with frames of its peers that are no messages."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.engine.host.engine import HostEngine
from cubecast.engine.protocol import frames
from cubecast.engine.protocol.messages import Cancel, Hello
from cubecast.engine.protocol.records import HostRecord
from cubecast.errors import MessageError
from cubecast.host.directory.supernode_time import SupernodeTime
from cubecast.host.peer_rights import PeerRights
from cubecast.host.plane_events import UNDECODABLE, UNPROVED, PlaneEvents
from cubecast.overlay.routing import Policy
from cubecast.tokens.authority import Authority
from cubecast.tokens.identity import Identity
from cubecast.types import ORIGIN, HostId

ME, PEER = HostId("me"), HostId("peer")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.load(Path(tmp_path_factory.mktemp("authority")) / "key.pem")


def hooks(authority: Authority, handled: list[object]) -> PlaneEvents:
    rights = PeerRights(ME, Identity(), SupernodeTime())
    rights.trust(authority.verifier, "ab" * 32)
    engine = HostEngine(ME, Policy.GREEDY, 8, np.random.default_rng(0))
    return PlaneEvents(engine, rights, lambda *events: handled.extend(events), lambda _: None)


@given(st.binary(max_size=200) | st.sampled_from([b"\x91" * 60_000, bytes(70_000)]))
def test_bytes_that_are_no_frame_are_counted_and_nothing_is_done(authority: Authority, payload: bytes) -> None:
    handled: list[object] = []
    events = hooks(authority, handled)
    with pytest.raises(MessageError):
        events.message(PEER, payload)
    assert handled == []
    assert events.malformed == {UNDECODABLE: 1}


def test_a_frame_with_a_record_that_is_not_signed_is_counted_by_its_kind_and_dropped_as_a_whole(
    authority: Authority,
) -> None:
    handled: list[object] = []
    events = hooks(authority, handled)
    record = HostRecord(PEER, "h.example:1", "ab" * 32, "ab" * 32, ORIGIN, signature="ab" * 64)
    (frame,) = frames.encode([Cancel(1), Hello(record)])
    with pytest.raises(MessageError):
        events.message(PEER, frame)
    with pytest.raises(MessageError):
        events.message(PEER, msgspec.msgpack.encode({"v": frames.VERSION, "m": [{"kind": "cancel", "ask": -1}]}))
    assert handled == []
    assert events.malformed == {UNPROVED: 1, UNDECODABLE: 1}
    assert events.malformed_messages == 2
