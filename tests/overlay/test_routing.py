"""Properties of next hops."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cubecast.overlay.cube import Cube, digit, distance
from cubecast.overlay.routing import Policy, closer_neighbours, ranked_next_hops, route
from cubecast.types import Label
from tests.strategies import cubes, labels

policies = st.sampled_from(list(Policy))


def costs(seed: int) -> dict[tuple[Label, Label], float]:
    """A random cost for every link, the same in both directions, drawn when it is first looked up."""
    rng = np.random.default_rng(seed)

    class Costs(dict[tuple[Label, Label], float]):
        def __missing__(self, key: tuple[Label, Label]) -> float:
            value = self[key] = self[key[1], key[0]] = float(rng.uniform(1, 100))
            return value

    return Costs()


@given(cubes(), policies, st.integers(0, 2**32 - 1), st.data())
def test_every_policy_arrives_in_exactly_the_distance(
    shape: Cube, policy: Policy, seed: int, data: st.DataObject
) -> None:
    here, there = data.draw(labels(shape)), data.draw(labels(shape))
    known = costs(seed)
    path = route(policy, shape, here, there, lambda a, b: known[a, b], np.random.default_rng(seed))
    assert path[0] == here
    assert path[-1] == there
    assert [distance(shape, label, there) for label in path] == list(range(distance(shape, here, there), -1, -1))


@given(cubes(), policies, st.integers(0, 2**32 - 1), st.data())
def test_every_allowed_hop_gets_closer(shape: Cube, policy: Policy, seed: int, data: st.DataObject) -> None:
    here, there = data.draw(labels(shape)), data.draw(labels(shape))
    known = costs(seed)
    hops = ranked_next_hops(policy, shape, here, there, lambda b: known[here, b], np.random.default_rng(seed))
    assert bool(hops) == (here != there)
    assert len(set(hops)) == len(hops)
    assert all(distance(shape, hop, there) == distance(shape, here, there) - 1 for hop in hops)
    if policy is Policy.ODR:
        assert len(hops) <= 1
    else:
        assert set(hops) == set(closer_neighbours(shape, here, there))


@given(cubes(), st.integers(0, 2**32 - 1), st.data())
def test_greedy_prefers_the_cheapest_and_odr_the_lowest_dimension(shape: Cube, seed: int, data: st.DataObject) -> None:
    here, there = data.draw(labels(shape)), data.draw(labels(shape))
    assume(here != there)
    known = costs(seed)
    rng = np.random.default_rng(seed)
    greedy = ranked_next_hops(Policy.GREEDY, shape, here, there, lambda b: known[here, b], rng)
    assert [known[here, hop] for hop in greedy] == sorted(known[here, hop] for hop in greedy)
    (odr,) = ranked_next_hops(Policy.ODR, shape, here, there, lambda b: known[here, b], rng)
    lowest = next(d for d in range(shape.dimensions) if digit(shape, here, d) != digit(shape, there, d))
    assert digit(shape, odr, lowest) != digit(shape, here, lowest)


def test_random_spreads_over_all_closer_neighbours() -> None:
    shape, rng = Cube(2, 4), np.random.default_rng(7)
    first = [ranked_next_hops(Policy.RANDOM, shape, 0, 15, lambda _: 1.0, rng)[0] for _ in range(4000)]
    shares = [first.count(Label(1 << d)) / len(first) for d in range(4)]
    assert shares == pytest.approx([0.25] * 4, abs=0.04)
