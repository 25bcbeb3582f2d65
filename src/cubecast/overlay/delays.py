"""One-way delays between hosts, stored so that a million hosts fit in memory.

Hosts share attachment points (routers). The delay between two hosts is the delay between their attachment points plus
the access latencies of both hosts. A full matrix is the special case in which each host has an attachment point of its
own and no access latency.
"""

from typing import NamedTuple

import numpy as np

from cubecast.overlay.kernel import kernel
from cubecast.types import Floats, Indices, Ints, Milliseconds


class Delays(NamedTuple):
    """One-way delays between m hosts on r attachment points.

    Attributes:
        between_ms: shape (r, r), delays between attachment points; symmetric, zero on the diagonal.
        at: shape (m,), the attachment point of each host.
        access_ms: shape (m,), the one-way access latency of each host.
    """

    between_ms: Milliseconds
    at: Indices
    access_ms: Milliseconds


@kernel
def delay_ms(delays: Delays, a: int, b: int) -> float:
    """The one-way delay between two hosts, ms; 0 from a host to itself."""
    if a == b:
        return 0.0
    return float(delays.between_ms[delays.at[a], delays.at[b]] + delays.access_ms[a] + delays.access_ms[b])


def delays_from(delays: Delays, host: int) -> Floats:
    """The one-way delays from one host to all hosts, shape (m,), ms."""
    return delays_between(delays, np.full(len(delays.at), host), np.arange(len(delays.at)))


def delays_between(delays: Delays, sources: Ints | Indices, targets: Ints | Indices) -> Floats:
    """The one-way delays of the pairs (sources[i], targets[i]), ms, in the shape of `sources`."""
    apart = delays.between_ms[delays.at[sources], delays.at[targets]].astype(np.float64)
    apart += delays.access_ms[sources]
    apart += delays.access_ms[targets]
    apart[sources == targets] = 0.0
    return apart


def full_delays(matrix_ms: Floats) -> Delays:
    """Converts a symmetric delay matrix, shape (m, m), ms, to `Delays`."""
    hosts = len(matrix_ms)
    return Delays(
        np.ascontiguousarray(matrix_ms, dtype=np.float32), np.arange(hosts, dtype=np.int32), np.zeros(hosts, np.float32)
    )


def delay_matrix(delays: Delays) -> Floats:
    """Converts to a delay matrix, shape (m, m), ms; needs m^2 * 8 bytes, so use it for a few thousand hosts at most."""
    matrix: Floats = delays.between_ms[np.ix_(delays.at, delays.at)].astype(np.float64)
    matrix += delays.access_ms[:, None]
    matrix += delays.access_ms[None, :]
    np.fill_diagonal(matrix, 0.0)
    return matrix
