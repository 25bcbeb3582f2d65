"""Properties of trees."""

from collections.abc import Callable

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.overlay.delays import full_delays
from cubecast.overlay.trees.tree import breadth_first, fan_out, tree_delays
from cubecast.types import Floats
from tests.kernels import both_forms
from tests.overlay.trees.surveys import is_tree
from tests.strategies import matrices, trees


@both_forms(tree_delays)
@given(matrix=matrices(), limit=st.integers(1, 4), data=st.data())
def test_delays_are_path_lengths(run: Callable[..., Floats], matrix: Floats, limit: int, data: st.DataObject) -> None:
    parent = data.draw(trees(len(matrix), limit))
    graph: nx.Graph[int] = nx.Graph()
    for node, above in enumerate(parent[1:], start=1):
        graph.add_edge(node, int(above), weight=float(matrix[node, above]))
    expected = nx.single_source_dijkstra_path_length(graph, 0)
    found = run(parent, full_delays(matrix))
    assert found == pytest.approx([expected[node] for node in range(len(matrix))], rel=1e-5)


@given(st.integers(2, 20), st.integers(1, 4), st.data())
def test_is_tree_accepts_trees_and_refuses_loops_and_unattached_nodes(
    nodes: int, limit: int, data: st.DataObject
) -> None:
    parent = data.draw(trees(nodes, limit))
    assert is_tree(parent)
    assert fan_out(parent).max() <= limit
    assert sorted(breadth_first(parent)) == list(range(nodes))
    node = data.draw(st.integers(1, nodes - 1))
    orphan, own, rooted = parent.copy(), parent.copy(), parent.copy()
    orphan[node], own[node], rooted[0] = -1, node, node
    assert not is_tree(orphan)
    assert not is_tree(own)
    assert not is_tree(rooted)
    assert np.isinf(tree_delays(orphan, full_delays(np.ones((nodes, nodes))))[node])
