"""Scenario files: every mistake is refused with one clear line."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from cubecast.errors import LabError
from cubecast.simulation.scenario import Scenario, load_scenario
from cubecast.simulation.tunables import MARK, with_tables

SCENARIOS = Path(__file__).parents[2] / "scenarios"
DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.toml")), ids=lambda path: path.name)
def test_shipped_scenarios_are_in_order(path: Path) -> None:
    scenario = msgspec.json.decode(msgspec.json.encode(load_scenario(path)))
    for name, value in tomllib.loads(path.read_text()).items():
        arrived = scenario[name]
        assert arrived == value or (isinstance(value, dict) and value.items() <= arrived.items()), name


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("host = 20", "host"),
        ("hosts = 20\nprocess_slot = 1", "process_slot"),
        ("hosts = 20\n[churns]\nshare = 0.1", "churns"),
        ("hosts = 20\n[churn]\nshares = 0.1", "shares"),
        ("hosts = 20\n[[partition]]\nat_s = 1.0\nfor_s = 1.0", "partition"),
        ("hosts = 20\n[[partitions]]\nat_s = 1.0\nfor_s = 1.0\nshar = 0.2", "shar"),
        ("hosts = 20\n[[directory_outage]]\nat_s = 1.0\nfor_s = 1.0", "directory_outage"),
        ("hosts = 20\n[[directory_outages]]\nat_s = 1.0\nfor = 1.0", "for"),
        ("hosts = 20\n[partitions]\nat_s = 1.0\nfor_s = 1.0", "partitions"),
        ("hosts = 20\nloss = 1.5", "loss"),
        ("hosts = 20\njobs = -1", "jobs"),
        ("hosts = 20\njobs = 2\nwilling = 0.0", "willing"),
        ("hosts = 20\nprocessing_ms = [9.0, 5.0]", "processing_ms"),
        ("hosts = 20\nbound_ms = [nan, nan]", "bound_ms"),
        ("hosts = 20\nchannels = 20", "channels"),
        ("hosts = 20\nseconds = 50.0\n[[directory_outages]]\nat_s = 60.0\nfor_s = 1.0", "a directory outage at 60 s"),
        (
            "hosts = 20\n[[directory_outages]]\nat_s = 1.0\nfor_s = 9.0\n[[directory_outages]]\nat_s = 5.0\nfor_s = 1.0",
            "directory outages overlap",
        ),
        ("hosts = 20\n[[partitions]]\nat_s = nan\nfor_s = 1.0", "at_s"),
        ("hosts = 20\n[engine.failure]\nsilent_tick = 3", "silent_tick"),
        ("hosts = 20\n[engine.failure]\nsilent_ticks = 0", "silent_ticks"),
        ("hosts = 20\n[engine.links]\nredial_ticks = []", "redial_ticks"),
        ("hosts = 20\n[engine]\ntick_s = 0.5", "tick_s is a field of the scenario"),
        ("hosts = 20\n[directory.lease]\nlease = 3.0", "lease"),
        ("hosts = 20\n[directory.lease]\nlease_s = 1.0\nsuspect_lease_s = 2.0", "suspect_lease_s"),
        ("hosts = ", "scenario"),
    ],
)
def test_a_mistake_is_refused_with_one_line_that_names_it(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(LabError, match=named) as refused:
        load_scenario(path)
    assert "\n" not in str(refused.value)
    assert "wrong.toml" in str(refused.value)


def test_a_scenario_sets_the_tunables_of_both_engines(tmp_path: Path) -> None:
    path = tmp_path / "tuned.toml"
    path.write_text("hosts = 4\n[engine.failure]\nsilent_ticks = 7\n[directory.lease]\nlease_s = 9.0\n")
    scenario = load_scenario(path)
    assert scenario.engine.failure.silent_ticks == 7
    assert scenario.engine.failure.calm_ticks == Scenario(hosts=4).engine.failure.calm_ticks
    assert scenario.directory.lease.lease_s == 9.0


@pytest.mark.parametrize("page", ["testbed.md", "tunables.md"])
def test_the_example_of_a_page_sets_what_it_says(tmp_path: Path, page: str) -> None:
    (example,) = re.findall(r"^```(?:toml)?\n(hosts = .*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    path = tmp_path / "example.toml"
    path.write_text(example)
    scenario = load_scenario(path)
    assert (scenario.hosts, scenario.engine.failure.silent_ticks, scenario.directory.relocation.form) == (100, 5, "off")
    assert scenario.engine != Scenario(hosts=2).engine


def test_the_tables_of_the_page_on_tunables_are_written_below_its_text() -> None:
    page = (DOCS / "tunables.md").read_text()
    assert with_tables(page) == page
    assert with_tables(page.split(MARK)[0] + MARK + "\nold") == page
