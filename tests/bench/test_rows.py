"""Rows of benchmarks: what their bars apply to, and the exit status."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.bench.rows import (
    Row,
    absolute_row,
    failed_row,
    print_rows,
    ratio_row,
    skipped_row,
    unjudged_row,
    zero_row,
)
from cubecast.errors import CubecastError

FIGURES = st.floats(0.001, 1e6)


@given(value=FIGURES, other=FIGURES, bar=FIGURES)
def test_a_ratio_row_is_judged_by_its_ratio_alone(value: float, other: float, bar: float) -> None:
    row = ratio_row("a", value, "us", "b", other, bar)
    assert row.holds == (value / other <= bar)
    assert row.judged == "ratio"
    assert row.ratio == pytest.approx(value / other, abs=1e-4)


@given(value=FIGURES, bar=FIGURES)
def test_an_absolute_row_is_judged_by_its_figure(value: float, bar: float) -> None:
    assert absolute_row("a", value, "s", bar).holds == (value <= bar)
    assert absolute_row("a", value, "s", bar, at_most=False).holds == (value >= bar)
    assert absolute_row("a", value, "s", bar).judged == "figure"


@pytest.mark.parametrize(
    ("row", "status", "text"),
    [
        (ratio_row("a", 1, "us", "b", 2, 0.6), 0, "a: 1 us, 0.5 x b (2 us); ratio bar 0.6 holds"),
        (ratio_row("a", 2, "us", "b", 2, 0.6), 1, "a: 2 us, 1.0 x b (2 us); ratio bar 0.6 DOES NOT HOLD"),
        (absolute_row("a", 2, "s", 4), 0, "a: 2 s, 0.5 x the bar; absolute bar 4 holds"),
        (zero_row("lost", 3), 1, "absolute bar 0 DOES NOT HOLD"),
        (unjudged_row("a", 3, "us", "b", 1.5), 0, "a: 3 us, 1.5 x b"),
        (skipped_row("a", "no compiler"), 0, "a: skipped: no compiler"),
        (failed_row("a", CubecastError("it broke")), 1, "it broke; 0 DOES NOT HOLD"),
    ],
)
def test_the_exit_status_is_1_if_a_bar_does_not_hold(
    row: Row, status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    passing = absolute_row("other", 1, "s", 2)
    assert print_rows([passing, row], as_json=False) == status
    assert text in capsys.readouterr().out
    assert print_rows([row], as_json=True) == status
    (printed,) = json.loads(capsys.readouterr().out)["rows"]
    assert printed["holds"] == row.holds
