"""What is expected of a crowd: who must be admitted, and who must be refused."""

import numpy as np
import pytest

from cubecast.emulator.plan import HOP_OWN_MS, make_plan, shortest_ms
from cubecast.emulator.scenarios.crowd import expect, has_tree
from cubecast.overlay.routing import Policy
from cubecast.physical.catalogue import load_network
from cubecast.types import Floats

LINE: Floats = np.array([[0, 10, 90], [10, 0, 10], [90, 10, 0]], float)
"""Three hosts: the way from the first to the last is faster over the second."""


def test_the_shortest_way_counts_each_hop() -> None:
    assert shortest_ms(LINE, 0.0).tolist() == [0, 10, 20]
    assert shortest_ms(LINE, 5.0).tolist() == [0, 15, 30]


def test_a_host_without_a_subscription_may_relay() -> None:
    assert has_tree(LINE, {2: 20 + 2 * HOP_OWN_MS}, fan_out=1)
    assert not has_tree(LINE, {2: 19 + 2 * HOP_OWN_MS}, fan_out=1)


@pytest.mark.parametrize(("fan_out", "fits"), [(1, False), (2, True)])
def test_a_tree_needs_copies(fan_out: int, fits: bool) -> None:
    star: Floats = np.array([[0, 10, 10], [10, 0, 90], [10, 90, 0]], float)
    assert has_tree(star, {1: 10 + HOP_OWN_MS, 2: 10 + HOP_OWN_MS}, fan_out) is fits


@pytest.mark.parametrize("seed", range(5))
def test_of_a_crowd_a_third_must_be_refused_and_nobody_else(seed: int) -> None:
    network = load_network("transit-stub", 16, seed)
    plan = make_plan(network, 12, Policy.GREEDY, seed, 8)
    delay_ms = network.matrix_ms()
    expected = expect(delay_ms, plan, np.random.default_rng(seed))
    assert set(expected.bounds_ms) == set(expected.admitted) == set(plan.subscribers)
    refused = [index for index, admit in expected.admitted.items() if admit is False]
    assert len(refused) == 4
    fastest_ms, least_ms = shortest_ms(delay_ms, 0.0), shortest_ms(delay_ms, HOP_OWN_MS)
    assert all(expected.bounds_ms[index] < fastest_ms[index] for index in refused)
    others = expected.admitted.keys() - set(refused)
    assert all(expected.bounds_ms[index] > least_ms[index] for index in others)
