"""Modules with too many of something are refused before they are compiled, and compiling has limits of its own."""

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cubecast.errors import ExtensionRefused
from cubecast.sandbox.abi import manifest_of
from cubecast.sandbox.binary import COUNTED, CUSTOM_SECTIONS_MAX, MAGIC, check_counts, encoded_section, sections
from cubecast.sandbox.loading import SHIPPED, sandboxed, shipped
from cubecast.sandbox.wasm import blocks
from cubecast.sandbox.wasm.artefacts import compiled
from cubecast.sandbox.wasm.blocks import BLOCKS_MAX, NESTED_MAX, check_blocks
from cubecast.sandbox.wasm.compilation import Compilation, CompileLimits
from tests.conditions import until
from tests.sandbox.binaries import (
    CODE,
    DATA,
    ELEMENT,
    EXPORT,
    FUNCTION,
    GLOBAL,
    IMPORT,
    MEMORY,
    NOTHING,
    TABLE,
    TYPE,
    custom,
    extension,
    functions,
    number,
    section,
)
from tests.sandbox.modules import module, wat

BYTES_MAX = 2**20
"""Size of the modules below: what one host may send to another."""
SLACK_CPU_S = 5
"""How much more CPU time than its limit a process may take: the kernel looks at the clock now and then, and it is killed then."""
IF = b"\x41\x00\x04\x40\x0b"
"""An `if` that does nothing."""
ENTRY = {
    TYPE: NOTHING,
    IMPORT: b"\x01a\x01b\x00\x00",
    FUNCTION: b"\x00",
    TABLE: b"\x70\x00\x00",
    MEMORY: b"\x00\x01",
    GLOBAL: b"\x7f\x00\x41\x00\x0b",
    ELEMENT: b"\x00\x41\x00\x0b\x00",
    CODE: b"\x02\x00\x0b",
    DATA: b"\x00\x41\x00\x0b\x00",
}
"""A small entry of each section."""


def entries(kind: int, count: int) -> list[bytes]:
    """Different entries of a section where they must differ."""
    if kind == EXPORT:
        return [number(len(name)) + name + b"\x00\x00" for name in (str(n).encode() for n in range(count))]
    return [ENTRY[kind]] * count


