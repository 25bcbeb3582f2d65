"""Surveys measure each pair once, within the limit, and keep the results."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.overlay.trees.measured import Measured, MeasuredGraph, Survey, measured_ms, run_survey
from cubecast.types import Floats, Ints
from tests.kernels import both_forms
from tests.strategies import matrices


def pairs(nodes: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    return st.lists(st.tuples(*[st.integers(0, nodes - 1)] * 2), max_size=40)


@both_forms(measured_ms)
@given(matrix=matrices(), data=st.data())
def test_measured_pairs_are_known_in_both_directions_and_no_others(
    run: Callable[[MeasuredGraph, int, int], float], matrix: Floats, data: st.DataObject
) -> None:
    nodes = len(matrix)
    rounds = [data.draw(pairs(nodes)) for _ in range(2)]
    asked: list[tuple[int, int]] = []

    def measure(wanted: Ints) -> Floats:
        asked.extend(map(tuple, wanted.tolist()))
        return matrix[wanted[:, 0], wanted[:, 1]]

    def survey() -> Survey[Measured]:
        measured = Measured(nodes, 10_000)
        for wanted in rounds:
            ends = np.array(wanted, np.int64).reshape(-1, 2)
            yield from measured.measure(ends[:, 0], ends[:, 1])
        return measured

    measured, count = run_survey(survey(), measure)
    wanted = {(min(p), max(p)) for p in (*rounds[0], *rounds[1]) if p[0] != p[1]}
    assert count == measured.pairs == len(asked) == len(wanted)
    assert {(min(p), max(p)) for p in asked} == wanted
    graph = measured.graph()
    for a in range(nodes):
        for b in range(nodes):
            known = (min(a, b), max(a, b)) in wanted
            expected = matrix[a, b] if known else np.inf
            assert run(graph, a, b) == pytest.approx(expected)
            assert measured.known_ms(np.array([a]), np.array([b]))[0] == pytest.approx(0 if a == b else expected)


@given(matrices(least=6), st.integers(0, 8), st.data())
def test_the_limit_on_pairs_is_kept_except_with_always(matrix: Floats, limit: int, data: st.DataObject) -> None:
    ends = np.array([*data.draw(pairs(len(matrix))), (0, 1)], np.int64)
    measured = Measured(len(matrix), limit)
    run_survey(measured.measure(ends[:, 0], ends[:, 1]), lambda wanted: matrix[wanted[:, 0], wanted[:, 1]])
    assert measured.pairs <= limit
    run_survey(measured.measure(ends[:, 0], ends[:, 1], always=True), lambda wanted: matrix[wanted[:, 0], wanted[:, 1]])
    assert np.isfinite(measured.known_ms(ends[:, 0], ends[:, 1])).all()
