"""Tokens: who may do what, and what cannot be forged, replayed or stretched."""

import stat
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cubecast.errors import LocalError, TokenError
from cubecast.tokens import SUPERNODE, Authority, Identity, Permission, Verifier
from cubecast.types import ChannelName, HostId

A, B, CLIP = HostId("a"), HostId("b"), ChannelName("clip")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.load(tmp_path / "key.pem")


def identity_of(authority: Authority, host: HostId) -> Identity:
    identity = Identity()
    identity.credential = authority.credential(host, identity.public_key, Permission(publish="news*"))
    return identity


def test_the_key_lasts_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key.pem"
    token = Authority.load(path).join_token(Permission())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Authority.load(path).verifier.join(token) == Permission()
    assert [p.name for p in path.parent.iterdir()] == ["key.pem"]


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_file_that_is_no_key_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(LocalError, match="no private key"):
        Authority.load(path)
    assert path.read_bytes() == content


def test_a_join_token_carries_its_permission(authority: Authority) -> None:
    permission = Permission("cam-*", "news", "")
    assert authority.verifier.join(authority.join_token(permission)) == permission
    assert permission.may("host", "cam-1")
    assert not permission.may("host", "other")
    assert not permission.may("subscribe", "news")


def test_a_host_token_proves_its_host_to_its_audience_only(authority: Authority) -> None:
    identity = identity_of(authority, A)
    bearer = authority.verifier.host(identity.token(B), B)
    assert (bearer.host, bearer.key) == (A, identity.public_key)
    with pytest.raises(TokenError, match="another use"):
        authority.verifier.host(identity.token(B), SUPERNODE)


def test_a_peer_cannot_use_a_token_it_received(authority: Authority) -> None:
    """B holds A's token for B, and A's credential inside it; it can make nothing of them for C."""
    received = identity_of(authority, A).token(B)
    thief = identity_of(authority, B)
    thief.credential = str(jwt.decode(received, options={"verify_signature": False})["credential"])
    with pytest.raises(TokenError, match="signed by another"):
        authority.verifier.host(thief.token(HostId("c")), HostId("c"))


def test_tokens_of_another_super_node_are_refused(authority: Authority, tmp_path: Path) -> None:
    other = Authority.load(tmp_path / "other.pem")
    with pytest.raises(TokenError, match="another super-node"):
        authority.verifier.join(other.join_token(Permission()))
    with pytest.raises(TokenError, match="another super-node"):
        authority.verifier.host(identity_of(other, A).token(B), B)
    with pytest.raises(TokenError, match="another super-node"):
        authority.verifier.grant(other.grant(A, CLIP), CLIP)


def test_one_kind_of_token_does_not_pass_for_another(authority: Authority) -> None:
    join, grant = authority.join_token(Permission()), authority.grant(A, CLIP)
    for check in (
        lambda: authority.verifier.join(grant),
        lambda: authority.verifier.grant(join, CLIP),
        lambda: authority.verifier.host(join, B),
        lambda: authority.verifier.join(identity_of(authority, A).credential),
        lambda: authority.verifier.grant(grant, ChannelName("other")),
    ):
        with pytest.raises(TokenError):
            check()
    assert authority.verifier.grant(grant, CLIP) == A


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é", "eyJhbGciOiJub25lIn0.e30."])
def test_what_is_no_token_is_refused(authority: Authority, token: str) -> None:
    for check in (authority.verifier.join, lambda t: authority.verifier.host(t, B)):
        with pytest.raises(TokenError):
            check(token)


def test_an_unsigned_or_expired_token_is_refused(authority: Authority) -> None:
    claims = {"aud": "cubecast:join", "exp": time.time() + 60, "hosts": "*", "publish": "*", "subscribe": "*"}
    with pytest.raises(TokenError):
        authority.verifier.join(jwt.encode(claims, "", algorithm="none"))
    with pytest.raises(TokenError, match="expired"):
        authority.verifier.join(authority.join_token(Permission(), ttl_s=-3600))


def test_a_public_key_is_enough_to_verify(authority: Authority) -> None:
    verifier = Verifier(authority.verifier.public_key)
    assert verifier.grant(authority.grant(A, CLIP), CLIP) == A
    with pytest.raises(TokenError):
        Verifier(Ed25519PrivateKey.generate().public_key().public_bytes_raw()).grant(authority.grant(A, CLIP), CLIP)
