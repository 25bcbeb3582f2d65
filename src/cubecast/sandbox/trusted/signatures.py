"""Ed25519 signatures (RFC 8032) of trusted code, and the list of public keys that a host trusts.

`FILE.sig` holds the signer's public key and the signature, both in hex. The signature covers CONTEXT and the file's whole
content. A key list is a text file with a public key in hex on each line; the rest of the line is a comment.
"""

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cubecast.errors import ExtensionRefused, LocalError

SUFFIX = ".sig"
"""Suffix of a signature file, after the full name of the signed file."""
CONTEXT = b"cubecast extension 1\0"
"""Prefix of the signed bytes, so that a signature made for another purpose is not accepted."""
KEY_BYTES, SIGNATURE_BYTES = 32, 64
"""Lengths of an Ed25519 public key and signature (RFC 8032)."""
KEYS_MAX = 1000
"""Maximum number of keys in a list."""
TEXT_BYTES_MAX = 256 * 1024
"""Number of bytes that are read of a signature file or key list; KEYS_MAX keys with long comments fit."""


def sign(content: bytes, key: Ed25519PrivateKey) -> str:
    """Signs a file; returns the content of its signature file."""
    public = key.public_key().public_bytes_raw()
    return f"{public.hex()} {key.sign(CONTEXT + content).hex()}\n"


def verify(content: bytes, signature: str, trusted: frozenset[bytes]) -> bytes:
    """Checks a signature and returns the public key of its signer.

    Args:
        signature: content of the signature file.
        trusted: public keys whose signatures are accepted.

    Raises:
        ExtensionRefused: the signature is malformed, by a key that is not trusted, or of other content.
    """
    parts = signature.split()
    try:
        public, signed = (bytes.fromhex(part) for part in parts)
    except ValueError:
        raise ExtensionRefused("its signature cannot be read; sign it again with cubecast extension sign") from None
    if len(public) != KEY_BYTES or len(signed) != SIGNATURE_BYTES:
        raise ExtensionRefused("its signature cannot be read; sign it again with cubecast extension sign")
    if public not in trusted:
        raise ExtensionRefused(
            f"it is signed with key {public.hex()[:16]}..., which is not in the list of trusted keys"
        )
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signed, CONTEXT + content)
    except InvalidSignature:
        raise ExtensionRefused("its signature does not match: the file was changed after it had been signed") from None
    return public


def read_signature(file: Path) -> str:
    """Reads the signature file of a file.

    Raises:
        ExtensionRefused: it cannot be read.
    """
    signature = file.with_name(file.name + SUFFIX)
    try:
        return _text(signature)
    except OSError as error:
        raise ExtensionRefused(
            f"it is trusted code without a signature ({signature.name}: {error.strerror}); sign it with cubecast extension sign"
        ) from error


def trusted_keys(file: Path) -> frozenset[bytes]:
    """Reads a list of trusted public keys.

    Raises:
        LocalError: it cannot be read, a line does not begin with a key, or it has more than KEYS_MAX keys.
    """
    keys: set[bytes] = set()
    try:
        lines = _text(file).splitlines()
    except OSError as error:
        raise LocalError(f"cannot read the list of trusted keys {file}: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        word = line.split("#")[0].split()[:1]
        if not word:
            continue
        try:
            key = bytes.fromhex(word[0])
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES or len(keys) >= KEYS_MAX:
            raise LocalError(
                f"{file}:{number}: not a public key of {KEY_BYTES} bytes in hex, or more than {KEYS_MAX} keys"
            )
        keys.add(key)
    return frozenset(keys)


def _text(file: Path) -> str:
    with file.open("rb") as opened:
        return opened.read(TEXT_BYTES_MAX).decode("ascii", "replace")
