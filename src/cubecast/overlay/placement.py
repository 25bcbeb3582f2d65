"""Better labels for the cube: two hosts swap seats when that shortens the links of both seats together.

Tries are of two kinds, half each: two labels at random, which keeps some links long; and a host with the occupant of a
label beside one of the hosts that coordinates say are near it, which makes its links short. Both hosts can judge a
swap alone: each needs its delays to its own and to the other's neighbours.
"""

import numpy as np

from cubecast.overlay.delays import Delays, delay_ms, delays_between
from cubecast.overlay.kernel import kernel
from cubecast.types import Indices


@kernel
def swapped_labels(
    near: Indices, host: Indices, delays: Delays, close: Indices, tries: int, rng: np.random.Generator
) -> Indices:
    """The host on each label after so many tries, shape (M,).

    Args:
        near: shape (M, p), the labels beside each label.
        host: shape (M,), the host on each label now, no two alike.
        close: shape (hosts, c), for each host some hosts near it by coordinates.
    """
    host = host.copy()
    seat = np.empty(len(host), np.int32)
    for label in range(len(host)):
        seat[host[label]] = label
    labels, links = near.shape
    for attempt in range(tries):
        a = int(rng.integers(0, labels))
        if attempt % 2:
            b = int(rng.integers(0, labels))
        else:
            friend = close[host[a], rng.integers(0, close.shape[1])]
            b = int(near[seat[friend], rng.integers(0, links)])
        if a != b and swap_gain_ms(near, host, delays, a, b) > 0:
            host[a], host[b] = host[b], host[a]
            seat[host[a]], seat[host[b]] = a, b
    return host


@kernel
def swap_gain_ms(near: Indices, host: Indices, delays: Delays, a: int, b: int) -> float:
    """By how much all links of two labels become shorter together when their hosts swap, ms."""
    gain = 0.0
    for number in range(near.shape[1]):
        beside_a, beside_b = near[a, number], near[b, number]
        if beside_a != b:
            gain += delay_ms(delays, host[a], host[beside_a]) - delay_ms(delays, host[b], host[beside_a])
        if beside_b != a:
            gain += delay_ms(delays, host[b], host[beside_b]) - delay_ms(delays, host[a], host[beside_b])
    return gain


def mean_link_ms(near: Indices, host: Indices, delays: Delays) -> float:
    """Mean delay of all cube links, ms."""
    a, b = np.repeat(host, near.shape[1]), host[near].ravel()
    return float(delays_between(delays, a, b).mean())
