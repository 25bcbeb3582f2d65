"""The metrics of the slides: relative delay penalty, physical link stress, success ratio, normalised lateness."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from cubecast.types import Floats


class Stress(NamedTuple):
    """Physical link stress of one multicast: the copies of one packet that cross each physical link.

    Attributes:
        mean: traversals / number of distinct links used, the slides' "average physical link stress". Report it with the
            other two, because longer paths use more links and so lower it.
        max: copies on the most loaded link.
        traversals: copies, summed over all links.
    """

    mean: float
    max: int
    traversals: int


def delay_penalty(overlay_ms: Floats, unicast_ms: Floats) -> Floats:
    """Relative delay penalty (RDP) of each receiver: overlay delay / unicast delay.

    Args:
        overlay_ms: shape (n,), delay along the overlay, ms.
        unicast_ms: shape (n,), unicast delay from the publisher, ms, > 0.

    Returns:
        Shape (n,); 1 means as fast as unicast.

    Raises:
        ValueError: the shapes differ, or a unicast delay is not positive.
    """
    if overlay_ms.shape != unicast_ms.shape or np.any(unicast_ms <= 0):
        raise ValueError("delay_penalty needs two arrays of one shape and positive unicast delays")
    return overlay_ms / unicast_ms


def relative_average_delay(overlay_ms: Floats, unicast_ms: Floats) -> float:
    """Relative average delay (RAD): mean overlay delay / mean unicast delay; 1 means as fast as unicast.

    Args:
        overlay_ms: shape (n,), delay along the overlay, ms.
        unicast_ms: shape (n,), unicast delay from the publisher, ms.

    Raises:
        ValueError: the shapes differ, the arrays are empty, or the sum of the unicast delays is not positive.
    """
    if overlay_ms.shape != unicast_ms.shape or overlay_ms.size == 0 or not unicast_ms.sum() > 0:
        raise ValueError(
            "relative_average_delay needs two arrays of one shape, not empty, with positive unicast delays"
        )
    return float(overlay_ms.mean() / unicast_ms.mean())


def link_stress(paths: Iterable[Iterable[int]]) -> Stress:
    """The stress of one multicast.

    Args:
        paths: for each overlay hop, the ids of the physical links that the copy on it crosses.
    """
    copies = Counter(link for path in paths for link in path)
    if not copies:
        return Stress(0.0, 0, 0)
    total = copies.total()
    return Stress(total / len(copies), max(copies.values()), total)


def lateness(delay_ms: Floats, bound_ms: Floats) -> Floats:
    """Normalised lateness of each subscriber: max(0, delay - bound) / bound.

    Args:
        delay_ms: shape (n,), delay from the publisher, ms.
        bound_ms: shape (n,), bound of each subscriber, ms, > 0.

    Returns:
        Shape (n,); 0 for a subscriber within its bound.

    Raises:
        ValueError: the shapes differ, or a bound is not positive.
    """
    if delay_ms.shape != bound_ms.shape or np.any(bound_ms <= 0):
        raise ValueError("lateness needs two arrays of one shape and positive bounds")
    return np.maximum(0.0, delay_ms - bound_ms) / bound_ms


def success_ratio(served: Iterable[bool]) -> float:
    """The share of subscribers served within their bound; 1 when there are no subscribers."""
    outcomes = list(served)
    return sum(outcomes) / len(outcomes) if outcomes else 1.0
