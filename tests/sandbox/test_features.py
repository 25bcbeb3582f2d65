"""Features of WebAssembly that extensions do not need are off: a module that uses one is refused, a similar one is not."""

import pytest
from wasmtime import Config, Engine, Module, WasmtimeError, wat2wasm

from cubecast.errors import ExtensionRefused
from cubecast.sandbox.binary import check_counts
from cubecast.sandbox.wasm.blocks import check_blocks
from cubecast.sandbox.wasm.compiler import compiled_here
from cubecast.sandbox.wasm.engine import engine

USED = {
    "64-bit memory": "(memory i64 1)",
    "shared memory": "(memory 1 1 shared)",
    "several memories": "(memory 1) (memory 1)",
    "atomics": "(memory 1) (func (drop (i32.atomic.load (i32.const 0))))",
    "relaxed SIMD": "(func (param v128 v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 1))))",
    "tail calls": "(func $f (return_call $f))",
    "indirect tail calls": "(table 1 funcref) (func (return_call_indirect (i32.const 0)))",
    "typed function references": "(type $t (func)) (func (param (ref $t)) (call_ref $t (local.get 0)))",
    "structures": "(type $t (struct (field i32))) (func (drop (struct.new $t (i32.const 1))))",
    "arrays": "(type $t (array i32)) (func (drop (array.new_default $t (i32.const 1))))",
    "integers as references": "(func (drop (ref.i31 (i32.const 1))))",
    "references to the host's values": "(func (param externref))",
    "recursive types": "(rec (type (func)) (type (func)))",
    "exceptions": "(tag $e) (func (throw $e))",
    "try": "(func (try_table (catch_all 0)))",
    "wide arithmetic": "(func (param i64) (drop (drop (i64.mul_wide_u (local.get 0) (local.get 0)))))",
    "pages of other sizes": "(memory 1 (pagesize 1))",
    "stack switching": "(type $f (func)) (type $c (cont $f)) (func (param (ref $c)) (resume $c (local.get 0)))",
}
"""A module for each feature that is off."""
FEATURES = (
    "shared_memory", "wasm_threads", "wasm_memory64", "wasm_multi_memory", "wasm_relaxed_simd", "wasm_tail_call",
    "wasm_function_references", "wasm_gc", "wasm_exceptions", "wasm_wide_arithmetic", "wasm_custom_page_sizes",
    "wasm_stack_switching",
)  # fmt: skip
"""Settings of wasmtime that turn them on."""
ALLOWED = {
    "SIMD": "(func (param v128) (result v128) (i8x16.add (local.get 0) (local.get 0)))",
    "all widths of SIMD": """(memory 1) (func (drop (v128.load8_lane 3 (i32.const 0) (v128.const i64x2 1 2)))
        (drop (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 (v128.const i64x2 2 3) (v128.load (i32.const 4))))
        (drop (i8x16.extract_lane_u 4 (i64x2.mul (v128.const i64x2 1 2) (v128.load32_zero (i32.const 300))))))""",
    "bulk memory": '(memory 1) (data $d "x") (func (memory.fill (i32.const 0) (i32.const 1) (i32.const 2)) '
    "(memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)) (data.drop $d))",
    "several results": "(func (result i32 i64) (i32.const 1) (i64.const -9000000000))",
    "tables of functions": "(table $t 2 funcref) (elem (i32.const 0) $f) (func $f (call_indirect $t (i32.const 1)) "
    "(table.set $t (i32.const 0) (ref.func $f)) (drop (ref.is_null (ref.null func))))",
    "conversions that saturate": "(func (drop (i32.trunc_sat_f32_u (f32.const 1e20))) (drop (i64.extend8_s (i64.const 1))))",
    "tables of branches": "(func (param i32) (block (block (block (br_table 2 1 0 0 (local.get 0))))))",
    "choices with a type": "(func (drop (select (result funcref) (ref.null func) (ref.null func) (i32.const 1))))",
}


@pytest.fixture(scope="module")
def everything() -> Engine:
    """An engine with all features."""
    config = Config()
    for feature in FEATURES:
        setattr(config, feature, True)
    return Engine(config)


@pytest.mark.parametrize("feature", USED)
def test_an_engine_with_all_features_accepts_it(feature: str, everything: Engine) -> None:
    """Otherwise the tests below would hold for a module that is wrong in another way."""
    Module.validate(everything, bytes(wat2wasm(f"(module {USED[feature]})")))


@pytest.mark.parametrize("feature", USED)
def test_a_feature_that_is_off_is_refused(feature: str) -> None:
    with pytest.raises(ExtensionRefused):
        compiled_here(bytes(wat2wasm(f"(module {USED[feature]})")))


@pytest.mark.parametrize("feature", USED)
def test_the_engine_itself_refuses_it(feature: str) -> None:
    with pytest.raises(WasmtimeError):
        Module.validate(engine(), bytes(wat2wasm(f"(module {USED[feature]})")))


@pytest.mark.parametrize("feature", ALLOWED)
def test_what_compilers_use_is_allowed(feature: str) -> None:
    wasm = bytes(wat2wasm(f"(module {ALLOWED[feature]})"))
    check_counts(wasm)
    check_blocks(wasm)
    compiled_here(wasm)
