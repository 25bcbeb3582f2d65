"""A 720p stream thinned, made smaller and watermarked on its way, over three hosts, while others watch it as it is."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from cubecast.bench.live import live_overlay
from cubecast.bench.rows import Row, failed
from cubecast.emulator.processes import ChildProcess
from cubecast.errors import CubecastError
from cubecast.frames import Kind
from cubecast.media.sources import MediaSource
from cubecast.media.synthesis import synthesise
from cubecast.media.verification import count_decodable

CLIP_S = 10.0
SETTLE_S = 3.0
RUN_S = 120.0
BOUNDS_MS = (100, 150, 250, 400)
"""Of the plain subscribers, each its own."""
STEPS = (("thinned", "thin"), ("small", "downscale"), ("marked", "watermark"))
LATE_BOUND = "3s"
WIDTH = 640
PLAIN = f"720p over 3 processing hosts: seconds violated and frames lost, {len(BOUNDS_MS)} plain subscribers"
MADE = "the same: pictures of the thinned, smaller, watermarked channel that are missing"


def measure(clip: Path | None) -> Iterator[Row]:
    """Two rows: what became of the plain subscribers, and of the stream that was made."""
    with TemporaryDirectory(prefix="cubecast-bench-") as scratch:
        if clip is None:
            clip = Path(scratch) / "clip.mp4"
            synthesise(clip, CLIP_S, scale=2)
        try:
            violated, missing, delay_ms = asyncio.run(_once(Path(scratch), clip))
        except (CubecastError, TimeoutError) as error:
            for name in (PLAIN, MADE):
                yield failed(name, error)
            return
    bounds = ", ".join(f"{bound} ms" for bound in BOUNDS_MS)
    yield Row(PLAIN, violated, "", f"bounds {bounds}", violated, 0, violated == 0)
    yield Row(MADE, missing, "", f"p99 {delay_ms:.0f} ms from end to end", missing, 0, missing == 0)


async def _once(folder: Path, clip: Path) -> tuple[int, int, float]:
    """Violated seconds and lost frames of the plain ones; pictures that are missing at the end; its delay, p99, ms.

    Raises:
        ProcessDied: one ended before its time.
        TimeoutError: it took longer than RUN_S.
    """
    async with asyncio.timeout(RUN_S), live_overlay(folder) as overlay:
        publisher = await overlay.join("publisher", 8, "announced", "publish", "plain", str(clip), "--hold")
        owners, source = [], "plain"
        for channel, extension in STEPS:
            await overlay.join(f"host-{channel}", 8, "joined", "host", "--process", "1")
            job = (
                "process",
                source,
                channel,
                "--extension",
                extension,
                "--at",
                f"host-{channel}",
                "--bound",
                LATE_BOUND,
            )
            owners.append(await overlay.ask(f"owner-{channel}", "announced", *job))
            source = channel
        out = folder / "marked.ts"
        marked = await overlay.join(
            "marked", 0, "receiving", "subscribe", source, "--bound", LATE_BOUND, "-o", str(out)
        )
        plain = [
            await overlay.join(f"plain-{bound}", 0, "receiving", "subscribe", "plain", "--bound", f"{bound}ms")
            for bound in BOUNDS_MS
        ]
        await asyncio.sleep(SETTLE_S)
        publisher.press_enter()
        for child in (*plain, marked, owners[-1]):
            await child.wait_for("summary", "finished")
        wanted = int(str(owners[-1].events["finished"]["frames_out"]))
        violated = sum(_harm(child) for child in plain)
        delay_ms = float(_part(marked, "delay_ms")["p99"])
    pictures = count_decodable(str(out))[Kind.VIDEO]
    with MediaSource(str(out)) as made:
        smaller = made.tracks[0].width == WIDTH
    return violated, wanted - pictures if smaller and pictures else max(1, wanted), delay_ms


def _harm(child: ChildProcess) -> int:
    """Seconds of a subscriber's contract that were violated, and frames it lost."""
    lost = _part(child, "frames")["lost"]
    return int(_part(child, "contract")["violated_s"]) + (1 if lost is None else int(lost))


def _part(child: ChildProcess, name: str) -> dict[str, float]:
    part = child.events["summary"][name]
    assert isinstance(part, dict)
    return part
