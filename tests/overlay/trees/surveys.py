"""Measured graphs, and what a tree is, for the tests of trees."""

import numpy as np
from hypothesis import strategies as st

from cubecast.overlay.trees.measured import Measured, MeasuredGraph, run_survey
from cubecast.overlay.trees.tree import NO_NODE, PUBLISHER, breadth_first
from cubecast.types import Floats, Ints


def graph_of(matrix: Floats, edges: Ints) -> MeasuredGraph:
    """The measured graph of some pairs, shape (p, 2)."""
    measured = Measured(len(matrix), len(matrix) ** 2)
    run_survey(measured.measure(edges[:, 0], edges[:, 1]), lambda wanted: matrix[wanted[:, 0], wanted[:, 1]])
    return measured.graph()


def some_edges(matrix: Floats, parent: Ints | None = None) -> st.SearchStrategy[Ints]:
    """Random pairs of nodes, with all links of a tree among them."""
    nodes = len(matrix)
    pair = st.tuples(*[st.integers(0, nodes - 1)] * 2).filter(lambda p: p[0] != p[1])
    needed = [] if parent is None else [(node, int(above)) for node, above in enumerate(parent) if above >= 0]
    return st.lists(pair, max_size=nodes * 3).map(lambda more: np.array([*needed, *more], np.int64).reshape(-1, 2))


def is_tree(parent: Ints) -> bool:
    """Whether every node is a descendant of the publisher; false if there are loops or parents out of range."""
    if parent[PUBLISHER] != NO_NODE or (parent[1:] < 0).any() or (parent >= len(parent)).any():
        return False
    return len(breadth_first(parent)) == len(parent)
