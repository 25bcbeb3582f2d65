"""`check` has an extension process frames: what fails on every frame does not pass."""

from pathlib import Path

import pytest

from cubecast.errors import ExtensionRefused
from cubecast.sandbox.abi import Manifest
from cubecast.sandbox.toolchain.check import check
from tests.sandbox.modules import module, wat

FLOOD = """(local $row i32)
  (loop $rows
    (i32.store (i32.add (i32.const 4120) (i32.shl (local.get $row) (i32.const 5))) (i32.const 0x00100000))
    (i32.store (i32.add (i32.const 4116) (i32.shl (local.get $row) (i32.const 5))) (i32.const 0x00100000))
    (br_if $rows (i32.lt_u (local.tee $row (i32.add (local.get $row) (i32.const 1))) (i32.const 64))))
  (i32.const 64)"""


def checked(text: str, folder: Path, manifest: Manifest | None = None) -> int:
    """Size of the memory of a module after its check."""
    file = folder / "test.wasm"
    file.write_bytes(module(text, manifest))
    return check(file).memory_bytes


@pytest.mark.parametrize("kind", ["video", "audio", "data"])
def test_what_forwards_frames_passes(kind: str, tmp_path: Path) -> None:
    for level in ("encoded", "decoded"):
        manifest = Manifest(name="test", level=level, tracks=(kind,), deadline_ms=200)  # type: ignore[arg-type]
        assert checked(wat(), tmp_path, manifest) > 0


@pytest.mark.parametrize(
    ("process", "said"),
    [
        ("(unreachable)", "unreachable"),
        ("(loop $again (br $again)) (i32.const 0)", "deadline"),
        ("(i32.const -7)", "returned error -7"),
        ("(i32.const 65)", "returned 65 frames"),
        (FLOOD, "emits 67108864 bytes in a call that receives"),
    ],
)
def test_what_fails_on_every_frame_is_refused(process: str, said: str, tmp_path: Path) -> None:
    memory = '(memory (export "memory") 320)'
    manifest = Manifest(name="test", memory_mib=32, deadline_ms=200)
    with pytest.raises(ExtensionRefused, match=rf"test\.wasm: .*({said})"):
        checked(wat(process, memory=memory), tmp_path, manifest)
