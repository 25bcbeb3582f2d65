"""Compiled modules on disk: used again, never believed when somebody touched them, bounded in number."""

from pathlib import Path

import pytest
from wasmtime import Module

from cubecast.sandbox.abi import manifest_of
from cubecast.sandbox.frame_exchange import Exchange
from cubecast.sandbox.wasm import engine as machine
from cubecast.sandbox.wasm.engine import compiled, deadlines, engine, ticks_of
from cubecast.sandbox.wasm.module import ModuleCode
from tests.sandbox.modules import TRACKS, frames, module, wat

WASM = module(wat())


def works(loaded: Module) -> bool:
    manifest = manifest_of(WASM)
    here = Exchange(ModuleCode(loaded, manifest), manifest, TRACKS, {})
    return here.process(frames(2)).frames == frames(2)


def cached(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.name != "key"]


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often a module was compiled."""
    count: list[int] = []

    class Counted(Module):
        def __init__(self, *args: object) -> None:
            count.append(1)
            super().__init__(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(machine, "Module", Counted)
    return count


def test_a_module_is_compiled_once(tmp_path: Path, compiling: list[int]) -> None:
    assert works(compiled(WASM, tmp_path))
    assert works(compiled(WASM, tmp_path))
    assert len(compiling) == 1
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("where", [0, 40, -1])
def test_a_file_somebody_changed_is_compiled_anew(tmp_path: Path, compiling: list[int], where: int) -> None:
    compiled(WASM, tmp_path)
    (file,) = cached(tmp_path)
    code = bytearray(file.read_bytes())
    code[where] ^= 1
    file.write_bytes(code)
    assert works(compiled(WASM, tmp_path))
    assert len(compiling) == 2


def test_a_file_of_another_module_is_not_taken_for_it(tmp_path: Path, compiling: list[int]) -> None:
    compiled(WASM, tmp_path)
    (file,) = cached(tmp_path)
    other = module(wat("(i32.const 0)"))
    compiled(other, tmp_path)
    (second,) = set(cached(tmp_path)) - {file}
    second.write_bytes(file.read_bytes())
    compiled(other, tmp_path)
    assert len(compiling) == 3


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert works(compiled(WASM, tmp_path / "file" / "cache"))


def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CACHED_MAX", 3)
    for number in range(6):
        compiled(module(wat(f"(i32.const -{number + 1})")), tmp_path)
    assert len(cached(tmp_path)) == 3


def test_a_deadline_is_never_shorter_than_asked_for() -> None:
    assert [ticks_of(ms) for ms in (5, 6, 10, 100)] == [2, 3, 3, 21]


def test_there_is_one_engine_and_its_clock_may_be_entered_again() -> None:
    with deadlines(), deadlines():
        assert engine() is engine()
    assert works(compiled(WASM))
