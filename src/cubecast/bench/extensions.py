"""The bars of the sandbox: what a call costs, what a batch saves, how near native code it comes, and how soon it ends."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from cubecast.bench import chain, hop
from cubecast.bench.ipc import trips_us
from cubecast.bench.rows import Row
from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.frames import EncodedFrame, Kind, TrackFormat
from cubecast.sandbox.abi import Manifest, manifest_of, with_manifest
from cubecast.sandbox.frame_exchange import Code, Exchange, fill_input
from cubecast.sandbox.loading import SHIPPED
from cubecast.sandbox.toolchain.build import build_native, native_compiler
from cubecast.sandbox.trusted.native import NativeCode, native_manifest
from cubecast.sandbox.wasm.engine import compiled, deadlines
from cubecast.sandbox.wasm.kernels import Kernel, assembled
from cubecast.sandbox.wasm.module import ModuleCode

ROUNDS = 5
CALLS, SLOW_CALLS = 20_000, 2_000
BATCH = 64
BATCHES = 40
PACKET_BYTES = 1200
CALL_BAR, TRIP_BAR, BATCH_BAR, NATIVE_BAR = 0.1, 1 / 3, 1 / 20, 1.6
DEADLINE_MS, DEADLINE_BAR_MS, AGAIN_BAR_MS = 5, 25.0, 2.0
TRIES = 10
KERNELS = ("gain", "mulaw", "downscale", "thin")
PICTURE = TrackFormat(Kind.VIDEO, "rawvideo", b"", 1280, 720, 25.0)
SOUND = TrackFormat(Kind.AUDIO, "pcm_s16le", sample_rate=48_000, channels=2)
CODED = TrackFormat(Kind.VIDEO, "h264", b"", 1280, 720, 25.0)

ADD = '(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))'
BAD = """(module (memory (export "memory") 18)
  (data (i32.const 16) "\\01\\00\\00\\00\\00\\04\\00\\00\\40\\00\\00\\00\\00\\00\\01\\00\\00\\00\\10\\00"
    "\\00\\10\\00\\00\\40\\00\\00\\00\\00\\20\\00\\00\\10\\00\\00\\00\\01\\00\\00\\00")
  (func (export "cubecast_layout") (result i32) (i32.const 16))
  (func (export "init") (param i32) (result i32) (i32.const 0))
  (func (export "process_batch") (param $n i32) (result i32)
    (if (i32.eq (i32.load (i32.const 1048)) (i32.const 1)) (then unreachable))
    (if (i32.eq (i32.load (i32.const 1048)) (i32.const 2)) (then (loop $on (br $on))))
    (i32.const 0)))"""
"""Fails as its first frame's size says: 1 traps, 2 never ends, others are well."""


def measure(clip: Path | None = None) -> Iterator[Row]:
    """A row for each bar; `clip` is the 720p clip that is processed live, by default one made on the spot."""
    with deadlines():
        yield _call()
        yield _round_trip()
        yield _batch()
        yield from _native()
        yield _deadline()
        yield _again()
    yield from hop.measure()
    yield from chain.measure(clip)


def _call() -> Row:
    kernel = Kernel(ADD)
    bound = kernel.bound("add", ("i", "i"))
    fast = _best_us(lambda: bound(1, 2), CALLS)
    slow = _best_us(lambda: kernel.plain("add", 1, 2), SLOW_CALLS)
    return _row("pre-bound call", fast, "us", "wasmtime's own call", slow, CALL_BAR)


def _round_trip() -> Row:
    us = trips_us(("sandbox call", "pipe"))
    return _row("4 bytes into the sandbox and back", us["sandbox call"], "us", "pipe", us["pipe"], TRIP_BAR)


def _batch() -> Row:
    """Packets that lie in the module's memory already, as the packet path has them."""
    code = _module("shed", (CODED,))
    fill_input(code, [_packet(number) for number in range(BATCH)])
    single = _best_us(lambda: code.process_batch(1), CALLS)
    many = _best_us(lambda: code.process_batch(BATCH), CALLS // 10) / BATCH
    return _row(f"a packet in a batch of {BATCH}", many, "us", "one alone", single, BATCH_BAR)


def _native() -> Iterator[Row]:
    ratios = []
    compiler = f"{Path(native_compiler()[0]).name} -O3"
    for name in KERNELS:
        tracks = (CODED,) if name == "thin" else (PICTURE,) if name == "downscale" else (SOUND,)
        try:
            native = _code_of_native(name, tracks)
        except ExtensionRefused as error:
            yield Row(f"{name} against native", 0, "", compiler, 0, NATIVE_BAR, holds=False, skipped=str(error))
            return
        sandboxed = _module(name, tracks)
        frames = _input(name)
        pair: list[list[float]] = [[], []]
        for _ in range(ROUNDS):
            for times, code in zip(pair, (sandboxed, native), strict=True):
                times.append(_batch_us(code, frames))
        best = [min(times) for times in pair]
        ratios.append(best[0] / best[1])
        yield Row(
            f"{name}, {len(frames)} frames", round(best[0], 2), "us", compiler, round(ratios[-1], 3), None, holds=True
        )
    mean = math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))
    text = f"SIMD with deadlines, geometric mean of {', '.join(KERNELS)}"
    yield Row(text, round(mean, 3), "", compiler, round(mean, 3), NATIVE_BAR, mean <= NATIVE_BAR)


