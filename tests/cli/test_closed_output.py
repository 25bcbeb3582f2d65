"""A reader of standard output that is gone ends a command quietly."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.processes import ENV, overlay

pytestmark = pytest.mark.system

OUTPUT_CLOSED = 141


@pytest.mark.parametrize(
    "arguments",
    [("lab", "list"), ("extension", "list"), ("route", "2^4", "0000", "1111"), ("--help",), ("lab", "--help")],
    ids=" ".join,
)
def test_a_command_whose_output_is_closed_says_nothing(arguments: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "cubecast", *arguments],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            env=ENV,
            check=False,
        )
    assert done.stderr == ""
    assert done.returncode in {0, OUTPUT_CLOSED}  # argparse ignores a closed output that is not buffered


def test_a_table_whose_reader_is_gone_and_a_host_that_nobody_watches_end_in_order(tmp_path: Path) -> None:
    with overlay(tmp_path) as running:
        for arguments, statuses in (
            (("channels",), {OUTPUT_CLOSED}),
            (("channels", "--json"), {OUTPUT_CLOSED}),
            (("host", "--json", "--listen", "127.0.0.1:0", "--name", "h"), {0}),
        ):
            reading, writing = os.pipe()
            os.close(reading)
            with os.fdopen(writing, "wb") as closed:
                done = subprocess.run(
                    [
                        sys.executable,
                        "-m",
                        "cubecast",
                        *arguments,
                        "--supernode",
                        running.url,
                        "--token",
                        running.token,
                    ],
                    stdout=closed,
                    stderr=subprocess.PIPE,
                    text=True,
                    timeout=60,
                    env=ENV,
                    check=False,
                )
            assert done.stderr == "", arguments
            assert done.returncode in statuses, arguments
        assert running.supernode.end(signal.SIGINT) == 0
