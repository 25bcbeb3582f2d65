"""A 720p stream that three hosts in a row thin, scale down and watermark, while other subscribers receive the original.

Both bars are counts that must be 0, so neither is a ratio.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from cubecast.bench.live import live_overlay
from cubecast.bench.rows import Row, failed_row, zero_row
from cubecast.emulator.processes import CommandProcess
from cubecast.errors import CubecastError
from cubecast.frames import Kind
from cubecast.media.sources import MediaSource
from cubecast.media.synthesis import synthesise
from cubecast.media.verification import count_decodable

CLIP_S = 10.0
"""Duration of the clip that is made if none is given, s."""
SETTLE_S = 3.0
"""Time between the last subscription and the first frame, s."""
RUN_S = 120.0
"""Maximum duration of the run, s; a longer one counts as failed."""
BOUNDS_MS = (100, 150, 250, 400)
"""Bounds of the subscribers to the original channel, one subscriber each."""
STEPS = (("thinned", "thin"), ("small", "downscale"), ("marked", "watermark"))
"""Derived channels in their order, each with the extension that makes it."""
DERIVED_BOUND = "3s"
"""Bound of every derived channel and of its subscriber: each of three hosts decodes and encodes 720p on the same machine, and
what is judged is that every picture arrives, not how soon."""
WIDTH = 640
"""Picture width of the last derived channel: half of 1280."""
ORIGINAL = (
    f"720p over 3 processing hosts: seconds violated and frames lost, {len(BOUNDS_MS)} subscribers to the original"
)
DERIVED = "the same: missing pictures of the thinned, smaller, watermarked channel"


def measure(clip: Path | None) -> Iterator[Row]:
    """Two rows: one for the subscribers to the original, one for the derived channel. `clip` None makes a clip."""
    with TemporaryDirectory(prefix="cubecast-bench-") as scratch:
        if clip is None:
            clip = Path(scratch) / "clip.mp4"
            synthesise(clip, CLIP_S, scale=2)
        try:
            violated, missing, delay_ms = asyncio.run(_run(Path(scratch), clip))
        except (CubecastError, TimeoutError) as error:
            for name in (ORIGINAL, DERIVED):
                yield failed_row(name, error)
            return
    bounds = ", ".join(f"{bound} ms" for bound in BOUNDS_MS)
    yield zero_row(ORIGINAL, violated, relative_to=f"bounds {bounds}")
    yield zero_row(DERIVED, missing, relative_to=f"end-to-end delay p99 {delay_ms:.0f} ms")


async def _run(folder: Path, clip: Path) -> tuple[int, int, float]:
    """Runs the overlay once.

    Returns:
        Violated seconds plus lost frames of the subscribers to the original; missing pictures of the derived channel;
        its end-to-end delay, p99, ms.

    Raises:
        ProcessDied: a process ended early.
        TimeoutError: it took longer than RUN_S.
    """
    async with asyncio.timeout(RUN_S), live_overlay(folder) as overlay:
        publisher = await overlay.start_host("publisher", 8, "announced", "publish", "plain", str(clip), "--hold")
        owners, source = [], "plain"
        for channel, extension in STEPS:
            await overlay.start_host(f"host-{channel}", 8, "joined", "host", "--process", "1")
            job = ("process", source, channel, "--extension", extension, "--at", f"host-{channel}")
            owner = await overlay.start_command(f"owner-{channel}", "announced", *job, "--bound", DERIVED_BOUND)
            owners.append(owner)
            source = channel
        out = folder / "marked.ts"
        receive = ("subscribe", source, "--bound", DERIVED_BOUND, "-o", str(out))
        marked = await overlay.start_host("marked", 0, "receiving", *receive)
        originals = [
            await overlay.start_host(f"plain-{bound}", 0, "receiving", "subscribe", "plain", "--bound", f"{bound}ms")
            for bound in BOUNDS_MS
        ]
        await asyncio.sleep(SETTLE_S)
        publisher.press_enter()
        for child in (*originals, marked, owners[-1]):
            await child.wait_for("summary", "finished")
        wanted = int(str(owners[-1].events["finished"]["frames_out"]))
        violated = sum(_violations(child) for child in originals)
        delay_ms = float(_summary(marked, "delay_ms")["p99"])
    pictures = count_decodable(str(out))[Kind.VIDEO]
    with MediaSource(str(out)) as made:
        scaled = made.tracks[0].width == WIDTH
    return violated, wanted - pictures if scaled and pictures else max(1, wanted), delay_ms


def _violations(child: CommandProcess) -> int:
    """Seconds in which a subscriber's contract was violated, plus the frames it lost."""
    lost = _summary(child, "frames")["lost"]
    return int(_summary(child, "contract")["violated_s"]) + (1 if lost is None else int(lost))


def _summary(child: CommandProcess, name: str) -> dict[str, float]:
    part = child.events["summary"][name]
    assert isinstance(part, dict)
    return part
