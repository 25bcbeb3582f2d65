"""The compact tree compared with a slow implementation."""

from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cubecast.overlay.trees.compact import compact_tree
from cubecast.types import Floats, Ints
from tests.kernels import both_forms
from tests.overlay.trees.surveys import graph_of, some_edges
from tests.strategies import matrices


@both_forms(compact_tree)
@given(matrix=matrices(), data=st.data())
def test_the_node_of_least_delay_is_attached_first(
    run: Callable[..., Ints], matrix: Floats, data: st.DataObject
) -> None:
    nodes = len(matrix)
    edges = data.draw(some_edges(matrix))
    slots = np.array(data.draw(st.lists(st.integers(0, 3), min_size=nodes, max_size=nodes)), np.int64)
    known = {(int(a), int(b)) for a, b in edges} | {(int(b), int(a)) for a, b in edges}
    late, free, parent = {0: 0.0}, slots.copy(), np.full(nodes, -1, np.int64)
    while True:
        able = [(a, b) for a, b in known if a in late and b not in late and free[a] > 0]
        choices = [(late[a] + matrix[a, b], a, b) for a, b in able]
        if not choices:
            break
        delay, above, node = min(choices)
        parent[node], late[node] = above, delay
        free[above] -= 1
    assert run(graph_of(matrix, edges), slots).tolist() == parent.tolist()
