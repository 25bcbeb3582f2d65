"""Mutated modules against the sandbox, each in an instance of its own while a good one works beside it.

    python bench/fuzz.py [--mutations N] [--seed N]

Every mutation must end in a result, a refusal or a typed failure; the good extension must go on; this process must live.
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
from cubecast.sandbox.wasm.engine import compiled, deadlines
from cubecast.sandbox.wasm.module import ModuleCode

TRACKS = (
    TrackFormat(Kind.VIDEO, "h264", b"", 64, 48, 25.0),
    TrackFormat(Kind.AUDIO, "pcm_s16le", sample_rate=48_000, channels=2),
)
EVERY = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    modules = [SHIPPED.joinpath(name, f"{name}.wasm").read_bytes() for name in shipped()]
    ended: Counter[str] = Counter()
    good = load("thin")

    def make(tracks: Sequence[TrackFormat], config: Mapping[str, str]) -> Exchange:
        made = good.make(tracks, config)
        assert isinstance(made, Exchange)
        return made

    with deadlines():
        beside = RunningExtension(good.manifest, make, TRACKS, {"share": "1"}, monotonic)
        for number in range(1, args.mutations + 1):
            ended[outcome(_mutated(rng, rng.choice(modules)))] += 1
            frame = _frame(number)
            if beside.process([frame]) != [frame]:
                print(f"mutation {number}: the extension beside it lost a frame")
                return 1
            if number % EVERY == 0:
                print(f"{number} mutations: {dict(ended)}", file=sys.stderr)
    print(
        f"{args.mutations} mutations, seed {args.seed}: {dict(sorted(ended.items()))}; the host lives, no frame lost beside them"
    )
    return 0 if beside.stats.failures == 0 else 1


def _mutated(rng: random.Random, module: bytes) -> bytes:
    """A few bytes changed, moved, doubled or left out."""
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
    """How a module ends: well, refused, or which typed failure."""
    try:
        manifest = manifest_of(wasm)
        here = Exchange(ModuleCode(compiled(wasm), manifest), manifest, TRACKS, {})
        here.process([_frame(number) for number in range(4)])
        for kind in manifest.event_kinds():
            here.on_event(kind, 0, 0.5)
        here.close()
    except ExtensionRefused:
        return "refused"
    except ExtensionFailed as error:
        return f"failed: {error.kind}"
    return "well"


def _frame(number: int) -> EncodedFrame:
    keyframe = number % 10 == 0
    return EncodedFrame(
        number % 2, 1000 * number, 1000 * number, 1000, keyframe, bytes([number % 251]) * (64 * 48 * 3 // 2)
    )


if __name__ == "__main__":
    sys.exit(main())
