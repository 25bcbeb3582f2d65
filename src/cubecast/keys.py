"""Ed25519 private keys (RFC 8032), stored in PEM files."""

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cubecast.errors import LocalError
from cubecast.permissions import check_not_writable_by_others


def private_key(path: Path) -> Ed25519PrivateKey:
    """The key in a PEM file; creates the file, readable by its owner only, if it does not exist.

    Raises:
        LocalError: the file cannot be read or written, contains no Ed25519 key, or other users can write it.
    """
    check_not_writable_by_others(path)
    try:
        if not path.exists():
            _write(path, Ed25519PrivateKey.generate())
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise LocalError(f"cannot use key file {path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise LocalError(f"{path} contains no private key; move the file away and a new key is created") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise LocalError(f"{path} contains no Ed25519 key; move the file away and a new key is created")
    return key


def _write(path: Path, key: Ed25519PrivateKey) -> None:
    """Writes the file atomically: a process killed at any moment leaves the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    partial = path.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_bytes(pem)
    partial.replace(path)
