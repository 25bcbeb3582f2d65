"""The sandbox's bars: the cost of a call, the saving of a batch, speed against native code, deadlines and restarts."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter, sleep

import numpy as np

from cubecast.bench import chain, hop
from cubecast.bench.ipc import trips_us
from cubecast.bench.rows import Row, failed_row, ratio_row, skipped_row, unjudged_row
from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.frames import EncodedFrame, Kind, TrackFormat
from cubecast.sandbox.abi import Manifest, manifest_of, with_manifest
from cubecast.sandbox.frame_exchange import Code, Exchange, fill_input
from cubecast.sandbox.loading import SHIPPED
from cubecast.sandbox.toolchain.build import build_native, native_compiler
from cubecast.sandbox.trusted.native import NativeCode, loaded_library, native_manifest, sealed_library
from cubecast.sandbox.wasm.bare_module import BareModule, assembled
from cubecast.sandbox.wasm.compiler import compiled_here
from cubecast.sandbox.wasm.engine import deadlines
from cubecast.sandbox.wasm.module import ModuleCode

ROUNDS = 5
"""Rounds of each measurement; the fastest counts, since other load on the machine makes the others slower."""
CALLS = 20_000
"""Number of calls in a round, made as the sandbox makes them."""
SLOW_CALLS = 2_000
"""Number of calls in a round, made as wasmtime for Python makes them: fewer, since each takes at least ten times as long."""
BATCH = 64
"""Packets in a batch."""
BATCHES = 40
"""Number of calls of which the fastest counts, sandboxed or native."""
PACKET_BYTES = 1200
"""Payload of a packet, bytes: about that of a QUIC packet on the Internet."""
CALL_BAR = 0.1
"""Maximum time of a pre-bound call, relative to wasmtime's own call."""
TRIP_BAR = 1 / 3
"""Maximum time of 4 bytes into the sandbox and back, relative to a pipe."""
BATCH_BAR = 1 / 20
"""Maximum time for a packet in a batch, relative to a packet alone."""
NATIVE_BAR = 1.6
"""Maximum time in the sandbox, relative to native code: geometric mean of SPEED_EXTENSIONS."""
DEADLINE_MS = 5
"""Deadline of the calls that are measured, ms."""
DEADLINE_BAR = 2.5
"""Maximum time until a call that never returns has failed, relative to a sleep of DEADLINE_MS."""
RESTART_BAR = 2.0
"""Maximum time from a trap to the next good result, relative to starting an instance that has not failed."""
TRIES = 10
"""Number of measured deadlines, of which the slowest counts, and of measured restarts, of which the fastest counts."""
SPEED_EXTENSIONS = ("gain", "mulaw", "downscale", "thin")
"""Shipped extensions that are compared with native builds of the same source."""
PICTURE = TrackFormat(Kind.VIDEO, "rawvideo", b"", 1280, 720, 25.0)
"""Track of decoded 720p pictures."""
SOUND = TrackFormat(Kind.AUDIO, "pcm_s16le", sample_rate=48_000, channels=2)
"""Track of decoded stereo sound."""
CODED = TrackFormat(Kind.VIDEO, "h264", b"", 1280, 720, 25.0)
"""Track of encoded 720p video."""

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
"""An extension that behaves as the size of its first frame says: 1 traps, 2 never returns, others succeed."""
TRAPS = 1
"""Size of a frame with which BAD traps, bytes."""
NEVER_RETURNS = 2
"""Size of a frame with which BAD never returns, bytes."""
SUCCEEDS = 3
"""Size of a frame with which BAD succeeds, bytes."""


def measure(clip: Path | None = None) -> Iterator[Row]:
    """A row for each bar; `clip` is the 720p clip that is processed live, by default a synthetic one."""
    with deadlines():
        for name, row_of in (("pre-bound call", _call), ("round trip", _round_trip), ("batch", _batch)):
            yield _row_or_failure(name, row_of)
        yield from _native()
        for name, row_of in (("deadline", _deadline), ("restart", _restart)):
            yield _row_or_failure(name, row_of)
    yield from hop.measure()
    yield from chain.measure(clip)


def _row_or_failure(name: str, row_of: Callable[[], Row]) -> Row:
    """A row; one that does not hold if a call missed its deadline, as may happen on a busy machine."""
    try:
        return row_of()
    except ExtensionFailed as error:
        return failed_row(name, error)


def _call() -> Row:
    module = BareModule(ADD)
    bound = module.bound("add", ("i", "i"))
    fast = _best_us(lambda: bound(1, 2), CALLS)
    slow = _best_us(lambda: module.plain("add", 1, 2), SLOW_CALLS)
    return ratio_row("pre-bound call", fast, "us", "wasmtime's own call", slow, CALL_BAR)


def _round_trip() -> Row:
    us = trips_us(("sandbox call", "pipe"))
    return ratio_row("4 bytes into the sandbox and back", us["sandbox call"], "us", "pipe", us["pipe"], TRIP_BAR)


