"""One-way delays between hosts, held so that a million hosts fit in memory.

Hosts share attachment points (routers): the delay from one host to another is the delay between their points plus the
access latency of both. A full matrix is the case where every host is a point of its own with no access latency.
"""

from typing import NamedTuple

import numpy as np

from cubecast.overlay.kernel import kernel
from cubecast.types import Floats, Indices, Ints, Milliseconds


class Delays(NamedTuple):
    """Delays between m hosts on r attachment points.

    Attributes:
        between_ms: shape (r, r), symmetric, zero on the diagonal.
        at: shape (m,), each host's attachment point.
        access_ms: shape (m,), each host's access latency, one way.
    """

    between_ms: Milliseconds
    at: Indices
    access_ms: Milliseconds


@kernel
def delay_ms(delays: Delays, a: int, b: int) -> float:
    """The one-way delay between two hosts, ms; nothing from a host to itself."""
    if a == b:
        return 0.0
    return float(delays.between_ms[delays.at[a], delays.at[b]] + delays.access_ms[a] + delays.access_ms[b])


def delays_from(delays: Delays, host: int) -> Floats:
    """The delays from one host to every host, shape (m,), ms."""
    return delays_between(delays, np.full(len(delays.at), host), np.arange(len(delays.at)))


def delays_between(delays: Delays, sources: Ints | Indices, targets: Ints | Indices) -> Floats:
    """Delays of pairs of hosts, shape of the pairs, ms."""
    apart = delays.between_ms[delays.at[sources], delays.at[targets]].astype(np.float64)
    apart += delays.access_ms[sources]
    apart += delays.access_ms[targets]
    apart[sources == targets] = 0.0
    return apart


def full_delays(matrix_ms: Floats) -> Delays:
    """The delays of a full matrix, shape (m, m), ms."""
    hosts = len(matrix_ms)
    return Delays(
        np.ascontiguousarray(matrix_ms, dtype=np.float32), np.arange(hosts, dtype=np.int32), np.zeros(hosts, np.float32)
    )


def delay_matrix(delays: Delays) -> Floats:
    """The delays as a full matrix, shape (m, m), ms: for a few thousand hosts at most."""
    matrix: Floats = delays.between_ms[np.ix_(delays.at, delays.at)].astype(np.float64)
    matrix += delays.access_ms[:, None]
    matrix += delays.access_ms[None, :]
    np.fill_diagonal(matrix, 0.0)
    return matrix
