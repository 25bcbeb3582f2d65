"""Network coordinates: positions of hosts whose distances estimate the delays that were not measured.

Method: landmark multidimensional scaling. Classical scaling places the landmarks by the delays between them; then each
host is placed by its delays to the landmarks. Source: de Silva and Tenenbaum, "Sparse multidimensional scaling using
landmark points" (2004); for the Internet, Ng and Zhang (GNP), INFOCOM 2002.
"""

import numpy as np

from cubecast.overlay.kernel import kernel
from cubecast.types import Floats

LANDMARKS = 12
"""Hosts that every other host measures its delay to. They can span at most 11 dimensions. Each is a probe of every host's
64 (docs/decisions/0009), so they are few."""
DIMENSIONS = 8
"""Dimensions of the coordinates, at most: fewer than LANDMARKS - 1, so that the least of them, which are mostly the noise of
the delays, are left out. The number is chosen, not measured."""


def landmark_coordinates(between_ms: Floats, to_ms: Floats, dimensions: int = DIMENSIONS) -> Floats:
    """The coordinates of hosts, in ms.

    Args:
        between_ms: shape (l, l), one-way delays between the landmarks.
        to_ms: shape (m, l), one-way delays from each host to the landmarks.
        dimensions: maximum d; d is smaller when the landmarks span fewer dimensions.

    Returns:
        Shape (m, d), d <= dimensions; Euclidean distances between rows estimate one-way delays.
    """
    squared = between_ms**2
    mean = squared.mean(axis=0)
    gram = -0.5 * (squared - mean[None, :] - mean[:, None] + squared.mean())
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    largest = np.argsort(-values)[:dimensions]
    largest = largest[values[largest] > 1e-9 * max(1.0, float(values.max()))]
    if not len(largest):
        return np.zeros((len(to_ms), 1))
    project = vectors[:, largest] / np.sqrt(values[largest])
    positions: Floats = -0.5 * (to_ms**2 - mean[None, :]) @ project
    return np.ascontiguousarray(positions)


@kernel
def estimated_ms(positions: Floats, a: int, b: int) -> float:
    """The one-way delay between two hosts as estimated from their coordinates, ms."""
    total = 0.0
    for axis in range(positions.shape[1]):
        apart = positions[a, axis] - positions[b, axis]
        total += apart * apart
    return float(np.sqrt(total))
