"""Hostile modules: each causes one of two typed errors, and a new instance of a valid module still works."""

import random
import threading
from pathlib import Path

import pytest
from wasmtime import Instance

from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.sandbox.abi import Manifest
from cubecast.sandbox.binary import MODULE_BYTES_MAX
from cubecast.sandbox.loading import load, read_module, shipped
from tests.sandbox.modules import frames, instance, module, wat

LOOP = "(loop $on (br $on)) (i32.const 0)"
TRAP = "unreachable"
GOOD = module(wat())
MUTATIONS = 300


def works() -> bool:
    return instance(GOOD).process(frames(3)).frames == frames(3)


@pytest.mark.parametrize(
    ("process", "kind", "said"),
    [
        (LOOP, "deadline", "missed its deadline"),
        (TRAP, "trap", "unreachable instruction"),
        ("(i32.load (i32.const -4))", "trap", "outside its memory"),
        ("(i32.div_s (i32.const 1) (i32.const 0))", "trap", "divide by zero"),
        ("(call $deep (i64.const 0)) (i32.const 0)", "trap", "overflowed its stack"),
        ("(call_indirect (result i32) (i32.const 5))", "trap", "trapped"),
    ],
)
def test_a_call_that_goes_wrong_is_a_typed_failure(process: str, kind: str, said: str) -> None:
    more = """(table 1 funcref)
      (func $deep (param $n i64) (call $deep (i64.add (local.get $n) (i64.const 1))) (drop (i32.const 0)))"""
    here = instance(module(wat(process, more=more)))
    with pytest.raises(ExtensionFailed, match=said) as failed:
        here.process(frames(1))
    assert failed.value.kind == kind
    assert works()


@pytest.mark.parametrize("where", ["layout", "init", "event", "start"])
@pytest.mark.parametrize(("what", "kind"), [(LOOP, "deadline"), (TRAP, "trap")])
def test_every_export_may_fail(where: str, what: str, kind: str) -> None:
    manifest = Manifest(name="test", events=("timer",) if where == "event" else ())
    text = {
        "layout": lambda: wat(layout=what),
        "init": lambda: wat(init=what),
        "event": lambda: wat(event=what),
        "start": lambda: wat(more=f"(func $go (drop (block (result i32) {what}))) (start $go)"),
    }[where]()

    def use() -> None:
        here = instance(module(text, manifest))
        here.on_event(next(iter(manifest.event_kinds())), 0, 0.0)

    with pytest.raises(ExtensionFailed) as failed:
        use()
    assert failed.value.kind == kind
    assert works()


def test_a_deadline_is_kept_while_a_python_thread_is_busy() -> None:
    over = threading.Event()

    def busy() -> None:
        while not over.is_set():
            sum(range(1000))

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        with pytest.raises(ExtensionFailed, match="deadline"):
            instance(module(wat(LOOP))).process(frames(1))
    finally:
        over.set()
        thread.join()


def test_memory_ends_at_its_limit() -> None:
    bomb = "(loop $on (br_if $on (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (i32.const 0)"
    here = instance(module(wat(bomb), Manifest(name="test", memory_mib=3, deadline_ms=1000)))
    assert here.process(frames(1)).frames == []
    assert here.memory_bytes() == 3 * 2**20


@pytest.mark.parametrize(
    "memory", ['(memory (export "memory") 4096)', '(memory (export "memory") 18) (table 200000 funcref)']
)
def test_a_module_that_declares_too_much_memory_or_table_is_refused(memory: str) -> None:
    with pytest.raises(ExtensionRefused, match="cannot be instantiated"):
        instance(module(wat(memory=memory)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (wat().replace('"process_batch"', '"process"'), "not export the function process_batch"),
        (wat().replace('"memory"', '"ram"'), "not export its memory"),
        (wat().replace('(export "init") (param $bytes i32)', '(export "init") (param $bytes i64)'), "init must have"),
        (
            wat().replace('(export "cubecast_layout") (result i32) (i32.const 16)', '(export "cubecast_layout")'),
            "cubecast_layout must have",
        ),
        (wat(layout="(i32.const -16)"), "layout lies outside its memory"),
        (wat(table=r'"\02\00\00\00"'), "layout is for interface 2"),
        (wat(table=""), "layout is for interface 0"),
    ],
)
def test_a_module_without_the_interface_is_refused(text: str, said: str) -> None:
    with pytest.raises(ExtensionRefused, match=said):
        instance(module(text))
    assert works()


def test_exports_are_found_without_a_walk_over_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Instance.exports` takes quadratic time."""
    monkeypatch.setattr(Instance, "exports", lambda *_: pytest.fail("all exports were asked for"))
    more = "".join(f'(func (export "{n}"))' for n in range(250))
    assert instance(module(wat(more=more))).process(frames(3)).frames == frames(3)


def test_imports_are_refused_by_name() -> None:
    text = '(module (import "wasi_snapshot_preview1" "fd_write" (func)) (memory (export "memory") 18))'
    with pytest.raises(ExtensionRefused, match=r"imports wasi_snapshot_preview1\.fd_write"):
        instance(module(text))


def test_giant_and_cut_files_are_refused(tmp_path: Path) -> None:
    giant = tmp_path / "giant.wasm"
    with giant.open("wb") as out:
        out.truncate(MODULE_BYTES_MAX + 1)
    with pytest.raises(ExtensionRefused, match="more than"):
        read_module(giant)
    for size in range(0, len(GOOD), 7):
        cut = tmp_path / "cut.wasm"
        cut.write_bytes(GOOD[:size])
        with pytest.raises(ExtensionRefused, match=r"cut\.wasm: "):
            load(str(cut), tmp_path / "cache")


def test_mutations_of_a_good_module_never_hurt_the_host() -> None:
    """`make fuzz` runs ten thousand mutations."""
    rng = random.Random(5)
    good = load_bytes("thin")
    ended = {"well": 0, "refused": 0, "failed": 0}
    for _ in range(MUTATIONS):
        wasm = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            wasm[rng.randrange(8, len(wasm))] = rng.randrange(256)
        ended[outcome(bytes(wasm))] += 1
    assert all(ended.values()), "each outcome must occur, or the mutations test nothing"
    assert works()


def load_bytes(name: str) -> bytes:
    assert name in shipped()
    return (Path(__file__).parents[2] / "src" / "cubecast" / "extensions" / name / f"{name}.wasm").read_bytes()


def outcome(wasm: bytes) -> str:
    try:
        instance(wasm).process(frames(8))
    except ExtensionRefused:
        return "refused"
    except ExtensionFailed:
        return "failed"
    return "well"