def _batch() -> Row:
    """Packets that are in the module's memory already, as on the packet path."""
    code = _module("shed", (CODED,))
    fill_input(code, [_packet(number) for number in range(BATCH)])
    single = _best_us(lambda: code.process_batch(1), CALLS)
    many = _best_us(lambda: code.process_batch(BATCH), CALLS // 10) / BATCH
    return ratio_row(f"a packet in a batch of {BATCH}", many, "us", "one alone", single, BATCH_BAR)


def _native() -> Iterator[Row]:
    ratios = []
    compiler = f"{Path(native_compiler()[0]).name} -O3"
    for name in SPEED_EXTENSIONS:
        tracks = (CODED,) if name == "thin" else (PICTURE,) if name == "downscale" else (SOUND,)
        try:
            native = _code_of_native(name, tracks)
        except ExtensionRefused as error:
            yield skipped_row(f"{name} against native", str(error))
            return
        sandboxed = _module(name, tracks)
        frames = _input(name)
        pair: list[list[float]] = [[], []]
        for _ in range(ROUNDS):
            for times, code in zip(pair, (sandboxed, native), strict=True):
                times.append(_batch_us(code, frames))
        best = [min(times) for times in pair]
        ratios.append(best[0] / best[1])
        yield unjudged_row(f"{name}, {len(frames)} frames", round(best[0], 2), "us", compiler, round(ratios[-1], 3))
    mean = math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))
    text = f"SIMD with deadlines, geometric mean of {', '.join(SPEED_EXTENSIONS)}"
    yield ratio_row(text, mean, "", compiler, 1.0, NATIVE_BAR)


def _deadline() -> Row:
    """Calls that miss their deadline while a Python thread is busy, against sleeps as long as the deadline.

    Both wait for that time and then for Python's lock, so that other load on the machine delays both.
    """
    over = threading.Event()

    def keep_busy() -> None:
        while not over.is_set():
            sum(range(1000))

    thread = threading.Thread(target=keep_busy)
    thread.start()
    failing_ms, sleeping_ms = [], []
    try:
        for _ in range(TRIES):
            failing_ms.append(_failing_ms(NEVER_RETURNS))
            begun = perf_counter()
            sleep(DEADLINE_MS / 1000)
            sleeping_ms.append((perf_counter() - begun) * 1000)
    finally:
        over.set()
        thread.join()
    text = f"a call that never returns, deadline {DEADLINE_MS} ms, fails beside a busy thread, slowest of {TRIES}"
    return ratio_row(text, max(failing_ms), "ms", f"slowest sleep of {DEADLINE_MS} ms", max(sleeping_ms), DEADLINE_BAR)


def _restart() -> Row:
    """From a trap to the next good result, against a first start: both make a new instance of a compiled module."""
    wasm = with_manifest(assembled(BAD), Manifest(name="bad", deadline_ms=DEADLINE_MS))
    module, manifest = compiled_here(wasm), manifest_of(wasm)

    def start() -> Exchange:
        return Exchange(ModuleCode(module, manifest), manifest, (CODED,), {})

    first_ms, again_ms = [], []
    for _ in range(TRIES):
        begun = perf_counter()
        exchange = start()
        exchange.process([_packet(0, SUCCEEDS)])
        first_ms.append((perf_counter() - begun) * 1000)
        try:
            exchange.process([_packet(0, TRAPS)])
        except ExtensionFailed:
            begun = perf_counter()
            exchange.close()
            again = start()
            again.process([_packet(0, SUCCEEDS)])
            again_ms.append((perf_counter() - begun) * 1000)
            again.close()
    text = f"next good result after a trap, best of {TRIES}"
    return ratio_row(text, min(again_ms), "ms", "first good result of an instance", min(first_ms), RESTART_BAR)


def _failing_ms(behaviour: int) -> float:
    """Time until a call fails, ms; infinite if it succeeds."""
    wasm = with_manifest(assembled(BAD), Manifest(name="bad", deadline_ms=DEADLINE_MS))
    exchange = Exchange(ModuleCode(compiled_here(wasm), manifest_of(wasm)), manifest_of(wasm), (CODED,), {})
    begun = perf_counter()
    try:
        exchange.process([_packet(0, behaviour)])
    except ExtensionFailed:
        return (perf_counter() - begun) * 1000
    return float("inf")


def _module(name: str, tracks: tuple[TrackFormat, ...]) -> Code:
    wasm = SHIPPED.joinpath(name, f"{name}.wasm").read_bytes()
    code = ModuleCode(compiled_here(wasm), manifest_of(wasm))
    Exchange(code, manifest_of(wasm), tracks, {})
    return code


def _code_of_native(name: str, tracks: tuple[TrackFormat, ...]) -> Code:
    library = build_native(Path(str(SHIPPED.joinpath(name))))
    manifest = native_manifest(library)
    code = NativeCode(loaded_library(sealed_library(library, name)), manifest)
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
    """Four slices of an H.264 picture, each preceded by its length; odd pictures are not referred to by others."""
    kind = 0x65 if number % 16 == 0 else 0x01 if number % 2 else 0x41
    body = bytes([kind]) + rng.integers(0, 256, PACKET_BYTES // 4, np.uint8).tobytes()
    return (len(body).to_bytes(4, "big") + body) * 4


def _packet(number: int, size: int = PACKET_BYTES) -> EncodedFrame:
    return _frame(number, bytes(size))


def _frame(number: int, payload: bytes, *, keyframe: bool = True) -> EncodedFrame:
    return EncodedFrame(0, 40_000 * number, 40_000 * number, 40_000, keyframe, payload)


def _batch_us(code: Code, frames: Sequence[EncodedFrame]) -> float:
    """Time of one call for all frames, the fastest of BATCHES; each call gets new frames, since extensions work in place."""
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
