"""Quotas of join tokens on real processes."""

from pathlib import Path

import pytest

from tests.cli.processes import cubecast, overlay

pytestmark = pytest.mark.system


def test_a_host_beyond_the_quota_of_its_token_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    with overlay(tmp_path) as running:
        state = str(tmp_path / "sn")
        made = cubecast("token", "--state", state, "--max-hosts", "2")
        token = made.stdout.strip()
        honest = running.join("host", name="honest")
        honest.wait_for("joined")
        first = [running.start(*_host(running.url, token, f"h{number}")) for number in range(2)]
        for process in first:
            process.wait_for("joined")
        for _ in range(3):
            third = cubecast(*_host(running.url, token, "h2"))
            assert third.returncode != 0
            assert third.stderr.count("\n") == 1, third.stderr
            assert "this token has 2 hosts in the overlay, its quota; stop one of them" in third.stderr
        assert first[0].end() in (0, 130, 143)
        running.start(*_host(running.url, token, "h2")).wait_for("joined")
        for process in (honest, first[1]):
            assert process.popen.poll() is None
            assert "again" not in process.text, "it never lost its lease"


def _host(url: str, token: str, name: str) -> tuple[str, ...]:
    return ("host", "--supernode", url, "--token", token, "--name", name, "--listen", "127.0.0.1:0")
