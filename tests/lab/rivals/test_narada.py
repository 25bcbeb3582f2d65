"""Narada."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubecast.errors import UsageError
from cubecast.lab.rivals.narada import HOSTS_MAX, LINKS_MAX, add_links, drop_links, narada_tree
from tests.kernels import both_forms
from tests.strategies import matrices


@given(matrix=matrices(least=3, most=20), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_delivery_is_a_tree_and_never_faster_than_the_shortest_path_over_hosts(matrix: np.ndarray, seed: int) -> None:
    parent, late, links = narada_tree(matrix, 0, np.random.default_rng(seed))
    tree = nx.DiGraph(
        (int(above), node, {"weight": matrix[above, node]}) for node, above in enumerate(parent) if above >= 0
    )
    assert nx.is_arborescence(tree)
    assert parent[0] == -1
    along = nx.single_source_dijkstra_path_length(tree, 0)
    shortest = nx.single_source_dijkstra_path_length(nx.from_numpy_array(matrix), 0)
    for node in range(len(matrix)):
        assert late[node] == pytest.approx(along[node])
        assert late[node] >= shortest[node] - 1e-6
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
@pytest.mark.parametrize("star", [True, False])
def test_links_are_dropped_but_the_mesh_stays_connected(run: object, star: bool) -> None:
    assert callable(run)
    hosts = 20
    mesh = np.ones((hosts, hosts), np.bool_)
    if star:
        mesh[1:, 1:] = False
    np.fill_diagonal(mesh, val=False)
    matrix = np.random.default_rng(1).uniform(1, 100, size=(hosts, hosts))
    matrix = matrix + matrix.T
    around = np.minimum(matrix, 60.0)
    run(mesh, matrix, around)
    assert nx.is_connected(nx.from_numpy_array(mesh))
    assert (mesh == mesh.T).all()
    if star:
        assert mesh[0].sum() == 19, "without any of its links the mesh would fall apart"
    else:
        bridged = {host for bridge in nx.bridges(nx.from_numpy_array(mesh)) for host in bridge}
        assert set(np.flatnonzero(mesh.sum(axis=1) > LINKS_MAX)) <= bridged, "only a bridge lets a host keep more links"
        assert mesh.sum() < hosts * (hosts - 1) / 2


def test_groups_over_the_maximum_are_refused() -> None:
    with pytest.raises(UsageError, match="at most 4096"):
        narada_tree(np.zeros((HOSTS_MAX + 1, 1)), 0, np.random.default_rng(1))
