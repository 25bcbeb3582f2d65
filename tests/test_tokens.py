"""Tokens: what they permit, and that none can be forged, replayed or used for anything else."""

import stat
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cubecast.errors import LocalError, TokenError
from cubecast.keys import private_key
from cubecast.tokens import (
    CLOCK_LEEWAY_S,
    CREDENTIAL_TTL_S,
    GRANT_TTL_S,
    HOST_TOKEN_TTL_S,
    JOIN_TTL_S,
    SUPERNODE,
    Authority,
    Bearer,
    Identity,
    Permission,
    Verifier,
)
from cubecast.types import ChannelName, HostId

A, B, CLIP = HostId("a"), HostId("b"), ChannelName("clip")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.load(tmp_path / "key.pem")


def identity_of(authority: Authority, host: HostId) -> Identity:
    identity = Identity()
    identity.credential = authority.credential(host, identity.public_key, Permission(publish="news*"))
    return identity


def test_the_key_persists_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key.pem"
    token = Authority.load(path).join_token(Permission())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Authority.load(path).verifier.join(token) == Permission()
    assert [p.name for p in path.parent.iterdir()] == ["key.pem"]


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_file_without_a_key_is_refused_and_left_unchanged(tmp_path: Path, content: bytes) -> None:
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
    """B received A's token for B, with A's credential in it; B cannot make a token for C from it."""
    received = identity_of(authority, A).token(B)
    attacker = identity_of(authority, B)
    attacker.credential = str(jwt.decode(received, options={"verify_signature": False})["credential"])
    with pytest.raises(TokenError, match="signed by another"):
        authority.verifier.host(attacker.token(HostId("c")), HostId("c"))


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
def test_malformed_tokens_are_refused(authority: Authority, token: str) -> None:
    for check in (authority.verifier.join, lambda t: authority.verifier.host(t, B)):
        with pytest.raises(TokenError):
            check(token)


def test_an_unsigned_or_expired_token_is_refused(authority: Authority) -> None:
    claims = {"aud": "cubecast:join", "exp": time.time() + 60, "hosts": "*", "publish": "*", "subscribe": "*"}
    with pytest.raises(TokenError):
        authority.verifier.join(jwt.encode(claims, "", algorithm="none"))
    with pytest.raises(TokenError, match="expired"):
        authority.verifier.join(authority.join_token(Permission(), ttl_s=-3600))


@pytest.mark.parametrize("missing", ["exp", "aud"])
def test_a_token_without_expiry_or_audience_is_refused(tmp_path: Path, missing: str) -> None:
    """Each token is valid but for one claim, so only the missing claim can be why it is refused."""
    path = tmp_path / "key.pem"
    verifier = Authority.load(path).verifier
    key, identity = private_key(path), Identity()

    def signed(signer: Ed25519PrivateKey, claims: dict[str, object], *, whole: bool) -> str:
        claims = {"exp": time.time() + 60, **claims}
        return jwt.encode(
            {name: value for name, value in claims.items() if whole or name != missing}, signer, algorithm="EdDSA"
        )

    def join(whole: bool) -> Permission:
        permission = {"hosts": "*", "publish": "*", "subscribe": "*"}
        return verifier.join(signed(key, {"aud": "cubecast:join", **permission}, whole=whole))

    def grant(whole: bool) -> HostId:
        claims: dict[str, object] = {"aud": "cubecast:grant", "sub": A, "channel": CLIP}
        return verifier.grant(signed(key, claims, whole=whole), CLIP)

    def host(whole: bool, whole_credential: bool = True) -> Bearer:
        claims: dict[str, object] = {"aud": "cubecast:credential", "sub": A, "key": identity.public_key.hex()}
        credential = signed(key, claims, whole=whole_credential)
        return verifier.host(signed(identity._key, {"aud": B, "credential": credential}, whole=whole), B)

    assert join(whole=True) == Permission()
    assert grant(whole=True) == host(whole=True).host == A
    for check in (
        lambda: join(whole=False),
        lambda: grant(whole=False),
        lambda: host(whole=False),
        lambda: host(whole=True, whole_credential=False),
    ):
        with pytest.raises(TokenError):
            check()


@pytest.mark.parametrize(("late_s", "accepted"), [(0.5 * CLOCK_LEEWAY_S, True), (1.5 * CLOCK_LEEWAY_S, False)])
def test_expiry_tolerates_clocks_that_differ_by_the_leeway(authority: Authority, late_s: float, accepted: bool) -> None:
    token = authority.join_token(Permission(), ttl_s=-late_s)
    if accepted:
        assert authority.verifier.join(token) == Permission()
    else:
        with pytest.raises(TokenError, match="expired"):
            authority.verifier.join(token)


def test_every_issued_token_expires_after_its_documented_validity(authority: Authority) -> None:
    identity = identity_of(authority, A)
    before = time.time()
    for token, ttl_s in (
        (authority.join_token(Permission()), JOIN_TTL_S),
        (authority.grant(A, CLIP), GRANT_TTL_S),
        (authority.credential(A, identity.public_key, Permission()), CREDENTIAL_TTL_S),
        (identity.token(B), HOST_TOKEN_TTL_S),
    ):
        expiry = float(jwt.decode(token, options={"verify_signature": False})["exp"])
        assert before + ttl_s - 1 <= expiry <= time.time() + ttl_s + 1


@given(
    st.text(alphabet="ab*?[]", max_size=5),
    st.text(alphabet="ab", max_size=5),
    st.sampled_from(["host", "publish", "subscribe"]),
)
def test_a_permission_looks_at_the_pattern_of_its_scope_alone(pattern: str, name: str, scope: str) -> None:
    own = {"host": "hosts", "publish": "publish", "subscribe": "subscribe"}[scope]
    nothing = {"hosts": "", "publish": "", "subscribe": ""}
    everything = {"hosts": "*", "publish": "*", "subscribe": "*"}
    if name:
        assert not Permission(**{**everything, own: ""}).may(scope, name)
    assert Permission(**{**nothing, own: "*"}).may(scope, name)
    assert Permission(**{**nothing, own: pattern}).may(scope, name) == Permission(**{**everything, own: pattern}).may(
        scope, name
    )


def test_a_public_key_is_enough_to_verify(authority: Authority) -> None:
    verifier = Verifier(authority.verifier.public_key)
    assert verifier.grant(authority.grant(A, CLIP), CLIP) == A
    with pytest.raises(TokenError):
        Verifier(Ed25519PrivateKey.generate().public_key().public_bytes_raw()).grant(authority.grant(A, CLIP), CLIP)
