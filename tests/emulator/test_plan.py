"""Plans are functions of their arguments and the seed."""

import numpy as np
import pytest

from cubecast.emulator.plan import make_plan
from cubecast.errors import UsageError
from cubecast.overlay.cube import Cube
from cubecast.overlay.routing import Policy
from cubecast.physical.network import unrouted
from cubecast.physical.transit_stub import transit_stub


def test_a_plan_is_a_function_of_its_seed_and_the_policy_changes_nothing_else() -> None:
    network = transit_stub(16, 1)
    greedy, again, odr = (make_plan(network, 8, policy, 1, 8) for policy in (Policy.GREEDY, Policy.GREEDY, Policy.ODR))
    assert greedy == again
    assert (greedy.seats, greedy.subscribers, greedy.bounds_ms) == (odr.seats, odr.subscribers, odr.bounds_ms)
    assert len(set(greedy.seats)) == 16
    assert len(set(greedy.subscribers)) == 8
    assert 0 not in greedy.subscribers
    assert len(set(greedy.bounds_ms)) > 4, "bounds differ"


def test_the_plan_names_the_neighbours_of_every_host() -> None:
    plan = make_plan(transit_stub(5, 1), 2, Policy.GREEDY, 1, 8, Cube(2, 3))
    around = plan.neighbours()
    assert len(around) == 5
    assert all(a in around[b] for a, near in around.items() for b in near)


@pytest.mark.parametrize(("subscribers", "cube"), [(0, None), (4, None), (2, Cube(2, 1))])
def test_an_impossible_plan_is_refused(subscribers: int, cube: Cube | None) -> None:
    with pytest.raises(UsageError):
        make_plan(transit_stub(4, 1), subscribers, Policy.GREEDY, 1, 8, cube)


@pytest.mark.parametrize("seed", range(5))
def test_the_impossible_bound_is_less_than_a_direct_connection_takes(seed: int) -> None:
    network = transit_stub(12, seed)
    plan = make_plan(network, 9, Policy.GREEDY, seed, 3, impossible=True)
    assert plan.impossible == plan.subscribers[-1]
    assert plan.impossible is not None
    assert 0 < plan.bounds_ms[-1] < network.matrix_ms()[0, plan.impossible]
    assert len(set(plan.subscribers)) == 9
    possible = make_plan(network, 9, Policy.GREEDY, seed, 3)
    assert possible.impossible is None
    assert set(possible.subscribers) == set(plan.subscribers)
    assert plan.bounds_ms[:-1] == possible.bounds_ms[:-1]


def test_the_impossible_bound_allows_for_relays_that_are_faster_than_a_direct_connection() -> None:
    one_way_ms = np.array([[0.0, 10.0, 200.0], [10.0, 0.0, 10.0], [200.0, 10.0, 0.0]])
    plan = make_plan(unrouted("triangle", one_way_ms), 2, Policy.GREEDY, 1, 3, impossible=True)
    assert plan.impossible == 2
    assert plan.bounds_ms[-1] == 10.0, "half of the 20 ms over host 1"
