"""Deliveries against references."""

from collections.abc import Callable

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.lab.deliveries import METHODS, DeliverySetting, deliver, delivery_row, full_pns, shortest_paths
from cubecast.lab.experiment import number
from cubecast.lab.populations import group_of, seated_overlay
from cubecast.lab.stress import copies_stress, crossings
from cubecast.overlay.cube import Cube
from cubecast.overlay.delays import full_delays
from cubecast.overlay.metrics import link_stress
from cubecast.physical.network import PhysicalNetwork, unrouted
from cubecast.physical.transit_stub import TransitStub, transit_stub
from cubecast.types import Floats
from tests.kernels import both_forms
from tests.strategies import matrices

SMALL = TransitStub(3, 2, 2, 4, 4, 4)


def small_networks() -> list[PhysicalNetwork]:
    rng = np.random.default_rng(1)
    raw = rng.uniform(1, 100, size=(40, 40))
    return [transit_stub(40, 3, SMALL), unrouted("matrix", np.triu(raw, 1) + np.triu(raw, 1).T)]


@both_forms(crossings)
@pytest.mark.parametrize("network", small_networks(), ids=["routed", "matrix"])
@given(pairs=st.lists(st.tuples(*[st.integers(0, 39)] * 2), max_size=30))
def test_stress_counts_every_link_of_every_copy(
    run: Callable[..., np.ndarray], network: PhysicalNetwork, pairs: list[tuple[int, int]]
) -> None:
    ends = np.array(pairs, np.int64).reshape(-1, 2)
    expected = link_stress(network.path_links(a, b) for a, b in pairs)
    assert copies_stress(network, ends[:, 0], ends[:, 1]) == pytest.approx(expected)
    assert run(network.delays, network.routes, ends[:, 0].copy(), ends[:, 1].copy()).sum() == expected.traversals


@both_forms(shortest_paths)
@given(matrix=matrices())
def test_the_limit_is_the_shortest_path_tree(run: Callable[..., tuple[np.ndarray, Floats]], matrix: Floats) -> None:
    parent, late = run(full_delays(matrix))
    expected = nx.single_source_dijkstra_path_length(nx.from_numpy_array(matrix), 0)
    assert late == pytest.approx([expected[node] for node in range(len(matrix))], rel=1e-5)
    for node in range(1, len(matrix)):
        assert late[node] == pytest.approx(late[parent[node]] + matrix[node, parent[node]], rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", small_networks(), ids=["routed", "matrix"])
def test_every_method_serves_everyone_by_copies_that_hosts_sent(method: str, network: PhysicalNetwork) -> None:
    rng = np.random.default_rng(2)
    over, seat = seated_overlay(Cube(2, 6), network, rng)
    group = group_of(40, 7, 24, rng)
    setting = DeliverySetting(network, group, over, seat, full_pns(network.delays, rng))
    delivery = deliver(method, setting, 4, rng)
    assert np.isfinite(delivery.late_ms).all()
    assert len(delivery.late_ms) == 24
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_node(int(group[0]))
    matrix = network.matrix_ms()
    for a, b in zip(delivery.senders, delivery.receivers, strict=True):
        graph.add_edge(int(a), int(b), weight=float(matrix[a, b]))
    soonest = nx.single_source_dijkstra_path_length(graph, int(group[0]))
    for host, late in zip(group[1:], delivery.late_ms, strict=True):
        assert soonest[int(host)] <= late * 1.0001, "the copies sent reach everyone, no later than reported"
    row = delivery_row(delivery, setting)
    assert number(row, "traversals") >= number(row, "stress_max") >= 1
    if method not in ("star", "limit", "cube-greedy", "split", "graft", "scribe-pns"):
        assert number(row, "fan_out_max") <= 4
    if method == "star":
        assert row["rad"] == 1.0
        assert row["fan_out_max"] == 24


def test_no_tree_of_the_same_hosts_is_faster_than_the_limit() -> None:
    for network in small_networks():
        group = group_of(40, 7, 0, np.random.default_rng(3))
        setting = DeliverySetting(network, group)
        limit = deliver("limit", setting, 0, np.random.default_rng(1)).late_ms
        for method in ("star", "clustered", "compact", "hybrid"):
            assert (deliver(method, setting, 6, np.random.default_rng(1)).late_ms >= limit - 1e-3).all()
