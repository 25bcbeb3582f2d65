"""Faults on real processes and in simulation, as users run them."""

import json
from pathlib import Path

import pytest

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


def test_a_relay_that_dies_costs_nobody_a_frame_and_leaves_no_process() -> None:
    done = cubecast("testbed", "relay-kill", "--hosts", "8", "--subscribers", "6", "--json", timeout=110)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["scenario"], told["seed"]) == ("relay-kill", 1)
    (run,) = told["runs"]
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


def test_a_simulation_is_the_same_whatever_the_process_and_breaks_no_law(tmp_path: Path) -> None:
    scenario = tmp_path / "small.toml"
    scenario.write_text(SCENARIO)
    told = []
    for seed in ("1", "2"):
        done = cubecast(
            "lab", "simulate", str(scenario), "--seeds", "1:2", "--jobs", "1", "--json", env={"PYTHONHASHSEED": seed}
        )
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout)["runs"])
    first, again = ([(run["seed"], run["digest"], run["events"]) for run in runs] for runs in told)
    assert first == again
    assert first[0][1] != first[1][1], "another seed is another run"
    assert all(run["invariants_broken"] == [] and run["success_ratio"] > 0.5 for run in told[0])


def test_hosts_behind_a_nat_publish_relay_and_receive_and_never_hang_on_each_other() -> None:
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
