"""Plans: everything that must not depend on timing is a function of the seed."""

import pytest

from cubecast.emulator.testbed import make_plan
from cubecast.errors import UsageError
from cubecast.overlay.cube import Cube
from cubecast.overlay.routing import Policy
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


def test_everyone_who_must_be_linked_is_known_from_the_plan() -> None:
    plan = make_plan(transit_stub(5, 1), 2, Policy.GREEDY, 1, 8, Cube(2, 3))
    around = plan.neighbours()
    assert len(around) == 5
    assert all(a in around[b] for a, near in around.items() for b in near)


@pytest.mark.parametrize(("subscribers", "cube"), [(0, None), (4, None), (2, Cube(2, 1))])
def test_an_impossible_plan_is_refused(subscribers: int, cube: Cube | None) -> None:
    with pytest.raises(UsageError):
        make_plan(transit_stub(4, 1), subscribers, Policy.GREEDY, 1, 8, cube)
