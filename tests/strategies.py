"""Hypothesis strategies: cube shapes, labels, delays and trees."""

import numpy as np
from hypothesis import strategies as st

from cubecast.overlay.cube import Cube, label_count
from cubecast.overlay.delays import Delays
from cubecast.types import Floats, Ints, Label


def cubes(labels_max: int = 4096) -> st.SearchStrategy[Cube]:
    """Cube shapes of at most `labels_max` labels, rings and hypercubes included."""
    shapes = [Cube(k, n) for k in range(2, 60) for n in range(1, 13) if k**n <= labels_max]
    return st.sampled_from(shapes)


def labels(shape: Cube) -> st.SearchStrategy[Label]:
    """Labels of a shape."""
    return st.integers(0, label_count(shape) - 1).map(Label)


@st.composite
def matrices(draw: st.DrawFn, least: int = 2, most: int = 14) -> Floats:
    """Symmetric delays, ms, in which a detour may be shorter than the direct link."""
    nodes = draw(st.integers(least, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    raw = rng.uniform(1, 100, size=(nodes, nodes))
    matrix: Floats = np.triu(raw, 1) + np.triu(raw, 1).T
    return matrix.astype(np.float32).astype(np.float64)


@st.composite
def some_delays(draw: st.DrawFn, least: int = 2, most: int = 14) -> Delays:
    """Hosts that share attachment points, with access latencies."""
    matrix = draw(matrices(2, 6))
    hosts = draw(st.integers(least, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    at = rng.integers(len(matrix), size=hosts).astype(np.int32)
    return Delays(matrix.astype(np.float32), at, rng.uniform(0.5, 5, size=hosts).astype(np.float32))


@st.composite
def trees(draw: st.DrawFn, nodes: int, fan_out: int) -> Ints:
    """Parents of a random tree within a fan-out."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parent = np.full(nodes, -1, np.int64)
    copies = np.zeros(nodes, np.int64)
    on_tree = [0]
    for node in rng.permutation(np.arange(1, nodes)):
        able = [above for above in on_tree if copies[above] < fan_out]
        above = able[int(rng.integers(len(able)))]
        parent[node] = above
        copies[above] += 1
        on_tree.append(int(node))
    return parent
