"""Tokens: what they permit, and that none can be forged, replayed or used for anything else."""

import stat
import time
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cubecast.errors import LocalError, TokenError
from cubecast.keys import KeyInUse, held_key, private_key
from cubecast.tokens.authority import CREDENTIAL_AGE_S, JOIN_TTL_S, Authority, Bearer, Verifier
from cubecast.tokens.identity import HOST_TOKEN_TTL_S, Identity, audience, verified_host
from cubecast.tokens.jws import LEEWAY_S, TOKEN_CHARS_MAX
from cubecast.tokens.permission import Permission
from cubecast.tokens.proof import NONCE_S, NonceNeeded, ProofChecker, prove
from cubecast.types import ChannelName, HostId

A, B, C, CLIP = HostId("a"), HostId("b"), HostId("c"), ChannelName("clip")
NOW_S = 1e9
"""The super-node's time; this machine's clock is far from it."""
PRINT = "ab" * 32
"""The fingerprint of B's certificate."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.load(tmp_path / "key.pem")


def identity_of(authority: Authority, host: HostId, now_s: float = NOW_S) -> Identity:
    identity = Identity()
    bearer = Bearer(host, Permission(publish="news*"), identity.public_key, "id", NOW_S + 3600)
    identity.credential = authority.credential(bearer, now_s)
    return identity


def at_b(authority: Authority, token: str, now_s: float = NOW_S, heard_s: float = NOW_S) -> Bearer:
    """What host B makes of a host token."""
    return verified_host(authority.verifier, token, audience(B, PRINT), now_s, heard_s)


def test_the_key_persists_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key.pem"
    token = Authority.load(path).join_token(Permission())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Authority.load(path).verifier.join(token).permission == Permission()
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


def test_a_key_file_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "host.pem"
    with held_key(path) as key:
        with pytest.raises(KeyInUse, match="in use by another process"), held_key(path):
            raise AssertionError("two hold it")
        first = key.public_key()
    with held_key(path) as key:
        assert key.public_key() == first


def test_a_join_token_carries_its_permission(authority: Authority) -> None:
    permission = Permission("cam-*", "news", "", "sport")
    rights = authority.verifier.join(authority.join_token(permission))
    assert rights.permission == permission
    assert abs(rights.expires_s - time.time() - JOIN_TTL_S) < 5
    assert rights.token_id != authority.verifier.join(authority.join_token(permission)).token_id
    assert permission.may("host", "cam-1")
    assert not permission.may("host", "other")
    assert not permission.may("subscribe", "news")


def test_a_host_token_proves_its_host_to_its_audience_only(authority: Authority) -> None:
    identity = identity_of(authority, A)
    bearer = at_b(authority, identity.token(B, PRINT, NOW_S))
    assert (bearer.host, bearer.key, bearer.permission.publish) == (A, identity.public_key, "news*")
    for token in (identity.token(C, PRINT, NOW_S), identity.token(B, "cd" * 32, NOW_S)):
        with pytest.raises(TokenError, match="another use"):
            at_b(authority, token)


def test_a_host_token_is_worth_nothing_after_its_time_by_the_super_nodes_clock(authority: Authority) -> None:
    token = identity_of(authority, A).token(B, PRINT, NOW_S)
    at_b(authority, token, NOW_S + HOST_TOKEN_TTL_S + LEEWAY_S)
    with pytest.raises(TokenError, match="expired"):
        at_b(authority, token, NOW_S + HOST_TOKEN_TTL_S + LEEWAY_S + 1)


def test_a_peer_cannot_use_a_token_it_received(authority: Authority) -> None:
    """B received A's token for B, with A's credential in it; B cannot make a token for C from it."""
    received = identity_of(authority, A).token(B, PRINT, NOW_S)
    attacker = identity_of(authority, B)
    attacker.credential = str(jwt.decode(received, options={"verify_signature": False})["credential"])
    with pytest.raises(TokenError, match="signed by another"):
        at_b(authority, attacker.token(B, PRINT, NOW_S))


def test_a_credential_is_worth_nothing_once_its_host_no_longer_gets_new_ones(authority: Authority) -> None:
    """It is compared with the verifier's own latest news: while the super-node is away, that stands still for all."""
    token = identity_of(authority, A).token(B, PRINT, NOW_S)
    at_b(authority, token, heard_s=NOW_S + CREDENTIAL_AGE_S)
    at_b(authority, token, heard_s=NOW_S - 3600)
    with pytest.raises(TokenError, match="has left"):
        at_b(authority, token, heard_s=NOW_S + CREDENTIAL_AGE_S + 1)


