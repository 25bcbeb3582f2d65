"""What the slides measure: delay penalty, physical link stress, success ratio, normalised lateness."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from cubecast.types import Floats


class Stress(NamedTuple):
    """Physical link stress of one multicast."""

    mean: float
    """Traversals / unique links used: the slides' "average physical link stress". Print it with the other two: long
    paths over more unique links lower it."""
    max: int
    """Copies on the most loaded link."""
    traversals: int
    """Copies over all links."""


def delay_penalty(overlay_ms: Floats, unicast_ms: Floats) -> Floats:
    """Relative delay penalty (RDP) of each receiver.

    Args:
        overlay_ms: shape (n,), delay along the overlay, ms.
        unicast_ms: shape (n,), direct delay, ms, > 0.

    Returns:
        Shape (n,); 1 is as fast as direct.

    Raises:
        ValueError: the shapes differ, or a direct delay is not positive.
    """
    if overlay_ms.shape != unicast_ms.shape or np.any(unicast_ms <= 0):
        raise ValueError("delay_penalty needs two arrays of one shape and positive direct delays")
    return overlay_ms / unicast_ms


def relative_average_delay(overlay_ms: Floats, unicast_ms: Floats) -> float:
    """RAD: mean overlay delay / mean direct delay; 1 is as fast as direct.

    Raises:
        ValueError: the shapes differ, are empty, or the direct delays sum to nothing.
    """
    if overlay_ms.shape != unicast_ms.shape or overlay_ms.size == 0 or not unicast_ms.sum() > 0:
        raise ValueError("relative_average_delay needs two arrays of one shape, not empty, with positive direct delays")
    return float(overlay_ms.mean() / unicast_ms.mean())


def link_stress(paths: Iterable[Iterable[int]]) -> Stress:
    """Stress of the copies sent: one path of physical link ids for each overlay hop a packet makes."""
    copies = Counter(link for path in paths for link in path)
    if not copies:
        return Stress(0.0, 0, 0)
    total = copies.total()
    return Stress(total / len(copies), max(copies.values()), total)


def lateness(delay_ms: Floats, bound_ms: Floats) -> Floats:
    """Normalised lateness of each subscriber: max(0, delay - bound) / bound, shape (n,).

    Raises:
        ValueError: the shapes differ, or a bound is not positive.
    """
    if delay_ms.shape != bound_ms.shape or np.any(bound_ms <= 0):
        raise ValueError("lateness needs two arrays of one shape and positive bounds")
    return np.maximum(0.0, delay_ms - bound_ms) / bound_ms


def success_ratio(served: Iterable[bool]) -> float:
    """Subscribers served within their bound / subscribers; 1 when nobody asked."""
    outcomes = list(served)
    return sum(outcomes) / len(outcomes) if outcomes else 1.0
