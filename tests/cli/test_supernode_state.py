"""A super-node whose state folder is not in order ends with one line and status 2."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.processes import cubecast, overlay

pytestmark = pytest.mark.system


def test_a_super_node_whose_store_is_deleted_says_so_and_stops_and_can_be_started_again(tmp_path: Path) -> None:
    with overlay(tmp_path) as running:
        (tmp_path / "sn" / "directory.sqlite").unlink()
        running.join("host", name="a")  # is stored, so that it is noticed at once
        assert running.supernode.popen.wait(20) == 2
        last = running.supernode.text.splitlines()[-1]
        assert "was deleted or replaced while this super-node used it; start it again" in last
        assert "Traceback" not in running.supernode.text
        running.restart_supernode()


def test_a_malformed_record_ends_the_start_with_one_line_and_status_2(tmp_path: Path) -> None:
    with overlay(tmp_path) as running:
        running.join("host", name="a").wait_for("joined")
    with closing(sqlite3.connect(tmp_path / "sn" / "directory.sqlite")) as db:
        db.execute("INSERT INTO hosts VALUES ('b', x'00')")
        db.commit()
    ended = cubecast("supernode", "--listen", "127.0.0.1:0", "--state", str(tmp_path / "sn"))
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "is damaged (host b: " in ended.stderr


def test_a_key_that_others_can_read_ends_the_start_with_one_line_and_status_2(tmp_path: Path) -> None:
    with overlay(tmp_path):
        pass
    (tmp_path / "sn" / "authority.pem").chmod(0o644)
    ended = cubecast("supernode", "--listen", "127.0.0.1:0", "--state", str(tmp_path / "sn"))
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert "other users can read" in ended.stderr
