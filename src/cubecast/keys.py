"""Ed25519 keys (RFC 8032) in files."""

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cubecast.errors import LocalError


def private_key(path: Path) -> Ed25519PrivateKey:
    """The key in a PEM file; makes the file, readable by its owner only, on first use.

    Raises:
        LocalError: the file cannot be read or written, or holds no Ed25519 key.
    """
    try:
        if not path.exists():
            _write(path, Ed25519PrivateKey.generate())
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise LocalError(f"cannot use key file {path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise LocalError(f"{path} holds no private key; move it away and a new one is made") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise LocalError(f"{path} holds no Ed25519 key; move it away and a new one is made")
    return key


def _write(path: Path, key: Ed25519PrivateKey) -> None:
    """Writes the whole file or none of it, so that a kill at any moment leaves a usable state."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    partial = path.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_bytes(pem)
    partial.replace(path)
