"""Tokens: which hosts may join, publish and subscribe. JWTs (RFC 7519) signed with Ed25519 (RFC 8037).

- Join token: the super-node's owner gives it to a person. It names the hosts that may join with it, and the channels
  that they may publish and subscribe to.
- Credential: the super-node issues it to a host that joins. It contains the host's name, its public key, and the
  permissions of its join token.
- Host token: a host signs it itself for one audience, a peer or the super-node, and includes its credential. The peer
  that receives it cannot use it with any other host, because of the audience.
- Grant: the super-node issues it when a host resolves a channel. It permits this host to subscribe to this channel and
  is sent with each path request.
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
"""Validity of a join token unless its maker chooses another, s: one year."""
CREDENTIAL_TTL_S = 86_400.0
"""Validity of a credential, s: one day."""
GRANT_TTL_S = 90 * 86_400.0
"""Validity of a grant, s: 90 days, because a stream needs its grant for every repair as long as it runs."""
HOST_TOKEN_TTL_S = 300.0
"""Validity of a host token, s: it is made anew for every connection."""
CLOCK_LEEWAY_S = 60.0
"""Difference between the clocks of signer and verifier that is tolerated when an expiry is checked, s."""

_ALGORITHM = "EdDSA"
_JOIN, _CREDENTIAL, _GRANT = "cubecast:join", "cubecast:credential", "cubecast:grant"


@dataclass(frozen=True, slots=True)
class Permission:
    """What a token allows.

    Attributes:
        hosts: glob pattern of the host names that may join.
        publish: glob pattern of the channels that may be published.
        subscribe: glob pattern of the channels that may be subscribed to.
    """

    hosts: str = "*"
    publish: str = "*"
    subscribe: str = "*"

    def may(self, scope: str, name: str) -> bool:
        """Whether a name is allowed in a scope, one of host, publish, subscribe; an empty pattern allows no name."""
        pattern = {"host": self.hosts, "publish": self.publish, "subscribe": self.subscribe}[scope]
        return fnmatchcase(name, pattern)


@dataclass(frozen=True, slots=True)
class Bearer:
    """A host whose host token was verified."""

    host: HostId
    permission: Permission
    key: bytes
    """Its public key, 32 raw bytes."""


class Authority:
    """Issues tokens, signed with the super-node's private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.verifier = Verifier(key.public_key().public_bytes_raw())

    @classmethod
    def load(cls, path: Path) -> "Authority":
        """An authority with the key in a PEM file; creates the file, readable by its owner only, if it does not exist.

        Raises:
            LocalError: the file cannot be read or written, or contains no Ed25519 key.
        """
        return cls(private_key(path))

    def join_token(self, permission: Permission, ttl_s: float = JOIN_TTL_S) -> str:
        """A join token, valid for `ttl_s` seconds."""
        return self._sign({"aud": _JOIN, "exp": time.time() + ttl_s, **_claims(permission)})

    def credential(self, host: HostId, key: bytes, permission: Permission) -> str:
        """The credential of a host that joined; `key` is its public key, 32 raw bytes."""
        expiry = time.time() + CREDENTIAL_TTL_S
        return self._sign({"aud": _CREDENTIAL, "sub": host, "key": key.hex(), "exp": expiry, **_claims(permission)})

    def grant(self, host: HostId, channel: ChannelName) -> str:
        """A grant: the host may subscribe to this channel."""
        return self._sign({"aud": _GRANT, "sub": host, "channel": channel, "exp": time.time() + GRANT_TTL_S})

    def _sign(self, claims: dict[str, object]) -> str:
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)


class Identity:
    """A host's own key pair, created when the process starts, and its credential, empty before it joined."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.public_key = self._key.public_key().public_bytes_raw()
        self.credential = ""

    def token(self, audience: HostId) -> str:
        """A host token for one peer or for SUPERNODE, valid for HOST_TOKEN_TTL_S."""
        claims = {"aud": audience, "exp": time.time() + HOST_TOKEN_TTL_S, "credential": self.credential}
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)


class Verifier:
    """Checks tokens against the super-node's public key, 32 raw bytes."""

    def __init__(self, public_key: bytes) -> None:
        self.public_key = public_key
        self._key = Ed25519PublicKey.from_public_bytes(public_key)

    def join(self, token: str) -> Permission:
        """The permission that a join token gives.

        Raises:
            TokenError: not a join token of this super-node, without an expiry, or expired.
        """
        return _permission(_decode(token, self._key, _JOIN))

    def host(self, token: str, audience: HostId) -> Bearer:
        """The host that signed a host token for this audience.

        Raises:
            TokenError: malformed, expired, for another audience, or its credential was not issued by this super-node.
        """
        unverified = _unverified_claims(token)
        credential = _decode(str(unverified.get("credential", "")), self._key, _CREDENTIAL)
        try:
            raw = bytes.fromhex(str(credential.get("key", "")))
            key = Ed25519PublicKey.from_public_bytes(raw)
        except ValueError as error:
            raise TokenError("the credential contains no public key") from error
        _decode(token, key, audience)
        return Bearer(HostId(str(credential["sub"])), _permission(credential), raw)

    def grant(self, token: str, channel: ChannelName) -> HostId:
        """The host that a grant permits to subscribe to the channel.

        Raises:
            TokenError: malformed, expired, for another channel, or not issued by this super-node.
        """
        claims = _decode(token, self._key, _GRANT)
        if claims.get("channel") != channel:
            raise TokenError(f"the grant is not for channel {channel!r}")
        return HostId(str(claims["sub"]))


def _claims(permission: Permission) -> dict[str, object]:
    return {"hosts": permission.hosts, "publish": permission.publish, "subscribe": permission.subscribe}


def _permission(claims: dict[str, object]) -> Permission:
    return Permission(*(str(claims.get(name, "")) for name in ("hosts", "publish", "subscribe")))


def _unverified_claims(token: str) -> dict[str, object]:
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
            options={"require": ["exp"]},  # `aud` is required already, because an audience is given
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