def test_tokens_of_another_super_node_are_refused(authority: Authority, tmp_path: Path) -> None:
    other = Authority.load(tmp_path / "other.pem")
    with pytest.raises(TokenError, match="another super-node"):
        authority.verifier.join(other.join_token(Permission()))
    with pytest.raises(TokenError, match="another super-node"):
        at_b(authority, identity_of(other, A).token(B, PRINT, NOW_S))
    content = b"a record"
    assert authority.verifier.is_signed(content, authority.sign_bytes(content))
    assert not authority.verifier.is_signed(content, other.sign_bytes(content))
    for signature in ("", "zz", "ab", "ab" * 64):
        assert not authority.verifier.is_signed(content, signature)


def test_one_kind_of_token_does_not_pass_for_another(authority: Authority) -> None:
    join, identity = authority.join_token(Permission()), identity_of(authority, A)
    checks: list[Callable[[], object]] = [
        lambda: authority.verifier.join(identity.credential),
        lambda: authority.verifier.join(identity.token(B, PRINT, NOW_S)),
        lambda: authority.verifier.credential(join, 0.0),
        lambda: at_b(authority, join),
        lambda: at_b(authority, identity.credential),
    ]
    for check in checks:
        with pytest.raises(TokenError):
            check()


@pytest.mark.parametrize(
    "token", ["", "x", "a.b.c", "é", "eyJhbGciOiJub25lIn0.e30.", "a" * (TOKEN_CHARS_MAX + 1), "\ud800.a.b", "." * 9]
)
def test_malformed_tokens_are_refused(authority: Authority, token: str) -> None:
    checks: list[Callable[[], object]] = [
        lambda: authority.verifier.join(token),
        lambda: authority.verifier.credential(token, 0.0),
        lambda: at_b(authority, token),
        lambda: ProofChecker().check(token, "GET", "/", b"", "", NOW_S),
    ]
    for check in checks:
        with pytest.raises(TokenError):
            check()


def test_an_unsigned_or_expired_token_is_refused(authority: Authority) -> None:
    claims = {"aud": "cubecast:join", "exp": time.time() + 60, "hosts": "*", "publish": "*", "subscribe": "*"}
    with pytest.raises(TokenError):
        authority.verifier.join(jwt.encode(claims, "", algorithm="none"))
    with pytest.raises(TokenError, match="expired 3600 s ago"):
        authority.verifier.join(authority.join_token(Permission(), ttl_s=-3600))


@pytest.mark.parametrize("value", [None, "soon", True, float("nan"), float("inf"), 1e300, []])
@pytest.mark.parametrize("claim", ["exp", "iat"])
def test_a_time_that_is_missing_or_no_finite_number_is_refused(tmp_path: Path, claim: str, value: object) -> None:
    """The token is valid but for this claim, so only the claim can be why it is refused."""
    path = tmp_path / "key.pem"
    verifier, key = Authority.load(path).verifier, private_key(path)
    claims: dict[str, object] = {
        "aud": "cubecast:credential",
        "sub": A,
        "key": Identity().public_key,
        "exp": NOW_S,
        "iat": NOW_S,
    }
    assert verifier.credential(jwt.encode(claims, key, algorithm="EdDSA"), NOW_S).host == A
    claims = (
        {name: each for name, each in claims.items() if name != claim} if value is None else claims | {claim: value}
    )
    with pytest.raises(TokenError):
        verifier.credential(jwt.encode(claims, key, algorithm="EdDSA"), NOW_S)


SCOPES = {"host": "hosts", "publish": "publish", "subscribe": "subscribe", "relay": "relay"}


