"""Relatives compared with those computed by a graph library."""

from collections.abc import Callable

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.overlay.trees.refine import tree_state
from cubecast.overlay.trees.relatives import promising_relatives
from cubecast.types import Floats
from tests.kernels import both_forms
from tests.overlay.trees.surveys import graph_of, some_edges
from tests.strategies import matrices, trees


def family(tree: "nx.DiGraph[int]", node: int) -> set[int]:
    """Siblings, cousins, and the three ancestors above the parent with their children."""
    line = [node]
    while len(line) < 5 and (above := list(tree.predecessors(line[-1]))):
        line.append(above[0])
    found = set(line[2:])
    for ancestor in line[1:]:
        found |= set(tree.successors(ancestor))
    if len(line) > 2:
        found |= {cousin for uncle in tree.successors(line[2]) for cousin in tree.successors(uncle)}
    return found - {node}


@both_forms(promising_relatives)
@given(matrix=matrices(least=3), count=st.integers(1, 6), data=st.data())
def test_the_unmeasured_relatives_of_least_estimated_delay_come_first(
    run: Callable[..., tuple[np.ndarray, Floats]], matrix: Floats, count: int, data: st.DataObject
) -> None:
    nodes = len(matrix)
    parent = data.draw(trees(nodes, 3))
    edges = data.draw(some_edges(matrix, parent))
    graph = graph_of(matrix, edges)
    slots = np.full(nodes, 3)
    state = tree_state(graph, parent, slots, np.ones(nodes))
    positions = np.random.default_rng(1).uniform(0, 100, size=(nodes, 2))
    relatives, sooner = run(graph, state, positions, count)
    tree = nx.DiGraph((int(above), node) for node, above in enumerate(parent) if above >= 0)
    known = {(int(a), int(b)) for a, b in edges} | {(int(b), int(a)) for a, b in edges}
    for node in range(1, nodes):
        able = [other for other in family(tree, node) if (node, other) not in known]
        expected = sorted(state.delay_ms[o] + np.linalg.norm(positions[o] - positions[node]) for o in able)[:count]
        found = [int(other) for other in relatives[node] if other >= 0]
        assert set(found) <= set(able)
        assert len(found) == len(set(found)) == len(expected)
        assert state.delay_ms[node] - sooner[node, : len(found)] == pytest.approx(expected)
