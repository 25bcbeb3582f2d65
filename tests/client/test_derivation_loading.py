"""What of an extension is looked at when a derivation is made, and what only when it is loaded."""

from collections.abc import Callable
from pathlib import Path

import pytest

import cubecast
from cubecast.errors import ExtensionRefused
from cubecast.sandbox.wasm.compilation import Compilation
from tests.sandbox.binaries import extension, functions
from tests.sandbox.modules import module, wat


def derivation(file: Path) -> cubecast.Derivation:
    return cubecast.Derivation("in", "out", str(file), 300)


def remote_job(file: Path) -> cubecast.RemoteJob:
    return cubecast.RemoteJob("in", "out", str(file), 300, supernode="http://127.0.0.1:9", token="none")


@pytest.mark.parametrize("make", [derivation, remote_job])
@pytest.mark.parametrize("content", [b"no module", functions(b""), extension(functions(*[b""] * 20_000))])
async def test_a_file_that_is_not_in_order_is_refused_at_once_without_a_compiler(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], cubecast.Derivation | cubecast.RemoteJob],
    content: bytes,
) -> None:
    monkeypatch.setattr(Compilation, "run", lambda *_: pytest.fail("it was compiled on the event loop"))
    file = tmp_path / "file.wasm"
    file.write_bytes(content)
    with pytest.raises(ExtensionRefused, match=r"file\.wasm: "):
        make(file)
    file.write_bytes(module(wat()))
    make(file)


@pytest.mark.parametrize("make", [derivation, remote_job])
def test_what_only_the_compiler_finds_is_an_error_of_load(
    tmp_path: Path, make: Callable[[Path], cubecast.Derivation | cubecast.RemoteJob]
) -> None:
    file = tmp_path / "file.wasm"
    file.write_bytes(extension(functions(b"\x6a")))  # an addition of nothing
    made = make(file)
    with pytest.raises(ExtensionRefused, match=r"file\.wasm: it is not a valid module"):
        made.load()


async def test_a_job_whose_module_is_invalid_is_refused_before_anything_is_requested(tmp_path: Path) -> None:
    file = tmp_path / "file.wasm"
    file.write_bytes(extension(functions(b"\x6a")))
    with pytest.raises(ExtensionRefused):
        await remote_job(file).run()