@given(
    st.text(alphabet="ab*?[]", max_size=5),
    st.text(alphabet="ab", max_size=5),
    st.sampled_from(sorted(SCOPES)),
)
def test_a_permission_looks_at_the_pattern_of_its_scope_alone(pattern: str, name: str, scope: str) -> None:
    own = SCOPES[scope]
    nothing = Permission("", "", "", "")

    def with_own(base: Permission, pattern: str) -> Permission:
        hosts, publish, subscribe, relay = (pattern if x == own else str(getattr(base, x)) for x in SCOPES.values())
        return Permission(hosts, publish, subscribe, relay)

    if name:
        assert not with_own(Permission(), "").may(scope, name)
    assert with_own(nothing, "*").may(scope, name)
    assert with_own(nothing, pattern).may(scope, name) == with_own(Permission(), pattern).may(scope, name)


def test_a_channel_is_sent_to_those_who_may_subscribe_or_relay_or_have_a_job_for_it() -> None:
    for permission in (Permission("", "", "clip", ""), Permission("", "", "", "clip")):
        assert permission.may_receive(CLIP)
    nothing = Permission("*", "*", "", "")
    assert not nothing.may_receive(CLIP)
    assert nothing.with_jobs((CLIP,)).may_receive(CLIP)
    assert not nothing.with_jobs((CLIP,)).with_jobs(()).may_receive(CLIP)


def test_a_public_key_is_enough_to_verify(authority: Authority) -> None:
    verifier = Verifier(authority.verifier.public_key)
    credential = identity_of(authority, A).credential
    assert verifier.credential(credential, NOW_S).host == A
    stranger = Verifier(Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex())
    with pytest.raises(TokenError):
        stranger.credential(credential, NOW_S)
    for key in ("", "zz", "ab"):
        with pytest.raises(TokenError, match="no public key"):
            Verifier(key)


# ---------------------------------------------------------------- proofs of possession


def test_a_proof_shows_the_key_that_made_it_for_one_request_once() -> None:
    identity, checker = Identity(), ProofChecker()
    nonce = checker.nonce(NOW_S)
    proof = prove(identity, "POST", "/v1/hosts", b"{}", "token", nonce)
    for method, path, body, token in (
        ("GET", "/v1/hosts", b"{}", "token"),
        ("POST", "/v1/hosts?a=b", b"{}", "token"),
        ("POST", "/v1/hosts", b"{ }", "token"),
        ("POST", "/v1/hosts", b"{}", "another"),
    ):
        with pytest.raises(TokenError, match="another request"):
            checker.check(proof, method, path, body, token, NOW_S)
    assert checker.check(proof, "POST", "/v1/hosts", b"{}", "token", NOW_S) == identity.public_key
    with pytest.raises(TokenError, match="used before"):
        checker.check(proof, "POST", "/v1/hosts", b"{}", "token", NOW_S)


@given(st.floats(0, 3 * NONCE_S))
def test_a_proof_is_accepted_while_its_nonce_lives_and_only_once_whenever_it_comes_again(later_s: float) -> None:
    identity, checker = Identity(), ProofChecker()
    proof = prove(identity, "GET", "/", b"", "", checker.nonce(NOW_S))
    checker.check(proof, "GET", "/", b"", "", NOW_S)
    with pytest.raises(TokenError):
        checker.check(proof, "GET", "/", b"", "", NOW_S + later_s)


def test_a_proof_needs_a_current_nonce_of_this_super_node() -> None:
    identity, checker = Identity(), ProofChecker()
    for nonce in ("", "x", checker.nonce(NOW_S - 2 * NONCE_S), ProofChecker().nonce(NOW_S), "\u00e9"):
        with pytest.raises(NonceNeeded):
            checker.check(prove(identity, "GET", "/", b"", "", nonce), "GET", "/", b"", "", NOW_S)
    fresh = prove(identity, "GET", "/", b"", "", checker.nonce(NOW_S))
    assert checker.check(fresh, "GET", "/", b"", "", NOW_S + NONCE_S) == identity.public_key
