"""Runs mutated modules in the sandbox, each in its own instance, while an intact extension works beside them.

    python trials/fuzz.py [--mutations N] [--seed N]

Every mutation must end in a result, a refusal or a typed failure. The intact extension must lose no frame, and this process
must survive.
"""

import argparse
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from time import monotonic

from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.frames import EncodedFrame, Kind, TrackFormat
from cubecast.sandbox.abi import manifest_of
from cubecast.sandbox.frame_exchange import Exchange
from cubecast.sandbox.loading import SHIPPED, load, shipped
from cubecast.sandbox.supervision import RunningExtension
from cubecast.sandbox.wasm.compiler import compiled_here
from cubecast.sandbox.wasm.engine import deadlines
from cubecast.sandbox.wasm.module import ModuleCode

TRACKS = (
    TrackFormat(Kind.VIDEO, "h264", b"", 64, 48, 25.0),
    TrackFormat(Kind.AUDIO, "pcm_s16le", sample_rate=48_000, channels=2),
)
REPORT_EVERY = 1000
"""Mutations between two progress reports."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    modules = [SHIPPED.joinpath(name, f"{name}.wasm").read_bytes() for name in shipped()]
    outcomes: Counter[str] = Counter()
    intact = load("thin")

    def make(tracks: Sequence[TrackFormat], config: Mapping[str, str]) -> Exchange:
        made = intact.make(tracks, config)
        assert isinstance(made, Exchange)
        return made

    with deadlines():
        beside = RunningExtension(intact.manifest, make, TRACKS, {"share": "1"}, monotonic)
        for number in range(1, args.mutations + 1):
            outcomes[outcome(_mutated(rng, rng.choice(modules)))] += 1
            frame = _frame(number)
            if beside.process([frame]) != [frame]:
                print(f"mutation {number}: the intact extension beside it lost a frame")
                return 1
            if number % REPORT_EVERY == 0:
                print(f"{number} mutations: {dict(outcomes)}", file=sys.stderr)
    print(
        f"{args.mutations} mutations, seed {args.seed}: {dict(sorted(outcomes.items()))}; no crash, and the intact extension lost no frame"
    )
    return 0 if beside.stats.failures == 0 else 1


def _mutated(rng: random.Random, module: bytes) -> bytes:
    """A module with one to six changes: bytes overwritten, bits flipped, bytes repeated or deleted."""
    wasm = bytearray(module)
    for _ in range(rng.randint(1, 6)):
        at, size = rng.randrange(8, len(wasm)), rng.randint(1, 16)
        match rng.randrange(4):
            case 0:
                wasm[at] = rng.randrange(256)
            case 1:
                wasm[at] ^= 1 << rng.randrange(8)
            case 2:
                wasm[at:at] = wasm[at : at + size]
            case _:
                del wasm[at : at + size]
    return bytes(wasm)


def outcome(wasm: bytes) -> str:
    """What running a module gives: `good`, `refused`, or the typed failure."""
    try:
        manifest = manifest_of(wasm)
        exchange = Exchange(ModuleCode(compiled_here(wasm), manifest), manifest, TRACKS, {})
        exchange.process([_frame(number) for number in range(4)])
        for kind in manifest.event_kinds():
            exchange.on_event(kind, 0, 0.5)
        exchange.close()
    except ExtensionRefused:
        return "refused"
    except ExtensionFailed as error:
        return f"failed: {error.kind}"
    return "good"


def _frame(number: int) -> EncodedFrame:
    keyframe = number % 10 == 0
    return EncodedFrame(
        number % 2, 1000 * number, 1000 * number, 1000, keyframe, bytes([number % 251]) * (64 * 48 * 3 // 2)
    )


if __name__ == "__main__":
    sys.exit(main())
