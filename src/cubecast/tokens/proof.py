"""Proofs of possession: each request of a host to the super-node is signed by its key, as in DPoP (RFC 9449).

The proof covers the method, the path, the body, the token that is shown with it, and a nonce of the super-node, so it is
worth nothing for another request, and nothing after the nonce has expired. Nonces are made from the time and a secret:
the super-node stores none, and hosts need no clock. Proofs that were used are remembered as long as their nonce lives.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

from cubecast.errors import TokenError
from cubecast.tokens.identity import Identity
from cubecast.tokens.jws import headers, public_key, sign, text, verify

AUDIENCE = "cubecast:supernode"
NONCE_S = 30.0
"""A nonce is replaced after this time, s, and accepted for as long again."""
PROOFS_MAX = 100_000
"""Maximum number of used proofs that are remembered, some 10 MB: 1 600 requests a second; the oldest are forgotten first."""


class NonceNeeded(TokenError):
    """The proof has no nonce, or an old one; the answer carries a new one."""


def prove(identity: Identity, method: str, path: str, body: bytes, token: str, nonce: str) -> str:
    """A proof for one request.

    Args:
        path: with the query, as sent.
        token: the credential or join token that is shown with it.
        nonce: the latest of the super-node; empty while none is known.
    """
    claims = {
        "aud": AUDIENCE,
        "htm": method,
        "htu": path,
        "body": _digest(body),
        "ath": _digest(token.encode()),
        "nonce": nonce,
        "jti": secrets.token_hex(12),
    }
    return sign(claims, identity.key, {"typ": "dpop+jwt", "key": identity.public_key})


@dataclass(slots=True)
class ProofChecker:
    """Checks proofs, and makes the nonces for them."""

    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _used: OrderedDict[str, float] = field(default_factory=OrderedDict)
    """By proof that was accepted: when its nonce has expired for certain, s."""

    def nonce(self, now_s: float) -> str:
        """The nonce for the next requests."""
        return self._nonce(int(now_s // NONCE_S))

    def check(self, proof: str, method: str, path: str, body: bytes, token: str, now_s: float) -> str:
        """The public key, hex, whose holder made the proof for this request.

        Args:
            now_s: any clock that does not step, s; the nonces are made with the same.

        Raises:
            NonceNeeded: the nonce is missing or old.
            TokenError: the proof is malformed, for another request, or was used before.
        """
        key = text(headers(proof), "key")
        claims = verify(proof, public_key(key), AUDIENCE)
        step = int(now_s // NONCE_S)
        nonces = (self._nonce(step), self._nonce(step - 1))
        if not any(hmac.compare_digest(text(claims, "nonce").encode(), nonce.encode()) for nonce in nonces):
            raise NonceNeeded("the proof has no current nonce; send it again with the one in this answer")
        wanted = {"htm": method, "htu": path, "body": _digest(body), "ath": _digest(token.encode())}
        if any(text(claims, name) != value for name, value in wanted.items()):
            raise TokenError("the proof is for another request")
        self._use(f"{key}{text(claims, 'jti')[:64]}", now_s)
        return key

    def _use(self, proof_id: str, now_s: float) -> None:
        used = self._used
        while used and (len(used) >= PROOFS_MAX or next(iter(used.values())) < now_s):
            used.popitem(last=False)
        if proof_id in used:
            raise TokenError("the proof was used before")
        used[proof_id] = now_s + 2 * NONCE_S

    def _nonce(self, step: int) -> str:
        return hmac.new(self.secret, str(step).encode(), hashlib.sha256).hexdigest()[:32]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
