"""Signed claims: JWTs (RFC 7519) with Ed25519 (RFC 8037). The only module that calls PyJWT.

No expiry is compared with this machine's clock here: whoever verifies says what time it is, by the super-node's clock.
"""

import re
from collections.abc import Mapping

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from jwt.types import Options

from cubecast.errors import TokenError

TOKEN_CHARS_MAX = 8192
"""Longest token that is looked at, characters: a host token with its credential has some 1 200."""
LEEWAY_S = 15.0
"""Difference between signer and verifier in the super-node's time that is tolerated when an expiry is checked, s."""

_ALGORITHM = "EdDSA"
_UNCHECKED: Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_jti": False,
    "verify_sub": False,
}

Claims = Mapping[str, object]


def sign(claims: Claims, key: Ed25519PrivateKey, headers: Claims | None = None) -> str:
    """A token with these claims."""
    return jwt.encode(dict(claims), key, algorithm=_ALGORITHM, headers=dict(headers or {}))


def verify(token: str, key: Ed25519PublicKey, audience: str) -> dict[str, object]:
    """The claims of a token that was signed with this key for this audience.

    Raises:
        TokenError: malformed, signed by another key, or for another audience.
    """
    try:
        return dict(jwt.decode(_short(token), key, algorithms=[_ALGORITHM], audience=audience, options=_UNCHECKED))
    except jwt.InvalidAudienceError as error:
        raise TokenError("the token is meant for another use") from error
    except jwt.InvalidSignatureError as error:
        raise TokenError("the token was signed by another super-node") from error
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise _not_a_token() from error


def unverified(token: str) -> dict[str, object]:
    """The claims of a token, which anybody may have written.

    Raises:
        TokenError: malformed.
    """
    try:
        return dict(jwt.decode(_short(token), options={"verify_signature": False}))
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise _not_a_token() from error


def pin(token: str) -> str:
    """The fingerprint of the super-node's certificate in a join token, hex; empty if there is none.

    Who holds a token has it from its maker, and cannot check the signature before it knows the super-node.

    Raises:
        TokenError: malformed.
    """
    found = text(unverified(token), "pin").lower()
    if found and not re.fullmatch("[0-9a-f]{64}", found):
        raise _not_a_token()
    return found


def headers(token: str) -> dict[str, object]:
    """The header of a token, which anybody may have written.

    Raises:
        TokenError: malformed.
    """
    try:
        return dict(jwt.get_unverified_header(_short(token)))
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise _not_a_token() from error


def check_expiry(claims: Claims, now_s: float, leeway_s: float = LEEWAY_S) -> None:
    """Checks that claims have an expiry that has not passed.

    Raises:
        TokenError: they have none, or it has.
    """
    expiry = number(claims, "exp")
    if now_s > expiry + leeway_s:
        raise TokenError(f"the token expired {now_s - expiry:.0f} s ago; get a new one with `cubecast token`")


def number(claims: Claims, name: str) -> float:
    """A claim that is a finite number.

    Raises:
        TokenError: it is missing or something else.
    """
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        raise _not_a_token()
    return float(value)


def text(claims: Claims, name: str) -> str:
    """A claim that is a text; empty if it is missing.

    Raises:
        TokenError: it is something else.
    """
    value = claims.get(name, "")
    if not isinstance(value, str):
        raise _not_a_token()
    return value


def public_key(raw_hex: str) -> Ed25519PublicKey:
    """A public key from 64 hex digits.

    Raises:
        TokenError: it is none.
    """
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(raw_hex))
    except ValueError as error:
        raise TokenError("the token contains no public key") from error


def _short(token: str) -> str:
    if len(token) > TOKEN_CHARS_MAX:
        raise _not_a_token()
    return token


def _not_a_token() -> TokenError:
    return TokenError("not a token; get one with `cubecast token`")
