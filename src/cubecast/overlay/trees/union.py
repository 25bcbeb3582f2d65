"""Multicast on the cube as a union of paths, with three ways to choose the path of each subscriber.

The request of a subscriber travels to the publisher's label, and the stream returns on the same path.

- greedy: the greedy path of each subscriber.
- split: the slides' split-based greedy. At each hop, a neighbour that subscribes already is preferred to the greedy
  next hop if this reduces the total delay. The path continues from it greedily, so a label may receive the stream
  twice: the union is not always a tree.
- graft: as split, but the path ends at the first label that already receives the stream. So each label has one parent
  and the union is a tree.
"""

from typing import NamedTuple

import numpy as np

from cubecast.overlay.kernel import kernel
from cubecast.overlay.many_routes import GREEDY, Overlay, digits_of, next_port, route_all
from cubecast.types import Bools, Floats, Ints


class PathUnion(NamedTuple):
    """The links that carry a channel over the cube.

    Attributes:
        feeds: shape (M, p), whether a label receives the stream from its neighbour at a port.
        delay_ms: shape (M,), delay of each subscriber on its own path; infinite for labels that do not subscribe.
    """

    feeds: Bools
    delay_ms: Floats


@kernel
def greedy_union(over: Overlay, subscribers: Ints, publisher: int, rng: np.random.Generator) -> PathUnion:
    """The union of the greedy paths of the subscribers; `subscribers` and `publisher` are labels."""
    union = _empty_union(over, publisher)
    here, there, ports = _working_space(over)
    digits_of(over.cube, publisher, there)
    for subscriber in subscribers:
        at, delay = subscriber, 0.0
        digits_of(over.cube, at, here)
        while at != publisher:
            port = next_port(over, GREEDY, at, publisher, here, there, ports, rng)
            union.feeds[at, port] = True
            delay += over.link_ms[at, port]
            at = over.neighbour[at, port]
            digits_of(over.cube, at, here)
        union.delay_ms[subscriber] = delay
    return union


@kernel
def split_union(over: Overlay, subscribers: Ints, publisher: int, rng: np.random.Generator) -> PathUnion:
    """The slides' split-based greedy; `subscribers` and `publisher` are labels."""
    union = _empty_union(over, publisher)
    greedy_ms = greedy_delays(over, publisher, rng)
    here, there, ports = _working_space(over)
    digits_of(over.cube, publisher, there)
    for subscriber in subscribers:
        at, delay, hops = subscriber, 0.0, 0
        while at != publisher:
            digits_of(over.cube, at, here)
            port = next_port(over, GREEDY, at, publisher, here, there, ports, rng)
            if hops < len(
                over.neighbour
            ):  # guards against a loop by rounding: each such hop reduces the remaining delay
                port = _via_subscriber(over, union.delay_ms, greedy_ms, at, port, greedy_ms[at])
            union.feeds[at, port] = True
            delay += over.link_ms[at, port]
            at = over.neighbour[at, port]
            hops += 1
        union.delay_ms[subscriber] = delay
    return union


@kernel
def graft_union(over: Overlay, subscribers: Ints, publisher: int, rng: np.random.Generator) -> PathUnion:
    """Split-based greedy that ends at the first label already receiving the stream; arguments as `split_union`."""
    union = _empty_union(over, publisher)
    greedy_ms = greedy_delays(over, publisher, rng)
    fed = np.full(len(over.neighbour), np.inf)
    fed[publisher] = 0.0
    here, there, ports = _working_space(over)
    digits_of(over.cube, publisher, there)
    path = np.empty(len(over.neighbour) + 1, np.int64)
    taken = np.empty(len(over.neighbour) + 1, np.int64)
    for subscriber in subscribers:
        at, hops = subscriber, 0
        while fed[at] == np.inf:
            digits_of(over.cube, at, here)
            port = next_port(over, GREEDY, at, publisher, here, there, ports, rng)
            port = _via_subscriber(over, union.delay_ms, fed, at, port, greedy_ms[at])
            path[hops], taken[hops] = at, port
            at = over.neighbour[at, port]
            hops += 1
        for hop in range(hops - 1, -1, -1):
            label, port = path[hop], taken[hop]
            union.feeds[label, port] = True
            fed[label] = fed[over.neighbour[label, port]] + over.link_ms[label, port]
        union.delay_ms[subscriber] = fed[subscriber]
    return union


@kernel
def _via_subscriber(over: Overlay, subscribed: Floats, rest: Floats, at: int, port: int, greedy_ms: float) -> int:
    """The port of the subscribing neighbour with the least remaining delay, or `port` if greedy is at least as good.

    Args:
        subscribed: shape (M,), finite for labels that subscribe.
        rest: shape (M,), delay from each label to the publisher, ms.
        port: that of the greedy next hop.
        greedy_ms: delay of the greedy path from `at`.
    """
    least = greedy_ms
    for other in range(over.neighbour.shape[1]):
        beside = over.neighbour[at, other]
        if subscribed[beside] < np.inf and over.link_ms[at, other] + rest[beside] < least:
            least = over.link_ms[at, other] + rest[beside]
            port = other
    return port


@kernel
def greedy_delays(over: Overlay, publisher: int, rng: np.random.Generator) -> Floats:
    """The delay of the greedy path of every label to the publisher, shape (M,), ms."""
    everyone = np.arange(len(over.neighbour))
    delay, _ = route_all(over, GREEDY, everyone, np.full(len(over.neighbour), publisher), rng)
    return delay


@kernel
def _empty_union(over: Overlay, publisher: int) -> PathUnion:
    delay = np.full(len(over.neighbour), np.inf)
    delay[publisher] = 0.0
    return PathUnion(np.zeros(over.neighbour.shape, np.bool_), delay)


@kernel
def _working_space(over: Overlay) -> tuple[Ints, Ints, Ints]:
    dimensions, links = over.cube.dimensions, over.neighbour.shape[1]
    return np.empty(dimensions, np.int64), np.empty(dimensions, np.int64), np.empty(links + 1, np.int64)


def copies_sent(over: Overlay, union: PathUnion) -> tuple[Ints, Ints]:
    """The copies sent between hosts, as senders and receivers, shape (copies,); links within one host send none."""
    fed, port = np.nonzero(union.feeds)
    source, target = over.host[over.neighbour[fed, port]], over.host[fed]
    apart = source != target
    return source[apart].astype(np.int64), target[apart].astype(np.int64)
