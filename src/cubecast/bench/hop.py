"""What a hop that processes adds to one that only passes on, on real hosts of this machine.

One publisher, two ways to subscribers, each over one host between: a relay, which passes the stream on in Rust, and a
host that sends it through a sandboxed extension and publishes it anew. Both at the same time, so both see the same machine.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from cubecast.bench.live import live_overlay
from cubecast.bench.rows import Row, failed
from cubecast.emulator.processes import ChildProcess
from cubecast.errors import CubecastError
from cubecast.media.synthesis import synthesise

BAR_MS = 1.5
ROUNDS = 3
CLIP_S = 10.0
SETTLE_S = 2.0
RUN_S = 90.0
NAME = f"a processed channel, added at the median, a hop, best of {ROUNDS}"


def measure() -> Iterator[Row]:
    """The one row."""
    with TemporaryDirectory(prefix="cubecast-bench-") as scratch:
        clip = Path(scratch) / "clip.mp4"
        synthesise(clip, CLIP_S)
        try:
            pairs = [asyncio.run(_round(Path(scratch) / str(number), clip)) for number in range(ROUNDS)]
        except (CubecastError, TimeoutError) as error:
            yield failed(NAME, error)
            return
    passed, processed = min(pairs, key=lambda pair: pair[1] - pair[0])
    added = round(processed - passed, 2)
    ratio = round(processed / passed, 3)
    yield Row(NAME, added, "ms", f"pass-through ({passed:.2f} ms)", ratio, BAR_MS, added <= BAR_MS)


async def _round(folder: Path, clip: Path) -> tuple[float, float]:
    """Median delays from end to end, ms: passed on, and processed.

    Raises:
        ProcessDied: one ended before its time.
        TimeoutError: it took longer than RUN_S.
    """
    async with asyncio.timeout(RUN_S), live_overlay(folder) as overlay:
        publisher = await overlay.join("publisher", 2, "announced", "publish", "plain", str(clip), "--hold")
        await overlay.join("relay", 1, "receiving", "subscribe", "plain", "--bound", "2s")
        maker = ("process", "plain", "made", "--extension", "shed", "--bound", "2s", "--reserve", "made=1")
        await overlay.join("maker", 1, "announced", *maker)
        ends = [
            await overlay.join(f"to-{channel}", 0, "receiving", "subscribe", channel, "--bound", "2s")
            for channel in ("plain", "made")
        ]
        await asyncio.sleep(SETTLE_S)
        publisher.press_enter()
        for end in ends:
            await end.wait_for("summary")
        passed, processed = (_median_ms(end) for end in ends)
        return passed, processed


def _median_ms(end: ChildProcess) -> float:
    delays = end.events["summary"]["delay_ms"]
    assert isinstance(delays, dict)
    return float(delays["p50"])