def _deadline() -> Row:
    """The slowest of some tries while a Python thread is busy."""
    over = threading.Event()

    def busy() -> None:
        while not over.is_set():
            sum(range(1000))

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        worst = max(_failing_ms(2) for _ in range(TRIES))
    finally:
        over.set()
        thread.join()
    text = f"a deadline of {DEADLINE_MS} ms beside a busy thread, slowest of {TRIES}"
    return Row(
        text,
        round(worst, 2),
        "ms",
        "the bar",
        round(worst / DEADLINE_BAR_MS, 3),
        DEADLINE_BAR_MS,
        worst <= DEADLINE_BAR_MS,
    )


def _again() -> Row:
    """From a trap to the next good result: a fresh instance of the same module."""
    wasm = with_manifest(assembled(BAD), Manifest(name="bad", deadline_ms=DEADLINE_MS))
    module, manifest = compiled(wasm), manifest_of(wasm)
    times = []
    for _ in range(TRIES):
        here = Exchange(ModuleCode(module, manifest), manifest, (CODED,), {})
        try:
            here.process([_packet(0, 1)])
        except ExtensionFailed:
            begun = perf_counter()
            here.close()
            Exchange(ModuleCode(module, manifest), manifest, (CODED,), {}).process([_packet(0, 3)])
            times.append((perf_counter() - begun) * 1000)
    worst = max(times)
    text = f"next good result after a trap, slowest of {TRIES}"
    return Row(
        text, round(worst, 3), "ms", "the bar", round(worst / AGAIN_BAR_MS, 3), AGAIN_BAR_MS, worst <= AGAIN_BAR_MS
    )


def _failing_ms(how: int) -> float:
    wasm = with_manifest(assembled(BAD), Manifest(name="bad", deadline_ms=DEADLINE_MS))
    here = Exchange(ModuleCode(compiled(wasm), manifest_of(wasm)), manifest_of(wasm), (CODED,), {})
    begun = perf_counter()
    try:
        here.process([_packet(0, how)])
    except ExtensionFailed:
        return (perf_counter() - begun) * 1000
    return float("inf")


def _module(name: str, tracks: tuple[TrackFormat, ...]) -> Code:
    wasm = SHIPPED.joinpath(name, f"{name}.wasm").read_bytes()
    code = ModuleCode(compiled(wasm), manifest_of(wasm))
    Exchange(code, manifest_of(wasm), tracks, {})
    return code


def _code_of_native(name: str, tracks: tuple[TrackFormat, ...]) -> Code:
    library = build_native(Path(str(SHIPPED.joinpath(name))))
    manifest = native_manifest(library)
    code = NativeCode(library, manifest)
    Exchange(code, manifest, tracks, {})
    return code


def _input(name: str) -> list[EncodedFrame]:
    rng = np.random.default_rng(7)
    if name == "downscale":
        size = PICTURE.width * PICTURE.height * 3 // 2
        return [_frame(n, rng.integers(0, 256, size, np.uint8).tobytes()) for n in range(4)]
    if name == "thin":
        units = [_slice(rng, n) for n in range(BATCH)]
        return [_frame(n, unit, keyframe=n % 16 == 0) for n, unit in enumerate(units)]
    return [_frame(n, rng.integers(-20_000, 20_000, 2048).astype("<i2").tobytes()) for n in range(BATCH)]


def _slice(rng: np.random.Generator, number: int) -> bytes:
    """Four slices of a picture, in units with a length; every other picture is one that nobody refers to."""
    kind = 0x65 if number % 16 == 0 else 0x01 if number % 2 else 0x41
    body = bytes([kind]) + rng.integers(0, 256, PACKET_BYTES // 4, np.uint8).tobytes()
    return (len(body).to_bytes(4, "big") + body) * 4


def _packet(number: int, size: int = PACKET_BYTES) -> EncodedFrame:
    return _frame(number, bytes(size))


def _frame(number: int, payload: bytes, *, keyframe: bool = True) -> EncodedFrame:
    return EncodedFrame(0, 40_000 * number, 40_000 * number, 40_000, keyframe, payload)


def _batch_us(code: Code, frames: Sequence[EncodedFrame]) -> float:
    """One call for all frames, the fastest of some; kernels work in place, so each call gets the frames anew."""
    best = math.inf
    for _ in range(BATCHES):
        fill_input(code, frames)
        begun = perf_counter()
        emitted = code.process_batch(len(frames))
        best = min(best, (perf_counter() - begun) * 1e6)
        if emitted < 0:
            raise ExtensionFailed("error", f"process_batch gave error {emitted}")
    return best


def _best_us(work: Callable[[], object], calls: int, rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        begun = perf_counter()
        for _ in range(calls):
            work()
        times.append((perf_counter() - begun) / calls * 1e6)
    return min(times)


def _row(name: str, value: float, unit: str, other_name: str, other: float, bar: float) -> Row:
    ratio = value / other
    return Row(
        name, round(value, 4), unit, f"{other_name} ({other:.2f} {unit})", round(ratio, 4), round(bar, 4), ratio <= bar
    )
