"""`cubecast bench`: its names and options."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cubecast.bench import page
from cubecast.bench.rows import Row, zero_row
from cubecast.cli.experiments.bench import BENCHES, run
from cubecast.errors import LabError


def test_every_benchmark_has_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(BENCHES) == ["relay", "lab", "extensions", "ipc", "directory"]
    with pytest.raises(SystemExit) as ended:
        run(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    for name in BENCHES:
        assert re.search(rf"^ +{name}\b", printed, re.MULTILINE)


@pytest.mark.parametrize(
    "arguments",
    [
        ["relay", "--rounds", "0"],
        ["relay", "--seconds", "0"],
        ["relay", "--seconds", "many"],
        ["ipc", "--rounds", "1"],
        ["memory"],
    ],
)
def test_a_wrong_option_is_exit_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was measured: a benchmark `ipc` of two rows that takes no time."""
    made: list[str] = []

    def measure(_: object) -> Iterator[Row]:
        for name in ("one", "two"):
            made.append(name)
            yield zero_row(name, 0)

    monkeypatch.setitem(BENCHES, "ipc", BENCHES["ipc"]._replace(measure=measure))
    return made


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(
    measured: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="file: File exists; choose another folder"):
        run(["ipc", "--output", str(tmp_path / "file")])
    assert not measured


def test_a_plot_without_matplotlib_is_refused_before_anything_is_measured(
    measured: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(LabError, match="a page with a plot needs matplotlib"):
        run(["ipc", "--output", str(tmp_path)])
    assert not measured


def test_rows_are_printed_even_if_the_page_cannot_be_written(
    measured: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise LabError("the disk is full")

    monkeypatch.setattr(page, "write", full)
    with pytest.raises(LabError, match="full"):
        run(["ipc", "--output", str(tmp_path)])
    assert measured == ["one", "two"]
    assert capsys.readouterr().out.count("\n") == 2


def test_a_folder_without_matrices_is_refused_at_once() -> None:
    with pytest.raises(LabError, match="--matrices /nope holds no planetlab"):
        run(["lab", "--matrices", "/nope"])
