"""The delay that a processing host adds compared with a relay, on real hosts of this machine.

One publisher reaches two subscribers, each through one host: a relay, which forwards the stream in Rust, and a host that
runs it through a sandboxed extension and publishes the result. Both run at the same time, under the same machine load.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from cubecast.bench.live import live_overlay
from cubecast.bench.rows import Row, failed_row, ratio_row
from cubecast.emulator.processes import CommandProcess
from cubecast.errors import CubecastError
from cubecast.media.synthesis import synthesise

BAR = 1.8
"""Maximum end-to-end delay through the processing host, relative to the delay through the relay in the same run. It is
1.5 ms on top of the relay's 1.88 ms, as measured for docs/bench/extensions.md."""
ROUNDS = 3
"""Number of rounds; the one with the smallest ratio counts."""
CLIP_S = 10.0
"""Duration of the published clip, s."""
SETTLE_S = 2.0
"""Time between the last subscription and the first frame, s."""
RUN_S = 90.0
"""Maximum duration of a round, s; a longer one counts as failed."""
NAME = f"median delay through a processing host, best of {ROUNDS}"


def measure() -> Iterator[Row]:
    """One row: the delay of the round with the smallest ratio."""
    with TemporaryDirectory(prefix="cubecast-bench-") as scratch:
        clip = Path(scratch) / "clip.mp4"
        synthesise(clip, CLIP_S)
        try:
            pairs = [asyncio.run(_round(Path(scratch) / str(number), clip)) for number in range(ROUNDS)]
        except (CubecastError, TimeoutError) as error:
            yield failed_row(NAME, error)
            return
    relayed_ms, processed_ms = min(pairs, key=lambda pair: pair[1] / pair[0])
    name = f"{NAME} ({processed_ms - relayed_ms:.2f} ms added)"
    yield ratio_row(name, processed_ms, "ms", "through a relay", relayed_ms, BAR)


async def _round(folder: Path, clip: Path) -> tuple[float, float]:
    """Median end-to-end delays, ms: through the relay, and through the processing host.

    Raises:
        ProcessDied: a process ended early.
        TimeoutError: the round took longer than RUN_S.
    """
    async with asyncio.timeout(RUN_S), live_overlay(folder) as overlay:
        publisher = await overlay.start_host("publisher", 2, "announced", "publish", "plain", str(clip), "--hold")
        await overlay.start_host("relay", 1, "receiving", "subscribe", "plain", "--bound", "2s")
        maker = ("process", "plain", "made", "--extension", "shed", "--bound", "2s", "--reserve", "made=1")
        await overlay.start_host("maker", 1, "announced", *maker)
        ends = [
            await overlay.start_host(f"to-{channel}", 0, "receiving", "subscribe", channel, "--bound", "2s")
            for channel in ("plain", "made")
        ]
        await asyncio.sleep(SETTLE_S)
        publisher.press_enter()
        for end in ends:
            await end.wait_for("summary")
        relayed_ms, processed_ms = (_median_ms(end) for end in ends)
        return relayed_ms, processed_ms


def _median_ms(end: CommandProcess) -> float:
    delays = end.events["summary"]["delay_ms"]
    assert isinstance(delays, dict)
    return float(delays["p50"])
