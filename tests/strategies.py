"""What the laws are tried on."""

from hypothesis import strategies as st

from cubecast.overlay.cube import Cube, label_count
from cubecast.types import Label


def cubes(labels_max: int = 4096) -> st.SearchStrategy[Cube]:
    """Shapes of at most so many labels, rings and hypercubes among them."""
    shapes = [Cube(k, n) for k in range(2, 60) for n in range(1, 13) if k**n <= labels_max]
    return st.sampled_from(shapes)


def labels(shape: Cube) -> st.SearchStrategy[Label]:
    """Labels of a shape."""
    return st.integers(0, label_count(shape) - 1).map(Label)
