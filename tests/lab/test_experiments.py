"""Every experiment at a small size: the contract, repeatability, judgement, plot and page."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cubecast.errors import LabError, UsageError
from cubecast.lab.experiment import ExperimentResult, Parameters, Row, mean_of, sizes_of
from cubecast.lab.experiments import EXPERIMENTS, experiments
from cubecast.lab.pages import write_pages
from cubecast.lab.plots import plot
from cubecast.lab.report import claims_table, compare, load, load_all, rows_table, save
from cubecast.lab.sweep import run_experiments

pytestmark = pytest.mark.timeout(600)  # the first call compiles the kernels

NETWORK = "transit-stub:3x2x3x4"
SMALL = {
    "shape": {"pairs": 2000},
    "m-region-load": {"size": 100},
    "routing": {"size": 64, "pairs": 2000},
    "rivals": {"size": 64, "pairs": 500, "group": 20, "publishers": 1},
    "relocation": {"size": 64, "group": 20, "publishers": 2},
    "multicast": {"size": 64, "group": 20, "publishers": 2},
    "placement": {"size": 64, "pairs": 500},
    "trees": {"size": 64, "group": 30, "publishers": 2, "fan_out": 4},
    "trees-high-access": {"size": 64, "group": 30, "publishers": 1, "fan_out": 4},
    "tree-scale": {"size": 64, "group": 30, "publishers": 1},
    "join": {"size": 64, "group": 30, "publishers": 1},
}
TREE_COLUMNS = {
    "method",
    "fan_out_max",
    "rad",
    "rdp_p50",
    "rdp_p90",
    "stress_mean",
    "stress_max",
    "traversals",
    "links_per_host",
    "probes_per_host",
}
TREE_METHODS = [
    "star",
    "cube-greedy",
    "split",
    "graft",
    "scribe-pns",
    "clustered",
    "clustered-refined",
    "compact",
    "hybrid",
    "limit",
]
ROUTING_COLUMNS = {"policy", "hops", "rad", "rdp_p50", "rdp_p90", "seconds_per_million"}


def small(name: str) -> Parameters:
    experiment = EXPERIMENTS[name]
    given = dict(SMALL[name])
    if "network" in experiment.options:
        given["network"] = NETWORK  # type: ignore[assignment]
    return replace(experiment.defaults, **given)  # type: ignore[arg-type]


def run(name: str) -> ExperimentResult:
    (result,) = run_experiments([(EXPERIMENTS[name], small(name))], 1, "", lambda *_: None)
    return result


@pytest.fixture(scope="module")
def results() -> dict[str, ExperimentResult]:
    return {name: run(name) for name in EXPERIMENTS}


def test_every_experiment_is_tried_here() -> None:
    assert set(SMALL) == set(EXPERIMENTS)


def test_results_follow_the_contract(results: dict[str, ExperimentResult]) -> None:
    for name, result in results.items():
        printed = json.loads(json.dumps(result.as_json()))
        assert printed["experiment"] == name
        assert printed["seed"] == 1
        assert printed["rows"]
        assert printed["claims"]
        for claim in printed["claims"]:
            assert set(claim) == {"sentence", "published", "measured", "holds", "why"}
            assert claim["holds"] in (True, False, None)
            assert "nan" not in claim["measured"], (name, claim)


def test_trees_and_routing_have_their_columns(results: dict[str, ExperimentResult]) -> None:
    assert [row["method"] for row in results["trees"].rows] == TREE_METHODS
    assert all(set(row) >= TREE_COLUMNS for row in results["trees"].rows)
    assert [row["policy"] for row in results["routing"].rows] == ["odr", "random", "greedy"]
    assert all(set(row) >= ROUTING_COLUMNS for row in results["routing"].rows)


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_the_same_seed_gives_the_same_rows(name: str, results: dict[str, ExperimentResult]) -> None:
    def measured(rows: list[Row]) -> list[Row]:
        return [{k: v for k, v in row.items() if k != "seconds_per_million"} for row in rows]

    assert measured(run(name).rows) == measured(results[name].rows)


def test_other_seeds_give_other_rows_and_all_are_kept() -> None:
    parameters = replace(small("trees"), seeds=(1, 2))
    (result,) = run_experiments([(EXPERIMENTS["trees"], parameters)], 1, "", lambda *_: None)
    assert sizes_of(result.rows, "seed") == [1, 2]
    assert mean_of(result.rows, "rad", seed=1, method="hybrid") != mean_of(result.rows, "rad", seed=2, method="hybrid")


def test_results_are_saved_loaded_drawn_and_shown(results: dict[str, ExperimentResult], tmp_path: Path) -> None:
    for result in results.values():
        for path in save(result, tmp_path):
            assert path.stat().st_size > 0
        assert load(tmp_path / f"{result.experiment}.json").as_json() == json.loads(json.dumps(result.as_json()))
        picture = plot(result, tmp_path).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert plot(result, tmp_path).read_bytes() == picture
        assert rows_table(result).row_count > 0
    assert claims_table(list(results.values())).row_count == sum(len(r.claims) for r in results.values())
    pages = write_pages(list(results.values()), tmp_path / "pages")
    assert len(pages) == len(results) + 1
    for page in pages[:-1]:
        text = page.read_text()
        assert "## Claims" in text
        assert (page.parent / f"{page.stem}.png").exists()


def test_a_comparison_lists_what_changed_and_what_no_longer_holds(results: dict[str, ExperimentResult]) -> None:
    now = results["trees"]
    table, lost = compare({"trees": now}, {"trees": now})
    assert table.row_count == 0
    assert lost == []
    worse = [dict(row, rad=float(str(row["rad"])) * 2) if row["method"] == "hybrid" else row for row in now.rows]
    broken = replace(now, rows=worse, claims=[replace(claim, holds=False) for claim in now.claims])
    table, lost = compare({"trees": broken}, {"trees": now})
    assert table.row_count == 1
    assert len(lost) == sum(claim.holds is True for claim in now.claims) > 0
    fewer = replace(now, rows=now.rows[1:])
    assert any("missing" in line for line in compare({"trees": fewer}, {"trees": now})[1])
    other = replace(now, parameters=replace(now.parameters, fan_out=9))
    with pytest.raises(LabError, match="other parameters: fan_out 4 in the baseline, 9 in the results"):
        compare({"trees": other}, {"trees": now})
    with pytest.raises(LabError, match="no experiment in common"):
        compare({"trees": now}, {"shape": results["shape"]})


def test_a_file_that_is_no_result_gives_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no results"):
        load_all(tmp_path)
    with pytest.raises(LabError, match="No such file"):
        load(tmp_path / "gone.json")
    (tmp_path / "empty.json").write_text(
        '{"experiment": "trees", "version": "1", "parameters": {}, "rows": [], "claims": []}'
    )
    with pytest.raises(LabError, match="no rows"):
        load(tmp_path / "empty.json")
    (tmp_path / "bad.json").write_text('{"experiment": 3}')
    with pytest.raises(LabError, match="not a result of the lab"):
        load_all(tmp_path)
    with pytest.raises(UsageError, match="there is no experiment 'nothing'"):
        experiments(["shape", "nothing"])


def test_all_means_every_experiment_once() -> None:
    assert experiments(["trees", "all"])[0].name == "trees"
    assert sorted(e.name for e in experiments(["all", "shape"])) == sorted(EXPERIMENTS)
