"""The examples run as their users run them, against a super-node in this process."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from cubecast.frames import Kind
from cubecast.media.verification import count_decodable

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("supernode")]

EXAMPLES = Path(__file__).parents[2] / "examples"
LINES_MAX = 40
RUN_S = 60.0


async def run_example(name: str, *arguments: str) -> str:
    """Runs an example to its end and returns what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / name),
        *arguments,
        env=dict(os.environ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), RUN_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, printed.decode()
    return printed.decode()


async def test_a_camera_reaches_every_viewer() -> None:
    printed = await run_example("camera_to_many.py")
    assert len(re.findall(r"viewer-\d: \d+ ms promised over camera -> ", printed)) == 3, printed
    assert len(re.findall(r"viewer-\d: half of \d+ frames arrived within [\d.]+ ms", printed)) == 3, printed


async def test_a_listener_records_the_radio(tmp_path: Path) -> None:
    recording = tmp_path / "recording.ts"
    printed = await run_example("radio.py", str(recording))
    assert "Admitted(channel='radio'" in printed, printed
    assert count_decodable(str(recording))[Kind.AUDIO] > 100, printed


async def test_a_display_shows_the_readings() -> None:
    printed = await run_example("telemetry.py")
    readings = re.findall(r"\{'celsius': [\d.]+\} -?[\d.]+ ms ago", printed)
    assert len(readings) == 30, printed


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short(example: Path) -> None:
    assert len(example.read_text().splitlines()) <= LINES_MAX
