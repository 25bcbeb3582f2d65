"""Small modules in WAT, valid and invalid, with a manifest."""

from collections.abc import Mapping, Sequence

from wasmtime import wat2wasm

from cubecast.frames import EncodedFrame, Kind, TrackFormat
from cubecast.sandbox.abi import Manifest, manifest_of, with_manifest
from cubecast.sandbox.frame_exchange import Exchange
from cubecast.sandbox.wasm.compiler import compiled_here
from cubecast.sandbox.wasm.module import ModuleCode

VIDEO = TrackFormat(Kind.VIDEO, "h264", b"\x01", 640, 360, 30000 / 1001)
AUDIO = TrackFormat(Kind.AUDIO, "aac", b"\x11\x90", sample_rate=48_000, channels=2)
TRACKS = (VIDEO, AUDIO)

MEMORY = '(memory (export "memory") 18)'
LAYOUT = (
    r'"\01\00\00\00" "\00\04\00\00" "\40\00\00\00" "\00\00\01\00" "\00\00\10\00" '
    r'"\00\10\00\00" "\40\00\00\00" "\00\20\00\00" "\10\00\00\00" "\02\00\00\00"'
)
"""Frames in at 1024 and out at 4096, 64 of each; bytes at 65536, 1 MiB; tracks at 8192, 16."""
DEADLINE_MS = 200
"""Long enough that a valid module meets it on a busy machine."""
PASS = """(memory.copy (i32.const 4096) (i32.const 1024) (i32.mul (local.get $n) (i32.const 32))) (local.get $n)"""


def wat(
    process: str = PASS,
    *,
    init: str = "(i32.const 0)",
    layout: str = "(i32.const 16)",
    event: str = "",
    memory: str = MEMORY,
    table: str = LAYOUT,
    more: str = "",
) -> str:
    """A module in WAT; by default it forwards every frame unchanged."""
    on_event = (
        f'(func (export "on_event") (param $kind i32) (param $time i64) (param $value f64) (result i32) {event})'
        if event
        else ""
    )
    return f"""(module {memory} (data (i32.const 16) {table}) {more}
      (func (export "cubecast_layout") (result i32) {layout})
      (func (export "init") (param $bytes i32) (result i32) {init})
      (func (export "process_batch") (param $n i32) (result i32) {process})
      {on_event})"""


def module(text: str, manifest: Manifest | None = None) -> bytes:
    """A built extension from WAT."""
    return with_manifest(
        bytes(wat2wasm(text)), manifest or Manifest(name="test", memory_mib=4, deadline_ms=DEADLINE_MS)
    )


def instance(wasm: bytes, tracks: Sequence[TrackFormat] = TRACKS, config: Mapping[str, str] | None = None) -> Exchange:
    """A new instance of a module."""
    manifest = manifest_of(wasm)
    return Exchange(ModuleCode(compiled_here(wasm), manifest), manifest, tracks, config or {})


def frames(count: int, size: int = 100, track: int = 0) -> list[EncodedFrame]:
    """Frames that differ from each other."""
    return [
        EncodedFrame(track, 40_000 * n, 40_000 * n - 7, 40_000, n % 5 == 0, bytes([n % 251]) * (size + n))
        for n in range(count)
    ]
