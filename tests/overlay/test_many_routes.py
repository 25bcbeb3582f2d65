"""Routes computed from tables, compared with the next hops that a host chooses."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.overlay.cube import Cube, distance, label_count, neighbours
from cubecast.overlay.delays import Delays, delay_ms
from cubecast.overlay.many_routes import (
    GREEDY,
    LOOKAHEAD,
    ODR,
    RANDOM,
    Overlay,
    neighbour_table,
    overlay,
    route_all,
)
from cubecast.overlay.routing import Policy, closer_neighbours, route
from cubecast.types import Label
from tests.kernels import both_forms
from tests.strategies import cubes, some_delays

Routes = Callable[..., tuple[np.ndarray, np.ndarray]]


@st.composite
def overlays(draw: st.DrawFn, labels_max: int = 128) -> tuple[Overlay, Delays]:
    shape = draw(cubes(labels_max))
    delays = draw(some_delays(most=30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    host = rng.integers(len(delays.at), size=label_count(shape)).astype(np.int32)
    return overlay(shape, host, delays, rng.uniform(0, 50, size=(len(delays.at), 3))), delays


@given(cubes(512))
def test_the_table_lists_the_neighbours_in_their_order(shape: Cube) -> None:
    table = neighbour_table(shape)
    assert [tuple(row) for row in table] == [neighbours(shape, label) for label in range(label_count(shape))]


@both_forms(route_all)
@pytest.mark.parametrize(("number", "policy"), [(ODR, Policy.ODR), (GREEDY, Policy.GREEDY)])
@given(case=overlays(), data=st.data())
def test_routes_are_those_of_the_hosts_own_next_hops(
    run: Routes, number: int, policy: Policy, case: tuple[Overlay, Delays], data: st.DataObject
) -> None:
    over, delays = case
    here, there = (data.draw(st.integers(0, label_count(over.cube) - 1)) for _ in range(2))

    def cost_ms(a: Label, b: Label) -> float:
        return float(np.float32(delay_ms(delays, over.host[a], over.host[b])))

    rng = np.random.default_rng(0)
    path = route(policy, over.cube, here, there, cost_ms, rng)
    late, hops = run(over, number, np.array([here]), np.array([there]), rng)
    assert hops[0] == len(path) - 1
    assert late[0] == pytest.approx(sum(cost_ms(a, b) for a, b in pairwise(path)), rel=1e-5)


@both_forms(route_all)
@pytest.mark.parametrize("number", [ODR, RANDOM, GREEDY, LOOKAHEAD])
@given(case=overlays(), data=st.data())
def test_every_policy_arrives_in_exactly_the_distance(
    run: Routes, number: int, case: tuple[Overlay, Delays], data: st.DataObject
) -> None:
    over, _ = case
    pairs = data.draw(st.lists(st.tuples(*[st.integers(0, label_count(over.cube) - 1)] * 2), min_size=1, max_size=5))
    sources, targets = np.array(pairs).T.copy()
    _, hops = run(over, number, sources, targets, np.random.default_rng(1))
    assert hops.tolist() == [distance(over.cube, a, b) for a, b in pairs]


@both_forms(route_all)
@given(case=overlays(labels_max=64), data=st.data())
def test_lookahead_takes_the_best_two_hops_and_rest(
    run: Routes, case: tuple[Overlay, Delays], data: st.DataObject
) -> None:
    over, delays = case
    here, there = (data.draw(st.integers(0, label_count(over.cube) - 1)) for _ in range(2))

    def link(a: int, b: int) -> float:
        return delay_ms(delays, over.host[a], over.host[b])

    def rest(a: int) -> float:
        return float(np.linalg.norm(over.positions[over.host[a]] - over.positions[over.host[there]]))

    def beyond(middle: int) -> float:
        if middle == there:
            return 0.0
        return min(link(middle, after) + rest(after) for after in closer_neighbours(over.cube, middle, there))

    late, at = 0.0, Label(here)
    while at != there:
        costs = {
            neighbour: link(at, neighbour) + beyond(neighbour) for neighbour in closer_neighbours(over.cube, at, there)
        }
        best = min(costs.values())
        ties = [neighbour for neighbour, cost in costs.items() if cost < best + 1e-4]
        if len(ties) > 1:
            return  # rounding decides
        late, at = late + link(at, ties[0]), ties[0]
    found, _ = run(over, LOOKAHEAD, np.array([here]), np.array([there]), np.random.default_rng(2))
    assert found[0] == pytest.approx(late, rel=1e-4, abs=1e-3)
