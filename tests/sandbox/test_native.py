"""Trusted native code: the same results as in the sandbox, and only code signed with a trusted key is loaded."""

import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cubecast.errors import ExtensionRefused, LocalError
from cubecast.sandbox.abi import Manifest
from cubecast.sandbox.loading import SHIPPED, load, shipped
from cubecast.sandbox.toolchain.build import build_native
from cubecast.sandbox.toolchain.check import check
from cubecast.sandbox.toolchain.golden import replay
from cubecast.sandbox.trusted.native import native_manifest, with_native_manifest
from cubecast.sandbox.trusted.signatures import sign, trusted_keys, verify
from tests.sandbox.modules import TRACKS, frames

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
TRUSTED = frozenset({KEY.public_key().public_bytes_raw()})

needs_compiler = pytest.mark.skipif(
    shutil.which("gcc") is None and shutil.which("cc") is None, reason="no C compiler for native code"
)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "trusted-keys"
    file.write_text(f"# keys of our team\n\n{KEY.public_key().public_bytes_raw().hex()}  the team\n")
    return file


def built(name: str, folder: Path, key: Ed25519PrivateKey | None = KEY) -> Path:
    file = folder / f"{name}.so"
    file.write_bytes(build_native(Path(str(SHIPPED.joinpath(name)))))
    if key is not None:
        file.with_name(f"{name}.so.sig").write_text(sign(file.read_bytes(), key))
    return file


@needs_compiler
@pytest.mark.parametrize("name", shipped())
def test_native_code_emits_what_the_module_does(name: str, tmp_path: Path, keys: Path) -> None:
    extension = load(str(built(name, tmp_path)), trusted=keys, confined=False)
    recordings = sorted(Path(str(SHIPPED.joinpath(name, "golden"))).glob("*.golden"))
    assert recordings
    for recording in recordings:
        replay(extension, recording)


@needs_compiler
def test_instances_share_no_state(tmp_path: Path, keys: Path) -> None:
    file = built("shed", tmp_path)
    assert check(file, keys, confined=False).manifest.name == "shed"
    extension = load(str(file), trusted=keys, confined=False)
    congested, free = extension.make(TRACKS, {}), extension.make(TRACKS, {})
    (kind,) = extension.manifest.event_kinds()
    congested.on_event(kind, 0, 0.0)
    assert len(free.process(frames(10)).frames) == 10
    assert [frame.keyframe for frame in congested.process(frames(10)).frames] == [True, True]


@needs_compiler
def test_code_that_is_not_signed_with_a_trusted_key_is_refused(tmp_path: Path, keys: Path) -> None:
    for key, said in ((None, "without a signature"), (OTHER, "not in the list of trusted keys")):
        file = built("gain", tmp_path, key)
        with pytest.raises(ExtensionRefused, match=said):
            load(str(file), trusted=keys)
    file = built("gain", tmp_path)
    with pytest.raises(ExtensionRefused, match=r"the list of trusted keys .* does not exist"):
        load(str(file), trusted=tmp_path / "nothing")
    library = bytearray(file.read_bytes())
    for where in (100, len(library) // 2, len(library) - 20):
        changed = bytearray(library)
        changed[where] ^= 1
        file.write_bytes(changed)
        with pytest.raises(ExtensionRefused, match="was changed after it had been signed"):
            load(str(file), trusted=keys)


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_a_signature_is_of_its_bytes_only(content: bytes, other: bytes) -> None:
    signature = sign(content, KEY)
    assert verify(content, signature, TRUSTED) in TRUSTED
    if other != content:
        with pytest.raises(ExtensionRefused, match="does not match"):
            verify(other, signature, TRUSTED)
    with pytest.raises(ExtensionRefused, match="not in the list"):
        verify(content, sign(content, OTHER), TRUSTED)


@given(st.text(max_size=300))
def test_no_text_passes_for_a_signature(text: str) -> None:
    with pytest.raises(ExtensionRefused):
        verify(b"content", text, TRUSTED)


@pytest.mark.parametrize("line", ["0123", "zz" * 32, "ab" * 33])
def test_a_list_with_a_bad_line_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# one\n{line}\n")
    with pytest.raises(LocalError, match=r"keys:2: not a public key"):
        trusted_keys(file)


@given(st.binary(max_size=200))
def test_the_manifest_of_a_library_is_the_one_that_was_added(body: bytes) -> None:
    manifest = Manifest(name="test", about="é")
    assert native_manifest(with_native_manifest(b"\x7fELF" + body, manifest)) == manifest
    with pytest.raises(ExtensionRefused):
        native_manifest(b"\x7fELF" + body)
