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


async def run_example(name: str, *arguments: str, status: int = 0, supernode: str = "") -> str:
    """Runs an example to its end and returns what it printed."""
    elsewhere = {"CUBECAST_SUPERNODE": supernode, "CUBECAST_TOKEN": "x"} if supernode else {}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / name),
        *arguments,
        env=os.environ | elsewhere,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), RUN_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == status, printed.decode()
    return printed.decode()


async def test_a_camera_reaches_every_viewer() -> None:
    printed = await run_example("camera_to_many.py")
    assert len(re.findall(r"viewer-\d: \d+ ms promised over cam -> ", printed)) == 3, printed
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


@pytest.mark.parametrize("arguments", [(), ("a.mp3", "b.ts", "c"), ("same.ts", "same.ts")])
async def test_a_radio_without_a_recording_or_with_its_music_as_one_prints_how_to_use_it(
    arguments: tuple[str, ...],
) -> None:
    before = (EXAMPLES / "radio.py").read_bytes()
    assert await run_example("radio.py", *arguments, status=1) == "usage: python radio.py [music.mp3] recording.ts\n"
    assert (EXAMPLES / "radio.py").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("radio.py", ("/nowhere.mp3", "FOLDER/x.ts"), "cannot read /nowhere.mp3"),
        ("radio.py", ("/nowhere/x.ts",), "cannot write /nowhere/x.ts"),
        ("radio.py", ("FOLDER/x.mkv",), "only .ts and .mp4"),
        ("camera_to_many.py", ("/nowhere.mp4",), "cannot read /nowhere.mp4"),
    ],
)
async def test_a_mistake_is_one_line(tmp_path: Path, name: str, arguments: tuple[str, ...], said: str) -> None:
    filled = [each.replace("FOLDER", str(tmp_path)) for each in arguments]
    printed = await run_example(name, *filled, status=1)
    last = [line for line in printed.splitlines() if line.startswith(f"{name}: ")]
    assert len(last) == 1, printed
    assert said in last[0]
    assert "Traceback" not in printed


@pytest.mark.parametrize("name", ["radio.py", "camera_to_many.py", "telemetry.py"])
async def test_a_super_node_that_does_not_answer_is_one_line(tmp_path: Path, name: str) -> None:
    arguments = [str(tmp_path / "x.ts")] if name == "radio.py" else []
    printed = await run_example(name, *arguments, status=1, supernode="http://127.0.0.1:1")
    assert "does not answer" in printed.splitlines()[-1]
    assert "Traceback" not in printed


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short(example: Path) -> None:
    assert len(example.read_text().splitlines()) <= LINES_MAX
