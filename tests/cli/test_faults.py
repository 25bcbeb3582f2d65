"""Faults on real processes and in simulation, as users run them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cubecast.cli.experiments import testbed
from cubecast.emulator.scenarios.catalogue import SCENARIOS
from cubecast.emulator.scenarios.run import Run, Setting
from tests.cli.processes import cubecast

pytestmark = pytest.mark.system

SCENARIO = """
hosts = 30
network = "transit-stub:3x2x3x4"
tick_s = 0.2
warm_s = 15.0
seconds = 20.0
loss = 0.02

[churn]
share = 0.4
crashes = 0.7
"""


def test_no_frame_is_lost_and_no_process_left_when_a_relay_is_killed() -> None:
    done = cubecast("testbed", "relay-kill", "--hosts", "8", "--subscribers", "6", "--json", timeout=110)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["scenario"], summary["seed"]) == ("relay-kill", 1)
    (run,) = summary["runs"]
    assert (run["frames_lost"], run["frames_duplicated"], run["processes_left"]) == (0, 0, 0)
    assert run["success_ratio"] == 1.0
    assert run["detail"]["killed"]
    assert run["gap_ms_max"] > 0


def test_the_cube_grows_and_shrinks_on_real_hosts_without_losing_a_frame() -> None:
    sizes = ("--hosts", "4", "--subscribers", "3")
    done = cubecast("testbed", "grow-shrink", *sizes, "--json", timeout=110)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    assert (run["frames_lost"], run["frames_duplicated"], run["processes_left"]) == (0, 0, 0)
    first, grown, last = run["detail"]["shapes"]
    assert first == last == "2^2"
    assert grown != first


def test_a_simulation_is_the_same_in_every_process_and_breaks_no_invariant(tmp_path: Path) -> None:
    scenario = tmp_path / "small.toml"
    scenario.write_text(SCENARIO)
    results = []
    for seed in ("1", "2"):
        done = cubecast(
            "lab", "simulate", str(scenario), "--seeds", "1:2", "--jobs", "1", "--json", env={"PYTHONHASHSEED": seed}
        )
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout)["runs"])
    first, again = ([(run["seed"], run["digest"], run["events"]) for run in runs] for runs in results)
    assert first == again
    assert first[0][1] != first[1][1], "another seed is another run"
    assert all(run["invariants_broken"] == [] and run["success_ratio"] > 0.5 for run in results[0])


def test_hosts_behind_a_nat_publish_relay_and_receive_and_never_feed_each_other() -> None:
    sizes = ("--hosts", "6", "--subscribers", "4", "--network", "none")
    done = cubecast("testbed", "nat", *sizes, "--json", timeout=110)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    assert (run["frames_lost"], run["frames_duplicated"], run["processes_left"]) == (0, 0, 0)
    detail = run["detail"]
    assert detail["refused"] == []
    assert "p00" in detail["hidden"]
    assert detail["fed_by_hidden"], "the publisher opens the sessions to its children"
    assert detail["hidden_on_hidden"] == []


FAILED_RUNS = {
    "lost": Run(frames_lost=1, frames_duplicated=0, processes_left=0),
    "duplicated": Run(frames_lost=0, frames_duplicated=1, processes_left=0),
    "process left": Run(frames_lost=0, frames_duplicated=0, processes_left=1),
    "stream died": Run(frames_lost=None, frames_duplicated=None, processes_left=0),
}


@pytest.mark.parametrize("result", FAILED_RUNS.values(), ids=FAILED_RUNS)
def test_a_failed_run_is_exit_status_1_and_the_message_names_every_possible_reason(
    result: Run, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario(_: Setting) -> Run:
        return result

    monkeypatch.setitem(SCENARIOS, "stall", replace(SCENARIOS["stall"], scenario=scenario))
    assert testbed.run(["stall", "--clip", str(clip), "--seed", "7"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    for part in ("frames were lost or duplicated", "streams were lost", "processes died or were left", "--seed 7"):
        assert part in last
