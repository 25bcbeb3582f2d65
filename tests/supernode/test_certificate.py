"""The super-node's certificate, the operator's, and the pin of join tokens."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cubecast.cli.commands import supernode as supernode_command
from cubecast.cli.commands import token as token_command
from cubecast.errors import LocalError, UsageError
from cubecast.supernode import server
from cubecast.supernode.server import TOKEN_FILE
from cubecast.supernode.tls.certificate import (
    CERTIFICATE_FILE,
    PIN_FILE,
    Transport,
    own_certificate,
    pin_of_tokens,
    prepare,
)
from cubecast.tokens.authority import Authority
from cubecast.tokens.jws import pin
from tests.supernode.certificates import issued


def test_the_certificate_is_private_kept_and_valid_whatever_a_clock_says(tmp_path: Path) -> None:
    first = own_certificate(tmp_path)
    path = tmp_path / CERTIFICATE_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert own_certificate(tmp_path) == first
    made = x509.load_pem_x509_certificate(path.read_bytes())
    assert (made.not_valid_before_utc.year, made.not_valid_after_utc.year) == (2000, 2999)
    assert made.fingerprint(hashes.SHA256()).hex() == first
    assert own_certificate(tmp_path / "other") != first


@pytest.mark.parametrize("content", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_damaged_certificate_file_is_one_clear_line(tmp_path: Path, content: str) -> None:
    (tmp_path / CERTIFICATE_FILE).write_text(content)
    with pytest.raises(LocalError, match=r"certificate.pem contains no certificate with its key; move the file away"):
        prepare(tmp_path, Transport())


def test_tokens_carry_the_pin_of_what_the_super_node_serves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a certificate of its own they carry one, with an operator's or without TLS none, and back."""
    _, certificate, key = issued(tmp_path)
    authority = Authority.load(tmp_path / server.KEY_FILE)
    for transport, pinned in (
        (Transport(), True),
        (Transport(http=True), False),
        (Transport(), True),
        (Transport(files=(certificate, key)), False),
    ):
        prepare(tmp_path, transport)
        server.write_join_token(tmp_path, authority)
        wanted = own_certificate(tmp_path) if pinned else ""
        token_command.run(["--state", str(tmp_path)])
        assert pin(capsys.readouterr().out.strip()) == wanted
        assert pin((tmp_path / TOKEN_FILE).read_text().strip()) == wanted


def test_a_token_made_before_the_first_start_with_tls_carries_the_pin_of_that_start(tmp_path: Path) -> None:
    made = pin_of_tokens(tmp_path)
    prepare(tmp_path, Transport())
    assert pin_of_tokens(tmp_path) == made == (tmp_path / PIN_FILE).read_text().strip()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--http", "--tls-cert", "CERT", "--tls-key", "KEY"], "--http serves without TLS"),
        (["--tls-cert", "CERT"], "belong together"),
        (["--tls-key", "KEY"], "belong together"),
        (["--tls-cert", "CERT", "--tls-key", "absent.pem"], "cannot read --tls-key absent.pem: No such file"),
        (["--tls-cert", "KEY", "--tls-key", "KEY"], "give a certificate with its chain and its private key"),
        (["--tls-cert", "CA", "--tls-key", "KEY"], "the key is not the certificate's"),
        (["--tls-cert", "CERT", "--tls-key", "LOCKED"], "without a password"),
    ],
)
def test_unusable_certificates_are_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    paths = dict(zip(("CA", "CERT", "KEY"), map(str, issued(tmp_path)), strict=True)) | {"LOCKED": str(tmp_path / "l")}
    locked = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"word")
    )
    (tmp_path / "l").write_bytes(locked)
    where = ["--state", str(tmp_path / "state"), "--listen", "127.0.0.1:0"]
    try:
        status = supernode_command.run([paths.get(argument, argument) for argument in arguments] + where)
    except UsageError as error:
        printed = str(error)
    else:
        assert status == 2
        printed = capsys.readouterr().err
    assert expected in printed
    assert printed.strip().count("\n") == 0
