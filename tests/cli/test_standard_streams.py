"""Standard input, output and error of any kind, or closed: a command uses what it is given, and never aborts."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.processes import ENV, Process

pytestmark = pytest.mark.system

EMULATOR = ("emulator", "--network", "none", "--hosts", "2", "--json")
FAULT = b'{"fault": "impairment", "jitter_ms": 20, "loss": 0.01}\n'


def test_the_delay_stage_runs_without_a_standard_input_to_read(tmp_path: Path) -> None:
    stage = Process(tmp_path, EMULATOR, {}, subprocess.DEVNULL)
    stage.wait_for('"event": "status"')
    assert stage.end() == 0, stage.text


def test_the_delay_stage_reads_faults_from_a_file(tmp_path: Path) -> None:
    script = tmp_path / "faults"
    script.write_bytes(FAULT + b"x" * 100_000 + b"\nno fault\n" + FAULT + b"the last line, without an end")
    with script.open("rb") as opened:
        stage = Process(tmp_path, EMULATOR, {}, opened)
    stage.wait_for("bytes is ignored")
    stage.wait_for("(?s)the last line|is not a fault.*is not a fault|fault.*\n.*fault.*\n")
    stage.wait_for('"event": "status"')
    assert stage.popen.poll() is None
    assert stage.popen.stdin is None
    assert stage.end() == 0, stage.text
    assert sum('"fault":"slower"' in line for line in stage.text.splitlines()) == 2, "one for each line that is none"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_is_as_if_it_were_empty(closed: str) -> None:
    command = f'"{sys.executable}" -m cubecast channels --supernode 127.0.0.1:1 --token x {closed}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, env=ENV, check=False)
    assert done.returncode == 2, done.stderr
    if "2>" not in closed:
        assert "does not answer" in done.stderr.splitlines()[-1]
    assert done.stdout == ""


def test_a_table_for_a_closed_standard_output_goes_nowhere(tmp_path: Path) -> None:
    command = f'"{sys.executable}" -m cubecast lab list >&-'
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=60, env=ENV, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