MANY = {
    **{
        COUNTED[kind].what: MAGIC
        + section(kind, entries(kind, min(90_000, BYTES_MAX // len(ENTRY.get(kind, b"x" * 9)))))
        for kind in COUNTED
    },
    "custom sections": MAGIC + b"\x00\x01\x00" * 300_000,
    "empty sections": MAGIC + b"\x00\x00" * 500_000,
    "starts": MAGIC + b"\x08\x01\x00" * 300_000,
    "sections of unknown numbers": MAGIC + b"\x63\x00" * 500_000,
    "exports of which 16 000 are declared": MAGIC + encoded_section(EXPORT, number(16_000)),
    "ifs": functions(IF * 200_000),
    "loops": functions(b"\x03\x40\x0b" * 340_000),
    "ifs in many functions": functions(*[IF * 100] * 2000),
    "nested blocks": functions(b"\x02\x40" * 300_000 + b"\x0b" * 300_000),
    "nested ifs": functions(b"\x41\x00\x04\x40" * 200_000 + b"\x0b" * 200_000),
}
"""Modules with too many of something."""


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if a process is started."""

    def run(*_: object) -> bytes:
        raise AssertionError("it was given to the compiler")

    monkeypatch.setattr(Compilation, "run", run)


@contextmanager
def cpu_at_most(seconds: float) -> Iterator[None]:
    """Measures the CPU time of the processes that are started and end within it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    yield
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime <= seconds


@pytest.mark.parametrize("what", MANY)
def test_too_many_of_anything_is_refused(what: str) -> None:
    assert len(MANY[what]) <= BYTES_MAX
    with cpu_at_most(CompileLimits().cpu_s + SLACK_CPU_S), pytest.raises(ExtensionRefused):
        compiled(MANY[what])


@pytest.mark.parametrize("kind", COUNTED)
@pytest.mark.usefixtures("never")
def test_what_is_counted_is_refused_before_a_process_is_started(kind: int) -> None:
    with pytest.raises(ExtensionRefused, match="imports a.b" if kind == IMPORT else COUNTED[kind].what):
        compiled(MAGIC + section(kind, entries(kind, COUNTED[kind].most + 1)))


@pytest.mark.parametrize("kind", COUNTED)
def test_as_many_as_the_limit_says_are_allowed(kind: int) -> None:
    check_counts(MAGIC + section(kind, entries(kind, COUNTED[kind].most)))


def test_custom_sections_are_counted_before_a_manifest_is_looked_for() -> None:
    most = MAGIC + custom("x") * CUSTOM_SECTIONS_MAX
    check_counts(most)
    for look in (check_counts, manifest_of):
        with pytest.raises(ExtensionRefused, match="custom sections"):
            look(most + custom("x"))


def test_a_module_that_ends_anywhere_is_refused_or_counted() -> None:
    whole = functions(IF, b"\x0e\x02\x00\x00\x00", b"\x41\xff\xff\x03\x1a")
    between = {len(MAGIC)} | {each.end for each in sections(whole)}
    for size in range(len(whole) + 1):
        counted = True
        try:
            check_counts(whole[:size])
            check_blocks(whole[:size])
        except ExtensionRefused:
            counted = False
        assert counted == (size in between), size


def test_blocks_are_counted_in_all_functions_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCKS_MAX", 6)
    check_blocks(functions(IF * 3, IF * 3))
    with pytest.raises(ExtensionRefused, match="more than 6 blocks"):
        check_blocks(functions(IF * 3, IF * 4))


def test_blocks_are_nested_no_deeper_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "NESTED_MAX", 5)
    check_blocks(functions((b"\x02\x40" * 4 + b"\x0b" * 4) * 9))
    with pytest.raises(ExtensionRefused, match="nested more than 5 deep"):
        check_blocks(functions(b"\x02\x40" * 5 + b"\x0b" * 5))
    assert NESTED_MAX < BLOCKS_MAX


def test_operands_are_not_taken_for_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCKS_MAX", 0)
    constants = b"\x41\x04\x1a\x42\x83\x02\x1a\x43\2\3\4\2\x1a\x44" + b"\4" * 8 + b"\x1a\xfd\x0c" + b"\3" * 16 + b"\x1a"
    check_blocks(functions(constants * 100))


@pytest.mark.parametrize("name", shipped())
def test_shipped_extensions_are_within_all_limits(name: str) -> None:
    wasm = SHIPPED.joinpath(name, f"{name}.wasm").read_bytes()
    check_counts(wasm)
    check_blocks(wasm)


def test_cpu_time_ends_at_its_limit() -> None:
    bomb = functions(*[b"\x03\x40" * 1900 + b"\x0b" * 1900] * 26)
    with cpu_at_most(1 + SLACK_CPU_S), pytest.raises(ExtensionRefused, match="more than 1 s of CPU time"):
        Compilation(CompileLimits(cpu_s=1)).run(bomb)


def test_memory_ends_at_its_limit() -> None:
    with cpu_at_most(10 + SLACK_CPU_S), pytest.raises(ExtensionRefused, match="MiB of memory"):
        Compilation(CompileLimits(memory_bytes=512 * 2**20)).run(functions(b"\x10\x00" * 490_000))


def test_machine_code_ends_at_its_limit() -> None:
    with pytest.raises(ExtensionRefused, match=r"its machine code has .* at most 1000"):
        Compilation(CompileLimits(artefact_bytes=1000)).run(module(wat()))


def test_time_ends_at_its_limit() -> None:
    with pytest.raises(ExtensionRefused, match="to compile"):
        Compilation(CompileLimits(wall_s=0.001)).run(module(wat()))


def test_a_process_that_is_cancelled_is_killed() -> None:
    compilation, said = Compilation(), list[str]()

    def run() -> None:
        try:
            compilation.run(functions(*[b"\x03\x40" * 1900 + b"\x0b" * 1900] * 26))
        except ExtensionRefused as error:
            said.append(str(error))

    before = set(psutil.Process().children())
    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: bool(set(psutil.Process().children()) - before))
    compilation.cancel()
    thread.join()
    assert said == ["it is not wanted any more"]
    assert not set(psutil.Process().children()) - before


def test_one_that_is_cancelled_before_it_begins_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("it was started"))
    compilation = Compilation()
    compilation.cancel()
    with pytest.raises(ExtensionRefused, match="not wanted"):
        compilation.run(module(wat()))


def test_the_error_names_the_extension(tmp_path: Path) -> None:
    with pytest.raises(ExtensionRefused, match=r"^mine: it has .* exports"):
        sandboxed("mine", extension(MANY["exports"]), tmp_path)
