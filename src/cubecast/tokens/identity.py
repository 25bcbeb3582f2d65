"""A host's own key, and what it signs: proofs for the super-node, tokens for its peers.

- Host token: for one session with one peer. It names the peer and the certificate that the peer must show, so whoever it is
  sent to by mistake cannot use it elsewhere; it is valid for a minute, and contains the credential.
"""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cubecast.tokens.authority import Bearer, Verifier
from cubecast.tokens.jws import check_expiry, public_key, sign, text, unverified, verify
from cubecast.types import HostId

HOST_TOKEN_TTL_S = 60.0
"""Validity of a host token, s: it is made anew for every session."""


class Identity:
    """A host's key pair and its credential, which is empty before it joined."""

    def __init__(self, key: Ed25519PrivateKey | None = None) -> None:
        """An identity.

        Args:
            key: None makes one that ends with this object.
        """
        self.key = key or Ed25519PrivateKey.generate()
        self.public_key = self.key.public_key().public_bytes_raw().hex()
        self.credential = ""

    def token(self, peer: HostId, fingerprint: str, now_s: float) -> str:
        """A host token for one peer.

        Args:
            fingerprint: of the peer's certificate.
            now_s: the super-node's time, s since the Unix epoch.
        """
        claims = {
            "aud": audience(peer, fingerprint),
            "exp": now_s + HOST_TOKEN_TTL_S,
            "credential": self.credential,
        }
        return sign(claims, self.key)


def audience(peer: HostId, fingerprint: str) -> str:
    """Whom a host token is for."""
    return f"{peer}@{fingerprint}"


def verified_host(verifier: Verifier, token: str, here: str, now_s: float, heard_s: float) -> Bearer:
    """The host that signed a host token.

    Args:
        here: the audience: this host.
        now_s: the super-node's time, s since the Unix epoch.
        heard_s: that time when this host last heard from the super-node.

    Raises:
        TokenError: malformed, expired, for another audience, or its credential is not accepted.
    """
    bearer = verifier.credential(text(unverified(token), "credential"), heard_s)
    check_expiry(verify(token, public_key(bearer.key), here), now_s)
    return bearer
