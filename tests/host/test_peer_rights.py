"""What a host believes of its peers: nothing that the super-node has not signed, and of their rights only what they show now."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from cubecast.engine.host import events as ev
from cubecast.engine.protocol.messages import Attach, Hello, Message, PathRequest, Relatives, StandbyRequest
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import HostRecord
from cubecast.errors import MessageError, TokenError
from cubecast.host.directory.supernode_time import SupernodeTime
from cubecast.host.peer_rights import PeerRights
from cubecast.tokens.authority import CREDENTIAL_AGE_S, Authority, Bearer
from cubecast.tokens.identity import Identity
from cubecast.tokens.permission import Permission
from cubecast.types import ORIGIN, ChannelName, HostId

ME, PEER, OTHER, NEWS = HostId("me"), HostId("peer"), HostId("other"), ChannelName("news")
NOW_S, PRINT = 1e9, "ab" * 32
REQUESTS = (
    PathRequest(7, NEWS, 1, ORIGIN, Contract(100.0), 5, (PEER,)),
    Attach(7, NEWS, Contract(100.0), (PEER,)),
    StandbyRequest(NEWS, (PEER,), OTHER),
)


class Scene:
    """A super-node's signature, this host, and a peer with some permission."""

    def __init__(self, folder: Path, permission: Permission) -> None:
        self.authority = Authority.load(folder / "key.pem")
        self.time = SupernodeTime()
        self.time.heard(NOW_S)
        self.rights = PeerRights(ME, Identity(), self.time)
        self.rights.trust(self.authority.verifier, PRINT)
        self.identity = Identity()
        self.issue(permission)
        self.peer = PeerRights(PEER, self.identity, self.time)

    def issue(self, permission: Permission, now_s: float = NOW_S, host: HostId = PEER) -> None:
        bearer = Bearer(host, permission, self.identity.public_key, "id", NOW_S + 3600)
        self.identity.credential = self.authority.credential(bearer, now_s)

    def record(self, host: HostId = PEER, signed: bool = True) -> HostRecord:
        record = HostRecord(host, "127.0.0.1:1", PRINT, "cd" * 32, ORIGIN, version=5)
        if not signed:
            return record
        return replace(record, signature=self.authority.sign_bytes(record.signed_content()))

    def receive(self, message: Message) -> ev.Received | ev.RequestRejected:
        return self.rights.received(PEER, message)


@pytest.mark.parametrize("request_message", REQUESTS, ids=lambda message: type(message).__name__)
def test_whoever_asks_for_a_channel_shows_the_right_to_receive_it(tmp_path: Path, request_message: Message) -> None:
    scene = Scene(tmp_path, Permission("*", "*", "", ""))
    sent = scene.peer.signed(request_message)
    assert isinstance(scene.receive(sent), ev.RequestRejected), "neither subscribe nor relay"
    for permission in (
        Permission("*", "", "news", ""),
        Permission("*", "", "", "news"),
        Permission("*", "", "", "").with_jobs((NEWS,)),
    ):
        scene.issue(permission)
        assert scene.receive(scene.peer.signed(request_message)) == ev.Received(
            PEER, scene.peer.signed(request_message)
        )
    assert isinstance(scene.receive(request_message), ev.RequestRejected), "without a credential"


@pytest.mark.parametrize("request_message", REQUESTS, ids=lambda message: type(message).__name__)
def test_a_request_with_what_belongs_to_another_or_has_ended_is_rejected(
    tmp_path: Path, request_message: Message
) -> None:
    scene = Scene(tmp_path, Permission())
    scene.issue(Permission(), host=OTHER)
    rejected = scene.receive(scene.peer.signed(request_message))
    assert isinstance(rejected, ev.RequestRejected)
    assert "credential of host other" in rejected.reason
    scene.issue(Permission())
    scene.time.heard(NOW_S + CREDENTIAL_AGE_S + 1)
    rejected = scene.receive(scene.peer.signed(request_message))
    assert isinstance(rejected, ev.RequestRejected)
    assert "has left" in rejected.reason
    assert isinstance(scene.receive(msgspec.structs.replace(request_message, credential="x" * 100)), ev.RequestRejected)


def test_a_record_that_the_super_node_did_not_sign_is_not_believed(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Permission())
    good = scene.record()
    assert scene.receive(Hello(good)) == ev.Received(PEER, Hello(good))
    other = scene.record(OTHER)
    assert scene.receive(Relatives(NEWS, (other, good))) == ev.Received(PEER, Relatives(NEWS, (other, good)))
    changes: tuple[dict[str, object], ...] = (
        {"address": "127.0.0.1:2"},
        {"fingerprint": "ee" * 32},
        {"key": "ee" * 32},
        {"version": 6},
        {"reachable": False},
        {"fan_out": 9},
        {"seat": 1},
        {"signature": ""},
    )
    for change in changes:
        with pytest.raises(MessageError, match="not signed"):
            scene.receive(Hello(replace(good, **change)))  # type: ignore[arg-type]
        with pytest.raises(MessageError, match="not signed"):
            scene.receive(Relatives(NEWS, (good, replace(other, **change))))  # type: ignore[arg-type]
    with pytest.raises(MessageError, match="introduces itself as other"):
        scene.receive(Hello(other))


def test_a_token_is_for_one_peer_with_one_certificate(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Permission())
    me = HostRecord(ME, "127.0.0.1:1", PRINT, "", ORIGIN)
    assert scene.rights.bearer(scene.peer.token(me)).host == PEER
    for record in (replace(me, host=OTHER), replace(me, fingerprint="ee" * 32)):
        with pytest.raises(TokenError, match="another use"):
            scene.rights.bearer(scene.peer.token(record))


def test_a_host_that_may_relay_a_channel_may_not_subscribe_to_it_for_that(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Permission("*", "*", "sport", "*"))
    assert not scene.peer.may_subscribe(NEWS)
    assert scene.peer.may_subscribe(ChannelName("sport"))
    scene.issue(Permission("*", "*", "sport", "*").with_jobs((NEWS,)))
    assert scene.peer.may_subscribe(NEWS)
