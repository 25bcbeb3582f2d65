"""Narada."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubecast.errors import UsageError
from cubecast.lab.rivals.narada import HOSTS_MAX, add_links, drop_links, narada_tree
from tests.kernels import both_forms
from tests.strategies import matrices


@given(matrix=matrices(least=3, most=20), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_delivery_is_a_tree_and_never_sooner_than_any_path_over_hosts(matrix: np.ndarray, seed: int) -> None:
    parent, late, links = narada_tree(matrix, 0, np.random.default_rng(seed))
    tree = nx.DiGraph(
        (int(above), node, {"weight": matrix[above, node]}) for node, above in enumerate(parent) if above >= 0
    )
    assert nx.is_arborescence(tree)
    assert parent[0] == -1
    along = nx.single_source_dijkstra_path_length(tree, 0)
    anyhow = nx.single_source_dijkstra_path_length(nx.from_numpy_array(matrix), 0)
    for node in range(len(matrix)):
        assert late[node] == pytest.approx(along[node])
        assert late[node] >= anyhow[node] - 1e-6
    assert 0 < links <= len(matrix) - 1


@both_forms(add_links)
@given(matrix=matrices(least=4), seed=st.integers(0, 2**32 - 1))
def test_a_link_is_added_when_its_utility_is_worth_it(run: object, matrix: np.ndarray, seed: int) -> None:
    assert callable(run)
    hosts = len(matrix)
    rng = np.random.default_rng(seed)
    mesh = np.zeros((hosts, hosts), np.bool_)
    ring = rng.permutation(hosts)
    mesh[ring, np.roll(ring, 1)] = mesh[np.roll(ring, 1), ring] = True
    graph = nx.Graph((a, b, {"weight": matrix[a, b]}) for a, b in zip(*np.nonzero(mesh), strict=True))
    lengths = dict(nx.all_pairs_dijkstra_path_length(graph))
    around = np.array([[lengths[a][b] for b in range(hosts)] for a in range(hosts)])
    probed = rng.integers(hosts, size=(hosts, 2))
    expected = mesh.copy()
    for a in range(hosts):
        for b in probed[a]:
            gains = np.maximum(0, 1 - (matrix[a, b] + around[b]) / np.where(around[a] > 0, around[a], np.inf))
            gains[a] = 0
            if a != b and not expected[a, b] and gains.sum() > 0.005 * hosts:
                expected[a, b] = expected[b, a] = True
    run(mesh, matrix, around, probed)
    assert (mesh == expected).all()


@both_forms(drop_links)
def test_a_host_with_too_many_links_drops_the_least_used(run: object) -> None:
    assert callable(run)
    hosts = 20
    matrix = np.full((hosts, hosts), 10.0)
    np.fill_diagonal(matrix, 0)
    mesh = np.zeros((hosts, hosts), np.bool_)
    mesh[0, 1:] = mesh[1:, 0] = True
    around = np.full((hosts, hosts), 20.0)
    around[0, 1:] = around[1:, 0] = 10.0
    np.fill_diagonal(around, 0)
    run(mesh, matrix, around)
    assert mesh[0].sum() == 12


def test_groups_beyond_its_reach_are_one_clear_line() -> None:
    with pytest.raises(UsageError, match="at most 4096"):
        narada_tree(np.zeros((HOSTS_MAX + 1, 1)), 0, np.random.default_rng(1))
