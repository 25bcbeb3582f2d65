"""Tokens: who may join, publish and subscribe. JWTs (RFC 7519) signed with Ed25519 (RFC 8037).

- A join token is given to a person by the super-node's owner: which host names, channels to publish and to subscribe.
- A credential is given to a host when it joins: its name, its public key, and what its join token allowed.
- A host token is signed by the host itself for one audience, a peer or the super-node, and carries the credential; a
  peer that receives one can therefore not use it anywhere else.
- A grant is given when a channel is resolved: this host may subscribe to this channel. It travels with path requests.
"""

import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cubecast.errors import TokenError
from cubecast.keys import private_key
from cubecast.types import ChannelName, HostId

SUPERNODE = HostId("supernode")
"""The audience of host tokens meant for the super-node."""
JOIN_TTL_S = 365 * 86_400.0
CREDENTIAL_TTL_S = 86_400.0
GRANT_TTL_S = 90 * 86_400.0
"""A stream may need its grant for every repair as long as it runs."""
HOST_TOKEN_TTL_S = 300.0
CLOCK_LEEWAY_S = 60.0

_ALGORITHM = "EdDSA"
_JOIN, _CREDENTIAL, _GRANT = "cubecast:join", "cubecast:credential", "cubecast:grant"


@dataclass(frozen=True, slots=True)
class Permission:
    """What a token allows: glob patterns of host names and of channels."""

    hosts: str = "*"
    publish: str = "*"
    subscribe: str = "*"

    def may(self, scope: str, name: str) -> bool:
        """Whether a name is allowed under a scope; an empty pattern allows none."""
        pattern = {"host": self.hosts, "publish": self.publish, "subscribe": self.subscribe}[scope]
        return fnmatchcase(name, pattern)


@dataclass(frozen=True, slots=True)
class Bearer:
    """A host that proved who it is."""

    host: HostId
    permission: Permission
    key: bytes
    """Its public key, raw."""


class Authority:
    """The super-node's signing key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.verifier = Verifier(key.public_key().public_bytes_raw())

    @classmethod
    def load(cls, path: Path) -> "Authority":
        """The key in a PEM file; makes the file, readable by its owner only, on first use.

        Raises:
            LocalError: the file cannot be read or written, or holds no Ed25519 key.
        """
        return cls(private_key(path))

    def join_token(self, permission: Permission, ttl_s: float = JOIN_TTL_S) -> str:
        """A token for people to join with."""
        return self._sign({"aud": _JOIN, "exp": time.time() + ttl_s, **_claims(permission)})

    def credential(self, host: HostId, key: bytes, permission: Permission) -> str:
        """What a joined host shows of itself; `key` is its raw public key, 32 bytes."""
        expiry = time.time() + CREDENTIAL_TTL_S
        return self._sign({"aud": _CREDENTIAL, "sub": host, "key": key.hex(), "exp": expiry, **_claims(permission)})

    def grant(self, host: HostId, channel: ChannelName) -> str:
        """Permission for a host to subscribe to one channel."""
        return self._sign({"aud": _GRANT, "sub": host, "channel": channel, "exp": time.time() + GRANT_TTL_S})

    def _sign(self, claims: dict[str, object]) -> str:
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)


class Identity:
    """A host's own key; one a process."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.public_key = self._key.public_key().public_bytes_raw()
        self.credential = ""

    def token(self, audience: HostId) -> str:
        """A host token for one peer, or for SUPERNODE; short-lived."""
        claims = {"aud": audience, "exp": time.time() + HOST_TOKEN_TTL_S, "credential": self.credential}
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)


class Verifier:
    """Checks tokens against the super-node's public key, 32 raw bytes."""

    def __init__(self, public_key: bytes) -> None:
        self.public_key = public_key
        self._key = Ed25519PublicKey.from_public_bytes(public_key)

    def join(self, token: str) -> Permission:
        """What a join token allows.

        Raises:
            TokenError: not a join token of this super-node, or expired.
        """
        return _permission(_decode(token, self._key, _JOIN))

    def host(self, token: str, audience: HostId) -> Bearer:
        """Who signed a host token for this audience.

        Raises:
            TokenError: malformed, expired, meant for someone else, or its credential is not this super-node's.
        """
        unsafe = _unverified(token)
        credential = _decode(str(unsafe.get("credential", "")), self._key, _CREDENTIAL)
        try:
            raw = bytes.fromhex(str(credential.get("key", "")))
            key = Ed25519PublicKey.from_public_bytes(raw)
        except ValueError as error:
            raise TokenError("the credential holds no public key") from error
        _decode(token, key, audience)
        return Bearer(HostId(str(credential["sub"])), _permission(credential), raw)

    def grant(self, token: str, channel: ChannelName) -> HostId:
        """The subscriber that a grant allows into the channel.

        Raises:
            TokenError: malformed, expired, another channel's, or not this super-node's.
        """
        claims = _decode(token, self._key, _GRANT)
        if claims.get("channel") != channel:
            raise TokenError(f"the grant is not for channel {channel!r}")
        return HostId(str(claims["sub"]))


def _claims(permission: Permission) -> dict[str, object]:
    return {"hosts": permission.hosts, "publish": permission.publish, "subscribe": permission.subscribe}


def _permission(claims: dict[str, object]) -> Permission:
    return Permission(*(str(claims.get(name, "")) for name in ("hosts", "publish", "subscribe")))


def _unverified(token: str) -> dict[str, object]:
    try:
        claims: dict[str, object] = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        raise TokenError("not a token; get one with `cubecast token`") from error
    return claims


def _decode(token: str, key: Ed25519PublicKey, audience: str) -> dict[str, object]:
    try:
        claims: dict[str, object] = jwt.decode(
            token,
            key,
            algorithms=[_ALGORITHM],
            audience=audience,
            leeway=CLOCK_LEEWAY_S,
            options={"require": ["exp", "aud"]},
        )
    except jwt.ExpiredSignatureError as error:
        raise TokenError("the token has expired; get a new one with `cubecast token`") from error
    except jwt.InvalidAudienceError as error:
        raise TokenError("the token is meant for another use") from error
    except jwt.InvalidSignatureError as error:
        raise TokenError("the token was signed by another super-node") from error
    except jwt.PyJWTError as error:
        raise TokenError("not a token; get one with `cubecast token`") from error
    return claims
