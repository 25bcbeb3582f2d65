"""Trees built from measurements: properties of all methods, and why the hybrid tree is the default."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubecast.errors import UsageError
from cubecast.lab.compilation import compiled
from cubecast.overlay.delays import full_delays
from cubecast.overlay.trees.hybrid import (
    EFFORT,
    Effort,
    Requirements,
    clustered_alone,
    clustered_refined,
    compact_alone,
    equal_requirements,
    hybrid_tree,
)
from cubecast.overlay.trees.measured import Survey, run_survey
from cubecast.overlay.trees.tree import fan_out, tree_delays
from cubecast.types import Floats, Ints
from tests.overlay.trees.surveys import is_tree
from tests.strategies import matrices

METHODS = [clustered_alone, clustered_refined, compact_alone, hybrid_tree]


def found(survey: Survey[Ints], matrix: Floats) -> tuple[Ints, int]:
    return run_survey(survey, lambda pairs: matrix[pairs[:, 0], pairs[:, 1]])


def internet(nodes: int, seed: int) -> Floats:
    """Delays between points in space, disturbed so that some indirect paths are shorter."""
    rng = np.random.default_rng(seed)
    spots = rng.uniform(0, 100, size=(nodes, 3))
    apart = np.linalg.norm(spots[:, None] - spots[None], axis=2) + 1
    factor = np.triu(rng.uniform(0.7, 2, size=apart.shape), 1)
    matrix: Floats = apart * (factor + factor.T)
    return matrix


@pytest.mark.parametrize("method", METHODS)
@given(matrix=matrices(), limit=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_all_nodes_are_served_within_the_fan_out(
    method: Callable[..., Survey[Ints]], matrix: Floats, limit: int, seed: int
) -> None:
    parent, asked = found(method(equal_requirements(len(matrix), limit), np.random.default_rng(seed)), matrix)
    assert is_tree(parent)
    assert fan_out(parent).max() <= limit
    assert asked <= len(matrix) * (len(matrix) - 1) / 2


@pytest.mark.parametrize("method", METHODS)
@given(slots=st.lists(st.integers(0, 4), min_size=2, max_size=14), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_hosts_may_differ_and_too_few_copies_are_refused(
    method: Callable[..., Survey[Ints]], slots: list[int], seed: int
) -> None:
    nodes = len(slots)
    required = Requirements(np.array(slots), np.ones(nodes), np.full(nodes, np.inf))
    survey = method(required, np.random.default_rng(seed))
    reachable = slots[0] > 0 and sum(slots) >= nodes - 1
    if not reachable:
        with pytest.raises(UsageError, match="cannot serve"):
            found(survey, internet(nodes, seed))
        return
    parent, _ = found(survey, internet(nodes, seed))
    assert is_tree(parent)
    assert (fan_out(parent) <= np.array(slots)).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_compiled_survey_is_the_plain_one(method: Callable[..., Survey[Ints]]) -> None:
    matrix = internet(60, 5)
    plain = found(method(equal_requirements(60, 4), np.random.default_rng(7)), matrix)
    fast = found(compiled(method)(equal_requirements(60, 4), np.random.default_rng(7)), matrix)
    assert plain[0].tolist() == fast[0].tolist()
    assert plain[1] == fast[1]


@pytest.mark.parametrize("probes", [16.0, 32.0, 64.0])
def test_the_limit_on_probes_is_kept(probes: float) -> None:
    nodes = 300
    survey = compiled(hybrid_tree)(
        equal_requirements(nodes, 8), np.random.default_rng(1), EFFORT._replace(probes=probes)
    )
    parent, asked = found(survey, internet(nodes, 3))
    assert is_tree(parent)
    assert asked <= probes * nodes + nodes, "beyond the limit only the links of the tree are measured"


def test_the_hybrid_tree_has_the_least_delay_and_a_greater_fan_out_reduces_it() -> None:
    matrix = internet(300, 11)
    delays = full_delays(matrix)

    def mean(method: Callable[..., Survey[Ints]], limit: int) -> float:
        parent, _ = found(compiled(method)(equal_requirements(300, limit), np.random.default_rng(2)), matrix)
        return float(tree_delays(parent, delays).mean())

    hybrid = {limit: mean(hybrid_tree, limit) for limit in (2, 4, 16)}
    assert hybrid[2] > hybrid[4] > hybrid[16]
    assert hybrid[4] < min(mean(clustered_alone, 4), mean(compact_alone, 4))
    assert hybrid[16] < matrix[0, 1:].mean(), "less delay than unicast, where indirect paths are shorter"


def plane(nodes: int, seed: int) -> Floats:
    """Delays between points on a plane: no indirect path is shorter."""
    spots = np.random.default_rng(seed).uniform(0, 100, size=(nodes, 2))
    matrix: Floats = np.linalg.norm(spots[:, None] - spots[None], axis=2) + 1
    np.fill_diagonal(matrix, 0)
    return matrix


def noise(nodes: int, seed: int) -> Floats:
    """Delays without structure, which coordinates cannot estimate."""
    raw = np.triu(np.random.default_rng(seed).uniform(1, 100, size=(nodes, nodes)), 1)
    matrix: Floats = raw + raw.T
    return matrix


@pytest.mark.parametrize("make", [internet, plane, noise])
@pytest.mark.parametrize("nodes", [20, 150])
@pytest.mark.parametrize("limit", [2, 4, 16])
def test_no_other_tree_has_less_delay_than_the_hybrid_one(
    make: Callable[[int, int], Floats], nodes: int, limit: int
) -> None:
    """Mean of several networks: on a single one another method may be slightly better."""
    mean = dict.fromkeys(METHODS, 0.0)
    for seed in range(4):
        matrix = make(nodes, seed)
        for method in METHODS:
            parent, _ = found(compiled(method)(equal_requirements(nodes, limit), np.random.default_rng(seed)), matrix)
            mean[method] += float(tree_delays(parent, full_delays(matrix)).mean())
    assert mean[hybrid_tree] <= 1.03 * min(mean.values())


def test_link_weight_trades_delay_for_load() -> None:
    matrix = internet(200, 4)

    def figures(link_weight: float) -> tuple[float, float]:
        effort: Effort = EFFORT._replace(link_weight=20 * link_weight)
        parent, _ = found(compiled(hybrid_tree)(equal_requirements(200, 8), np.random.default_rng(1), effort), matrix)
        return float(tree_delays(parent, full_delays(matrix)).mean()), float(
            matrix[parent[1:], np.arange(1, 200)].sum()
        )

    (soon, heavy), (late, light) = figures(0.0), figures(4.0)
    assert soon < late
    assert light < heavy


def test_a_fan_out_of_zero_is_refused() -> None:
    with pytest.raises(UsageError, match="fan-out 0: give 1 or more"):
        equal_requirements(5, 0)
