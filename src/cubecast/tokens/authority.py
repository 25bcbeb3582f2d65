"""The super-node's signatures: on join tokens, credentials and host records.

- Join token: the super-node's owner gives it to a person. It names the hosts that may join with it, and the channels
  that they may publish, subscribe to and relay, and, unless a public authority vouches for it, the super-node's certificate.
- Credential: the super-node issues it to a host that joins and with every refresh. It contains the host's name, its public
  key, the permissions of its join token, and the time of issue. A host that is still in has a new one; another host
  accepts one that was issued shortly before it last heard from the super-node itself, or later. So what was issued to a
  host that has left, or whose rights have ended, is worth nothing after seconds, and while the super-node is away, all
  stay as they are. No clock but the super-node's takes part.
"""

import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cubecast.errors import TokenError
from cubecast.keys import private_key
from cubecast.tokens.jws import check_expiry, number, public_key, sign, text, verify
from cubecast.tokens.permission import Permission
from cubecast.tokens.quota import DEFAULT_QUOTA, Quota
from cubecast.types import HostId

JOIN_TTL_S = 365 * 86_400.0
"""Validity of a join token unless its maker chooses another, s: one year."""
CREDENTIAL_AGE_S = 20.0
"""How long before a verifier last heard from the super-node a credential may have been issued, s.

A host renews its own every 2 s; a lease is 6 s, and a call to the super-node that is slow or retried takes some seconds more."""

JOIN, CREDENTIAL, RECORD = "cubecast:join", "cubecast:credential", "cubecast:record"


@dataclass(frozen=True, slots=True)
class JoinRights:
    """What a join token gives: its permission, until a time, s since the Unix epoch, under an id by which it is revoked."""

    permission: Permission
    token_id: str
    expires_s: float
    quota: Quota = DEFAULT_QUOTA


@dataclass(frozen=True, slots=True)
class Bearer:
    """A host that has shown its credential, and proved that it holds the key in it."""

    host: HostId
    permission: Permission
    key: str
    """Its public key, hex."""
    token_id: str = ""
    """Of the join token that it joined with."""
    expires_s: float = 1e12
    """When that token expires, s since the Unix epoch."""
    quota: Quota = DEFAULT_QUOTA
    """Of that token."""


class Authority:
    """Signs with the super-node's private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.verifier = Verifier(key.public_key().public_bytes_raw().hex())

    @classmethod
    def load(cls, path: Path) -> "Authority":
        """An authority with the key in a PEM file; creates the file, readable by its owner only, if it does not exist.

        Raises:
            LocalError: the file cannot be read or written, or contains no Ed25519 key.
        """
        return cls(private_key(path))

    def join_token(
        self,
        permission: Permission,
        ttl_s: float = JOIN_TTL_S,
        pin: str = "",
        quota: Quota = DEFAULT_QUOTA,
    ) -> str:
        """A join token, valid for `ttl_s` seconds.

        Args:
            pin: SHA-256 fingerprint, hex, of the only certificate that its holder trusts as the super-node's; empty for any
                that the holder's system trusts.
            quota: how much its holders may use of the super-node.
        """
        claims = {"aud": JOIN, "exp": time.time() + ttl_s, "jti": secrets.token_hex(8)}
        pinned = {"pin": pin} if pin else {}
        return sign({**claims, **permission.claims(), **quota.claims(), **pinned}, self._key)

    def credential(self, bearer: Bearer, now_s: float) -> str:
        """The credential of a host.

        Args:
            now_s: the super-node's time, s since the Unix epoch.
        """
        return sign(
            {
                "aud": CREDENTIAL,
                "sub": bearer.host,
                "key": bearer.key,
                "iat": now_s,
                "exp": bearer.expires_s,
                "jti": bearer.token_id,
                **bearer.permission.claims(),
                **bearer.quota.claims(),
            },
            self._key,
        )

    def sign_bytes(self, content: bytes) -> str:
        """A bare signature, hex."""
        return self._key.sign(content).hex()


class Verifier:
    """Checks what the super-node signed, against its public key, hex."""

    def __init__(self, public_key_hex: str) -> None:
        """A verifier.

        Raises:
            TokenError: that is no public key.
        """
        self.public_key = public_key_hex
        self._key = public_key(public_key_hex)

    def join(self, token: str) -> JoinRights:
        """What a join token gives. It was made by a person for a day on the calendar, so this machine's date counts.

        Raises:
            TokenError: not a join token of this super-node, without an expiry, or expired.
        """
        claims = verify(token, self._key, JOIN)
        check_expiry(claims, time.time(), leeway_s=0.0)
        permission, quota = Permission.from_claims(claims), Quota.from_claims(claims)
        return JoinRights(permission, text(claims, "jti"), number(claims, "exp"), quota)

    def join_id(self, token: str) -> str:
        """The id by which a join token is revoked, also after it has expired.

        Raises:
            TokenError: not a join token of this super-node, or one from before tokens had ids.
        """
        token_id = text(verify(token, self._key, JOIN), "jti")
        if not token_id:
            raise TokenError("this token has no id; it was made by an older version and ends at its expiry")
        return token_id

    def credential(self, token: str, heard_s: float) -> Bearer:
        """The host that a credential was issued to.

        Args:
            heard_s: the super-node's time when the verifier last heard from it, s since the Unix epoch.

        Raises:
            TokenError: malformed, not issued by this super-node, or too long ago.
        """
        claims = verify(token, self._key, CREDENTIAL)
        age_s = heard_s - number(claims, "iat")
        if age_s > CREDENTIAL_AGE_S:
            raise TokenError(
                f"the credential is {age_s:.0f} s old: its host has left, or does not reach the super-node"
            )
        key = text(claims, "key")
        public_key(key)
        return Bearer(
            HostId(text(claims, "sub")),
            Permission.from_claims(claims),
            key,
            text(claims, "jti"),
            number(claims, "exp"),
            Quota.from_claims(claims),
        )

    def is_signed(self, content: bytes, signature: str) -> bool:
        """Whether the super-node signed these bytes."""
        try:
            self._key.verify(bytes.fromhex(signature), content)
        except (ValueError, InvalidSignature):
            return False
        return True
