"""Landmark coordinates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.overlay.coordinates import estimated_ms, landmark_coordinates


@given(st.integers(1, 4), st.integers(6, 12), st.integers(0, 2**32 - 1))
def test_distances_of_points_in_space_are_reproduced_exactly(dimensions: int, landmarks: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 100, size=(20, dimensions))
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    placed = landmark_coordinates(apart[:landmarks, :landmarks], apart[:, :landmarks], dimensions)
    for a in range(20):
        for b in range(20):
            assert estimated_ms(placed, a, b) == pytest.approx(apart[a, b], abs=1e-3)


def test_landmarks_at_one_point_place_all_hosts_at_one_point() -> None:
    placed = landmark_coordinates(np.zeros((3, 3)), np.ones((5, 3)))
    assert placed.shape == (5, 1)
    assert (placed == placed[0]).all()
    assert np.isfinite(placed).all()
