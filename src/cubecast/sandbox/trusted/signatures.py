"""Who wrote a file: Ed25519 signatures (RFC 8032) beside trusted code, and the list of keys a host believes.

`FILE.sig` holds the signer's public key and the signature over the file's whole content and name of use, both in hex. A
key list is a text file: a public key in hex on each line, and what follows it is a comment.
"""

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cubecast.errors import ExtensionRefused, LocalError

SUFFIX = ".sig"
USE = b"cubecast extension 1\0"
KEY_BYTES, SIGNATURE_BYTES = 32, 64
KEYS_MAX = 1000
TEXT_BYTES_MAX = 256 * 1024


def sign(content: bytes, key: Ed25519PrivateKey) -> str:
    """What stands in FILE.sig."""
    public = key.public_key().public_bytes_raw()
    return f"{public.hex()} {key.sign(USE + content).hex()}\n"


def verify(content: bytes, signature: str, trusted: frozenset[bytes]) -> bytes:
    """The key that has signed a file.

    Raises:
        ExtensionRefused: the signature is not in order, by somebody who is not trusted, or of other bytes.
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
        Ed25519PublicKey.from_public_bytes(public).verify(signed, USE + content)
    except InvalidSignature:
        raise ExtensionRefused(
            "its signature is of other bytes: the file was changed after it had been signed"
        ) from None
    return public


def read_signature(file: Path) -> str:
    """What stands beside a file.

    Raises:
        ExtensionRefused: there is no signature.
    """
    beside = file.with_name(file.name + SUFFIX)
    try:
        return _text(beside)
    except OSError as error:
        raise ExtensionRefused(
            f"it is trusted code without a signature ({beside.name}: {error.strerror}); sign it with cubecast extension sign"
        ) from error


def trusted_keys(file: Path) -> frozenset[bytes]:
    """The keys of a list.

    Raises:
        LocalError: it cannot be read, or a line holds no key.
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
                f"{file}:{number}: no public key of {KEY_BYTES} bytes in hex, or more than {KEYS_MAX} keys"
            )
        keys.add(key)
    return frozenset(keys)


def _text(file: Path) -> str:
    with file.open("rb") as opened:
        return opened.read(TEXT_BYTES_MAX).decode("ascii", "replace")
