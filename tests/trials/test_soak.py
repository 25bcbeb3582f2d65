"""The soak keeps the rows it has when a part of it fails, and says why."""

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cubecast.bench.rows import Row
from cubecast.emulator.scenarios.run import Run

SOAK = Path(__file__).parents[2] / "trials" / "soak.py"
PARTS = (
    "relay-kill",
    "relay-kill-far",
    "crowd",
    "handshake-kill",
    "hostile",
    "churn",
    "grow-shrink",
    "links",
    "outages",
    "directory-down",
    "nat",
    "trees",
    "simulate",
)


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    spec = importlib.util.spec_from_file_location("soak", SOAK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(**changed: object) -> argparse.Namespace:
    defaults = {"runs": 1, "seed": 7, "seeds": "1:2", "matrix": Path("rtts"), "json": False}
    return argparse.Namespace(**(defaults | changed))


def rows_of(soak: ModuleType, part: str) -> list[Row]:
    return list(soak.guarded(part, soak.Soak(options()).parts[part]()))


def output(run: Run) -> dict[str, object]:
    """What `cubecast testbed --json` prints for one run."""
    return {"seed": 7, "runs": [run.as_json()], "gap_ms": {"p50": None, "p95": None}}


def test_the_table_names_every_part(soak: ModuleType) -> None:
    assert tuple(soak.Soak(options()).parts) == PARTS


@pytest.mark.parametrize("part", PARTS)
def test_a_failed_run_is_a_failed_row_that_names_why(
    soak: ModuleType, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setattr(soak, "_cubecast", lambda *_: output(Run(detail={"failed": "h3 ended with status 9"})))
    rows = rows_of(soak, part)
    assert not all(row.holds for row in rows)
    if part != "simulate":  # it makes no runs of the testbed
        assert any("h3 ended with status 9" in row.relative_to for row in rows)


@pytest.mark.parametrize("part", [part for part in PARTS if part != "simulate"])
def test_a_skipped_run_says_so(soak: ModuleType, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setattr(soak, "_cubecast", lambda *_: output(Run(skipped="no relay")))
    rows = rows_of(soak, part)
    skipped = [row for row in rows if row.skipped == "no relay" or (row.name.endswith("runs skipped") and row.value)]
    assert skipped
    assert not [row for row in rows if "failed" in row.relative_to]


def test_a_command_without_a_result_does_not_end_the_soak(
    soak: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: str) -> None:
        raise soak.PartFailed("cubecast ended with status 70 and printed no result")

    monkeypatch.setattr(soak, "_cubecast", broken)
    monkeypatch.setattr(sys, "argv", ["soak.py", "--only", "churn,nat"])
    assert soak.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["churn", "nat"]
    assert all("status 70" in line for line in lines)


def test_one_outage_that_fails_leaves_the_rows_of_the_others(soak: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Run(frames_lost=0, frames_duplicated=0, processes_left=0)
    failed = Run(detail={"failed": "a host died"})
    monkeypatch.setattr(soak, "_cubecast", lambda *args: output(failed if "stall" in args else whole))
    rows = rows_of(soak, "outages")
    assert [row.name for row in rows if not row.holds] == ["stall"]
    assert {"partition", "loss-burst"} <= {row.name.split(",")[0].split(":")[0] for row in rows}


def test_the_crowd_is_judged_over_all_its_runs(soak: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(right: int, decided_s: float, switches: float) -> dict[str, object]:
        detail = {"judged": 12, "right": right, "decided_s": [0.5, decided_s], "switches_per_minute": switches}
        return Run(frames_lost=0, frames_duplicated=0, processes_left=0, detail=detail).as_json()

    def holding(*runs: dict[str, object]) -> set[str]:
        monkeypatch.setattr(soak, "_cubecast", lambda *_: {"seed": 7, "runs": list(runs)})
        return {row.name.partition(": ")[2] for row in rows_of(soak, "crowd") if not row.holds}

    assert holding(run(12, 1.0, 0), run(11, 4.9, 0)) == set(), "23 of 24 are right"
    assert holding(run(12, 1.0, 0), run(10, 1.0, 0)) == {"share of 24 decisions that are right"}
    assert holding(run(12, 1.0, 0), run(12, 5.1, 0)) == {"time to the last decision"}
    assert holding(run(12, 1.0, 0.5), run(12, 1.0, 0)) == {"switches a minute after 2 minutes"}
