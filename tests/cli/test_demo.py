"""The demo: what its report demands, and one run of it."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from cubecast.cli.report.demo import DemoReport, KillReport, SubscriberReport, TreeEdge
from cubecast.cli.report.demo_text import draw_report, print_report
from cubecast.emulator.plan import make_plan
from cubecast.overlay.routing import Policy
from cubecast.physical.transit_stub import transit_stub
from tests.cli.processes import cubecast

PUBLISHED = 100


def row(host: str, *, lost: int = 0, admitted: bool = True, best_ms: float | None = 80.0) -> SubscriberReport:
    """One subscriber with a bound of 200 ms if it is admitted, else of 40 ms."""
    return SubscriberReport(
        host=host,
        bound_ms=200.0 if admitted else 40.0,
        admitted=admitted,
        promised_ms=80.0 if admitted else None,
        best_ms=best_ms,
        path=["p00", host],
        path_ms=75.0,
        direct_ms=75.0,
        delay_ms={"p50": 81.0, "p99": 90.0} if admitted else {"p50": None, "p99": None},
        in_time=1.0 if admitted else None,
        frames={"published": PUBLISHED, "received": PUBLISHED - lost, "lost": lost, "duplicated": 0},
        served=admitted and not lost,
        reason="" if admitted else "no path within 40 ms",
    )


def report_of(
    *rows: SubscriberReport, recovered: tuple[str, ...] = ("s02",), kill_missing: str = "", kill: bool = True
) -> DemoReport:
    """A run in which s01, which fed s02, was killed, and s03 asked for too small a bound."""
    rows = rows or (row("s01"), row("s02"), row("s03", admitted=False))
    rows[0].killed = kill
    return DemoReport(
        tree="hybrid",
        hosts=4,
        fan_out=1,
        subscribers=list(rows),
        published=PUBLISHED,
        tree_before=[TreeEdge("s01", "p00", 20.0), TreeEdge("s02", "s01", 30.0)],
        tree_after=[TreeEdge("s02", "p00", 45.0)],
        impossible="s03",
        kill=KillReport("s01", ["s02"], list(recovered), 420.0) if kill else None,
        kill_missing=kill_missing,
        plan=make_plan(transit_stub(4, 1), 3, Policy.GREEDY, 1, 1),
    )


def text_of(report: DemoReport, width: int = 120) -> str:
    out = io.StringIO()
    print_report(Console(file=out, width=width, markup=False, highlight=False), report)
    return out.getvalue()


def test_a_run_that_showed_everything_has_no_failures_and_says_what_it_showed() -> None:
    report = report_of()
    assert report.failures == []
    assert report.nothing_lost
    shown = " ".join(text_of(report).partition("Shown: ")[2].split())
    assert shown.startswith(
        "1 subscriber with a bound of 200 ms received every frame over 1 relay, 100 % of them in time"
    )
    assert shown.endswith("no frame was lost.")
    for part in ("s03 wanted 40 ms, was refused and offered 80 ms", "s01 was killed", "s02 recovered within 0.4 s"):
        assert part in shown


@pytest.mark.parametrize(
    ("report", "failure"),
    [
        (report_of(row("s01"), row("s02", lost=3), row("s03", admitted=False)), "frames were lost: s02 lost 3"),
        (report_of(row("s01"), row("s02"), row("s03", admitted=False, best_ms=None)), "s03, whose bound of 40 ms"),
        (report_of(row("s01"), row("s02"), row("s03")), "s03, whose bound of 200 ms no path can keep, was admitted"),
        (report_of(recovered=()), "s02 did not recover from the loss of s01"),
        (report_of(kill_missing="no host relays", kill=False), "no host relays"),
        (report_of(row("s01"), row("s02", admitted=False), row("s03", admitted=False)), "no subscriber received"),
    ],
    ids=["lost", "no offer", "admitted", "not recovered", "no relay", "nobody"],
)
def test_what_was_not_shown_is_a_failure_with_its_reason(report: DemoReport, failure: str) -> None:
    assert len(report.failures) == 1
    assert failure in report.failures[0]
    assert "FAILED: " in text_of(report)
    assert "Shown" not in text_of(report)
    assert report.as_json()["failures"] == report.failures


def test_frames_that_the_killed_host_missed_are_not_lost() -> None:
    assert report_of(row("s01", lost=50), row("s02"), row("s03", admitted=False)).failures == []


def test_the_trees_show_each_hop_and_the_sum_of_the_hops() -> None:
    text = text_of(report_of())
    assert "s01  +20 ms  will be killed" in text
    assert "s02  +30 = 50 ms" in text
    assert "s02  +45 ms  was fed by s01" in text


def test_a_terminal_of_80_columns_shows_everything() -> None:
    wide, narrow = text_of(report_of()), text_of(report_of(), width=80)
    assert set(wide.split()) == set(narrow.split())
    assert len(narrow.splitlines()) > len(wide.splitlines()), "the trees are not side by side"


def test_the_picture_refers_to_no_font_of_another_host(tmp_path: Path) -> None:
    draw_report(tmp_path / "demo.svg", report_of())
    svg = (tmp_path / "demo.svg").read_text()
    assert "@font-face" not in svg
    assert "Shown:" in svg


@pytest.mark.system
def test_the_demo_refuses_one_bound_and_survives_the_loss_of_a_relay(tmp_path: Path) -> None:
    sizes = ("--hosts", "8", "--subscribers", "6", "--fan-out", "2")
    done = cubecast("demo", *sizes, "--json", "-o", str(tmp_path / "kept.ts"), timeout=110)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["failures"] == []
    (refused,) = (each for each in report["subscribers"] if each["host"] == report["impossible"])
    assert not refused["admitted"]
    assert refused["best_ms"] > refused["direct_ms"] > refused["bound_ms"]
    kill = report["kill"]
    assert kill["fed"]
    assert kill["recovered"] == kill["fed"]
    assert {edge["child"] for edge in report["tree_before"] if edge["parent"] == kill["host"]} == set(kill["fed"])
    assert kill["host"] not in {edge["parent"] for edge in report["tree_after"]}
    fans = [edge["parent"] for edge in report["tree_before"]]
    assert max(map(fans.count, fans)) <= 2
    assert all(each["frames"]["lost"] == 0 for each in report["subscribers"] if each["admitted"] and not each["killed"])


@pytest.mark.system
def test_a_demo_without_a_relay_to_kill_fails_and_says_why(tmp_path: Path, clip: Path) -> None:
    sizes = ("--hosts", "4", "--subscribers", "2", "--clip", str(clip))
    done = cubecast("demo", *sizes, "--json", "-o", str(tmp_path / "kept.ts"), timeout=110)
    assert done.returncode == 1, done.stderr
    (failure,) = json.loads(done.stdout)["failures"]
    assert "no host relays" in failure or "stream ended before" in failure
