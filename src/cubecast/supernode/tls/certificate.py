"""The super-node's certificate, and the pin by which clients know it.

Clients of a super-node with a certificate of its own trust no authority: their join token contains the certificate's
SHA-256 fingerprint, its pin. So the certificate needs no host name that fits, and no end that anybody would have to watch.
"""

import datetime as dt
import re
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cubecast.errors import LocalError, UsageError
from cubecast.file_modes import check_not_writable_by_others

CERTIFICATE_FILE = "certificate.pem"
"""File in the state folder: the certificate that the super-node made for itself, and its private key."""
PIN_FILE = "certificate.pin"
"""File in the state folder: the pin that join tokens carry; empty while they carry none. `cubecast token` reads it, also while
the super-node runs with a certificate of a public authority or with plain HTTP."""
NAME = "cubecast-supernode"
"""Name in the certificate, for clients other than cubecast's that insist on one."""

_FIRST, _LAST = dt.datetime(2000, 1, 1), dt.datetime(2999, 12, 31)  # noqa: DTZ001  UTC, as X.509 has it
"""Validity of the certificate: so long that the clock of no client matters."""


@dataclass(frozen=True, slots=True)
class Transport:
    """How the super-node serves its API.

    Attributes:
        http: without TLS.
        files: certificate and private key of the operator, PEM; None makes a certificate.
    """

    http: bool = False
    files: tuple[Path, Path] | None = None


OWN = Transport()
"""HTTPS with a certificate that the super-node makes for itself."""


def prepare(state: Path, transport: Transport) -> ssl.SSLContext | None:
    """What the API is served with; None for plain HTTP. Writes the pin of join tokens into the state folder.

    Raises:
        LocalError: a file cannot be used, or the state folder not be written.
    """
    context, pin = None, ""
    if transport.files is not None:
        context = _context(*transport.files)
    elif not transport.http:
        pin = own_certificate(state)
        context = _own_context(state)
    _write(state / PIN_FILE, pin.encode() + b"\n")
    return context


def pin_of_tokens(state: Path) -> str:
    """The pin that join tokens carry, hex; empty if they carry none. Makes the certificate if no super-node has run here.

    Raises:
        LocalError: a file cannot be read or written.
    """
    path = state / PIN_FILE
    check_not_writable_by_others(path)
    try:
        pin = path.read_text(errors="replace").strip()
    except FileNotFoundError:
        return own_certificate(state)
    except OSError as error:
        raise LocalError(f"cannot read {path}: {error.strerror}") from error
    if pin and not re.fullmatch("[0-9a-f]{64}", pin):
        raise LocalError(f"{path} contains no SHA-256 fingerprint; start the super-node again, which writes it")
    return pin


def own_certificate(state: Path) -> str:
    """The fingerprint of the certificate in the state folder, hex; makes it, readable by its owner only, if there is none.

    Raises:
        LocalError: the file cannot be used, contains no certificate, or other users can write it.
    """
    path = state / CERTIFICATE_FILE
    check_not_writable_by_others(path)
    try:
        if not path.exists():
            _write(path, _made())
        return x509.load_pem_x509_certificate(path.read_bytes()).fingerprint(hashes.SHA256()).hex()
    except OSError as error:
        raise LocalError(f"cannot use certificate file {path}: {error.strerror}") from error
    except ValueError as error:
        raise _useless(path) from error


def _made() -> bytes:
    """A new key and its certificate, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FIRST)
        .not_valid_after(_LAST)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return secret + certificate.public_bytes(pem)


def _own_context(state: Path) -> ssl.SSLContext:
    path = state / CERTIFICATE_FILE
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(path, password="")
    except (OSError, ValueError) as error:
        raise _useless(path) from error
    return context


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    for option, path in (("--tls-cert", certificate), ("--tls-key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {option} {path}: {error.strerror}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password="")  # an empty one, so that nobody is asked for it
    except (OSError, ValueError) as error:
        reason = (getattr(error, "reason", None) or "").replace("_", " ").lower()
        why = "the key is not the certificate's" if reason == "key values mismatch" else reason or "not understood"
        raise UsageError(
            f"cannot use --tls-cert {certificate} with --tls-key {key}: {why}; "
            "give a certificate with its chain and its private key without a password, both PEM"
        ) from error
    return context


def _useless(path: Path) -> LocalError:
    return LocalError(
        f"{path} contains no certificate with its key; move the file away, and a new one is made: tokens made before are "
        "then refused by their clients"
    )


def _write(path: Path, content: bytes) -> None:
    """Writes a private file atomically, unless it has this content."""
    with suppress(OSError):
        if path.read_bytes() == content:
            return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600, exist_ok=False)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise LocalError(f"cannot write {path}: {error.strerror}") from error
