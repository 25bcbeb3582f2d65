"""The cache of compiled modules: used again, rejected if changed, bounded in number and in bytes."""

import os
from pathlib import Path

import pytest
from wasmtime import Module

from cubecast.errors import ExtensionFailed, LocalError
from cubecast.sandbox.abi import manifest_of
from cubecast.sandbox.frame_exchange import Exchange
from cubecast.sandbox.wasm import artefacts
from cubecast.sandbox.wasm.artefacts import compiled
from cubecast.sandbox.wasm.compilation import Compilation
from cubecast.sandbox.wasm.engine import deadlines, engine, ticks_of
from cubecast.sandbox.wasm.module import ModuleCode
from tests.sandbox.modules import TRACKS, frames, instance, module, wat

WASM = module(wat())


def works(loaded: Module) -> bool:
    manifest = manifest_of(WASM)
    here = Exchange(ModuleCode(loaded, manifest), manifest, TRACKS, {})
    return here.process(frames(2)).frames == frames(2)


def cached(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.name != "key"]


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each compilation."""
    count: list[int] = []

    class Counted(Compilation):
        def run(self, wasm: bytes) -> bytes:
            count.append(1)
            return super().run(wasm)

    monkeypatch.setattr(artefacts, "Compilation", Counted)
    return count


def test_a_module_is_compiled_once(tmp_path: Path, compiling: list[int]) -> None:
    assert works(compiled(WASM, tmp_path))
    assert works(compiled(WASM, tmp_path))
    assert len(compiling) == 1
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("where", [0, 40, -1])
def test_a_changed_file_is_not_used(tmp_path: Path, compiling: list[int], where: int) -> None:
    compiled(WASM, tmp_path)
    (file,) = cached(tmp_path)
    code = bytearray(file.read_bytes())
    code[where] ^= 1
    file.write_bytes(code)
    assert works(compiled(WASM, tmp_path))
    assert len(compiling) == 2


def test_the_file_of_another_module_is_not_used(tmp_path: Path, compiling: list[int]) -> None:
    compiled(WASM, tmp_path)
    (file,) = cached(tmp_path)
    other = module(wat("(i32.const 0)"))
    compiled(other, tmp_path)
    (second,) = set(cached(tmp_path)) - {file}
    second.write_bytes(file.read_bytes())
    compiled(other, tmp_path)
    assert len(compiling) == 3


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720])
def test_a_cache_that_others_can_write_is_an_error(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "cache"
    compiled(WASM, folder)
    folder.chmod(mode)
    with pytest.raises(LocalError, match=rf"mode {mode:o}\); .* chmod go-w {folder}$"):
        compiled(WASM, folder)


def test_a_key_of_the_cache_that_others_can_write_is_an_error(tmp_path: Path) -> None:
    compiled(WASM, tmp_path)
    (tmp_path / "key").chmod(0o666)
    with pytest.raises(LocalError, match=r"other users can write .*/key"):
        compiled(WASM, tmp_path)


def test_a_cache_in_a_folder_of_everybody_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    with pytest.raises(LocalError, match="can replace"):
        compiled(WASM, tmp_path / "shared" / "cache")


def test_a_cache_that_cannot_be_written_is_not_needed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert works(compiled(WASM, tmp_path / "file" / "cache"))


def fill(folder: Path, count: int) -> list[Path]:
    """Compiles different modules one after the other; the files that are left, the oldest first."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        for file in cached(folder):  # older than the next one, however coarse the file system's times are
            used_s = file.stat().st_mtime - 1
            os.utime(file, (used_s, used_s))
        compiled(module(wat(f"(i32.const -{number + 1})")), folder)
    return sorted(cached(folder), key=lambda file: file.stat().st_mtime)


def test_the_cache_is_bounded_in_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefacts, "CACHED_MAX", 3)
    assert len(fill(tmp_path, 6)) == 3


def test_the_cache_is_bounded_in_bytes_and_the_newest_modules_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = fill(tmp_path / "all", 6)
    limit = sum(file.stat().st_size for file in everything[-3:])
    monkeypatch.setattr(artefacts, "CACHED_BYTES_MAX", limit)
    assert [file.name for file in fill(tmp_path / "bounded", 6)] == [file.name for file in everything[-3:]]


def test_a_module_used_again_is_not_the_next_to_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefacts, "CACHED_MAX", 3)
    oldest = fill(tmp_path, 3)[0]
    compiled(module(wat("(i32.const -1)")), tmp_path)
    compiled(WASM, tmp_path)
    assert oldest in cached(tmp_path)


def test_a_deadline_is_never_shorter_than_asked_for() -> None:
    assert [ticks_of(ms) for ms in (5, 6, 10, 100)] == [2, 3, 3, 21]


def test_there_is_one_engine_and_deadlines_may_be_nested() -> None:
    with deadlines(), deadlines():
        assert engine() is engine()
    endless = instance(module(wat("(loop $on (br $on)) (i32.const 0)")))
    with pytest.raises(ExtensionFailed, match="missed its deadline"):  # the fixture's context is still entered
        endless.process(frames(1))
