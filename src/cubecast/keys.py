"""Ed25519 private keys (RFC 8032), stored in PEM files."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cubecast.errors import LocalError
from cubecast.file_modes import check_not_writable_by_others, check_secret, write_secret


class KeyInUse(LocalError):
    """Another process uses a key file."""


def private_key(path: Path) -> Ed25519PrivateKey:
    """The key in a PEM file; creates the file, readable by its owner only, if it does not exist.

    Raises:
        LocalError: the file cannot be read or written, contains no Ed25519 key, or other users can read or write it.
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
    check_secret(path)
    return key


@contextmanager
def held_key(path: Path) -> Iterator[Ed25519PrivateKey]:
    """The key in a PEM file, as `private_key`, for one process at a time.

    Raises:
        LocalError: as `private_key`.
        KeyInUse: another process holds it.
    """
    key = private_key(path)
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise KeyInUse(f"key file {path} is in use by another process; give each host a key of its own") from error
        yield key


def _write(path: Path, key: Ed25519PrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_secret(path, pem)
