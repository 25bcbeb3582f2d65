"""Improves which host has which label: two hosts swap seats if that reduces the total delay of the links of both seats.

Every second attempt takes two random labels, which leaves some links long. The others take a random label and a
neighbour of the seat of a host that is close to its host by coordinates, which makes links short. The two hosts can
decide a swap alone: each needs only its delays to its own neighbours and to those of the other.
"""

import numpy as np

from cubecast.overlay.delays import Delays, delay_ms, delays_between
from cubecast.overlay.kernel import kernel
from cubecast.types import Indices


@kernel
def swapped_labels(
    neighbour: Indices, host: Indices, delays: Delays, close: Indices, tries: int, rng: np.random.Generator
) -> Indices:
    """The host on each label after `tries` attempted swaps, shape (M,).

    Args:
        neighbour: shape (M, p), the neighbours of each label.
        host: shape (M,), the host on each label before; each host has one label.
        close: shape (hosts, c), for each host some hosts that are close by coordinates.
    """
    host = host.copy()
    seat = np.empty(len(host), np.int32)
    for label in range(len(host)):
        seat[host[label]] = label
    labels, links = neighbour.shape
    for attempt in range(tries):
        a = int(rng.integers(0, labels))
        if attempt % 2:
            b = int(rng.integers(0, labels))
        else:
            close_host = close[host[a], rng.integers(0, close.shape[1])]
            b = int(neighbour[seat[close_host], rng.integers(0, links)])
        if a != b and swap_gain_ms(neighbour, host, delays, a, b) > 0:
            host[a], host[b] = host[b], host[a]
            seat[host[a]], seat[host[b]] = a, b
    return host


@kernel
def swap_gain_ms(neighbour: Indices, host: Indices, delays: Delays, a: int, b: int) -> float:
    """The reduction of the total delay of all links of labels `a` and `b` if their hosts swap, ms."""
    gain = 0.0
    for port in range(neighbour.shape[1]):
        beside_a, beside_b = neighbour[a, port], neighbour[b, port]
        if beside_a != b:
            gain += delay_ms(delays, host[a], host[beside_a]) - delay_ms(delays, host[b], host[beside_a])
        if beside_b != a:
            gain += delay_ms(delays, host[b], host[beside_b]) - delay_ms(delays, host[a], host[beside_b])
    return gain


def mean_link_ms(neighbour: Indices, host: Indices, delays: Delays) -> float:
    """The mean one-way delay of all links of the cube, ms."""
    a, b = np.repeat(host, neighbour.shape[1]), host[neighbour].ravel()
    return float(delays_between(delays, a, b).mean())
