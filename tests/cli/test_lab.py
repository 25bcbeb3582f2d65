"""`cubecast lab` as users run it: real processes, a real cluster."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cubecast.lab.experiments import EXPERIMENTS
from tests.cli.processes import ENV, cubecast
from tests.conditions import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]  # the first run compiles the kernels

NETWORK = "transit-stub:3x2x3x4"
TREES = ("lab", "run", "trees", "--network", NETWORK, "--size", "60", "--group", "30", "--fan-out", "4")


@contextmanager
def started(folder: Path, name: str, *arguments: str) -> Iterator[Path]:
    """A Dask process that is terminated with the block; yields the file of its output."""
    log = folder / f"{name}.log"
    with log.open("w") as file:
        process = subprocess.Popen([sys.executable, "-m", "dask", *arguments], stdout=file, stderr=file, env=ENV)
        try:
            yield log
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """A Dask scheduler with two workers; its address."""
    with ExitStack() as stack:
        quiet = ("--no-dashboard",)
        log = stack.enter_context(
            started(tmp_path, "scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", *quiet)
        )
        until(lambda: "Scheduler at:" in log.read_text(), 60, log.read_text)
        found = re.search(r"Scheduler at:\s+(tcp://\S+)", log.read_text())
        assert found is not None
        for number in range(2):
            folder = ("--local-directory", str(tmp_path))
            arguments = (found[1], "--nthreads", "1", "--nworkers", "1", "--host", "127.0.0.1", *folder, *quiet)
            log = stack.enter_context(started(tmp_path, f"worker{number}", "worker", *arguments))
            until(lambda log=log: "Registered to:" in log.read_text(), 60, log.read_text)  # type: ignore[misc]
        yield found[1]


def test_a_cluster_gives_the_same_rows_as_this_machine(cluster: str) -> None:
    here = cubecast(*TREES, "--seeds", "1:2", "--json", timeout=120)
    there = cubecast(*TREES, "--seeds", "1:2", "--json", "--scheduler", cluster, timeout=120)
    assert there.returncode == here.returncode == 0, there.stderr
    assert json.loads(there.stdout)["rows"] == json.loads(here.stdout)["rows"]


def test_json_is_one_object_a_line_and_nothing_is_left_behind(tmp_path: Path) -> None:
    done = cubecast("lab", "run", "trees", "join", *TREES[3:], "--json", timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["experiment"] for result in printed] == ["trees", "join"]
    assert set(printed[0]) >= {"experiment", "parameters", "seed", "rows", "claims"}
    assert printed[0]["parameters"]["fan_out"] == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["txt", "csv", "txt.gz"])
def test_any_square_matrix_of_rtts_is_a_network(tmp_path: Path, suffix: str) -> None:
    import gzip  # noqa: PLC0415

    import numpy as np  # noqa: PLC0415

    rng = np.random.default_rng(1)
    raw = np.triu(rng.uniform(1, 300, size=(20, 20)), 1)
    matrix = raw + raw.T
    names = [f"host{i}" for i in range(20)]
    if suffix == "csv":
        lines = [",".join(["", *names]), *(",".join([n, *map(str, row)]) for n, row in zip(names, matrix, strict=True))]
    else:
        lines = [" ".join(map(str, row)) for row in matrix]
    text = "\n".join(lines).encode()
    path = tmp_path / f"rtts.{suffix}"
    path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    done = cubecast(
        *("lab", "run", "trees", "--network", str(path)),
        *("--fan-out", "3", "--group", "all", "--publishers", "5", "--json"),
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    rows = {row["method"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["star"]["rad"] == 1
    assert rows["limit"]["rad"] <= rows["hybrid"]["rad"]
    assert rows["hybrid"]["fan_out_max"] <= 3
    assert rows["hybrid"]["group"] == 19


def test_a_saved_network_gives_the_same_figures(tmp_path: Path) -> None:
    saved = tmp_path / "net.npz"
    made = cubecast("lab", "network", NETWORK, "--size", "60", "--seed", "1", "-o", str(saved))
    assert made.returncode == 0, made.stderr
    again = cubecast(
        "lab", "run", "trees", "--network", str(saved), "--group", "30", "--fan-out", "4", "--json", timeout=120
    )
    first = cubecast(*TREES, "--json", timeout=120)
    assert json.loads(again.stdout)["rows"] == json.loads(first.stdout)["rows"]


def test_run_plot_pages_and_compare(tmp_path: Path) -> None:
    run = cubecast("lab", "run", "trees", "join", *TREES[3:], timeout=120, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "claims" in run.stdout
    assert "hybrid" in run.stdout
    drawn = cubecast("lab", "plot", cwd=tmp_path)
    assert drawn.stdout.split() == ["lab-results/trees.png", "lab-results/join.png"]
    pages = cubecast("lab", "pages", "--output", "pages", cwd=tmp_path)
    assert (tmp_path / "pages" / "trees.md").exists(), pages.stderr
    same = cubecast("lab", "compare", "pages", cwd=tmp_path)
    assert same.returncode == 0
    assert "no figure changed" in same.stdout
    path = tmp_path / "pages" / "trees.json"
    baseline = json.loads(path.read_text())
    held = next(claim for claim in baseline["claims"] if claim["holds"])
    result = tmp_path / "lab-results" / "trees.json"
    changed = json.loads(result.read_text())
    next(c for c in changed["claims"] if c["sentence"] == held["sentence"])["holds"] = False
    changed["rows"][0]["rad"] = 7.5
    result.write_text(json.dumps(changed))
    worse = cubecast("lab", "compare", "pages", cwd=tmp_path)
    assert worse.returncode == 1
    assert "7.5" in worse.stdout
    assert "no longer holds" in worse.stderr


def test_the_list_names_every_experiment() -> None:
    done = cubecast("lab", "list")
    assert done.returncode == 0
    for name in EXPERIMENTS:
        assert re.search(rf"^{name} ", done.stdout, re.MULTILINE)
