"""Certificates that an authority of the test's own has issued."""

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def issued(folder: Path, lasts: dt.timedelta = dt.timedelta(days=1)) -> tuple[Path, Path, Path]:
    """An authority's certificate, and a certificate for 127.0.0.1 that it has issued, with its key."""
    now = dt.datetime.now(dt.UTC)

    def certificate(
        name: str, issuer: str, key: ec.EllipticCurvePrivateKey, signs: ec.EllipticCurvePrivateKey
    ) -> bytes:
        authority = name == issuer
        subject, above = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, each)]) for each in (name, issuer))
        ours = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(above)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=2))
            .not_valid_after(now + (dt.timedelta(days=1) if authority else lasts))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([ours]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signs.public_key()), critical=False)
        )
        if authority:
            signing = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(signing, critical=True)
        return builder.sign(signs, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    root, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    paths = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(certificate("ca", "ca", root, root))
    paths[1].write_bytes(certificate("site", "ca", key, root))
    paths[2].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
