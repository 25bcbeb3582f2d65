"""Multicast on the cube: the union of greedy paths, and the slides' split-based greedy and its repair, graft.

Requests run from each subscriber towards the publisher's label, the stream runs back.

- greedy: every subscriber's own greedy path.
- split: at each hop, a neighbour that already subscribes is taken instead when the whole delay falls; the path goes on
  from it greedily, so that label may be fed twice: the union is no tree.
- graft: the same choice, but the path ends at the first label already fed and reuses its delivery: one parent each.
"""

from typing import NamedTuple

import numpy as np

from cubecast.overlay.kernel import kernel
from cubecast.overlay.many_routes import GREEDY, Overlay, digits_of, next_port, route_all
from cubecast.types import Bools, Floats, Ints


class Union(NamedTuple):
    """What carries a channel over the cube.

    Attributes:
        feeds: shape (M, p), whether the label behind a port feeds this label.
        late_ms: shape (M,), the delay of each subscriber's own delivery; infinite for who does not subscribe.
    """

    feeds: Bools
    late_ms: Floats


@kernel
def greedy_union(over: Overlay, subscribers: Ints, publisher: int, rng: np.random.Generator) -> Union:
    """The union of the subscribers' greedy paths; labels throughout."""
    union = _nothing_fed(over, publisher)
    here, there, ports = _scratch(over)
    digits_of(over.cube, publisher, there)
    for subscriber in subscribers:
        at, late = subscriber, 0.0
        digits_of(over.cube, at, here)
        while at != publisher:
            number = next_port(over, GREEDY, at, publisher, here, there, ports, rng)
            union.feeds[at, number] = True
            late += over.link_ms[at, number]
            at = over.near[at, number]
            digits_of(over.cube, at, here)
        union.late_ms[subscriber] = late
    return union


@kernel
def split_union(over: Overlay, subscribers: Ints, publisher: int, rng: np.random.Generator) -> Union:
    """The slides' split-based greedy: via a subscribing neighbour where the whole delay falls."""
    union = _nothing_fed(over, publisher)
    alone = greedy_delays(over, publisher, rng)
    here, there, ports = _scratch(over)
    digits_of(over.cube, publisher, there)
    for subscriber in subscribers:
        at, late, hops = subscriber, 0.0, 0
        while at != publisher:
            digits_of(over.cube, at, here)
            number = next_port(over, GREEDY, at, publisher, here, there, ports, rng)
            if hops < len(over.near):  # a detour always shortens the rest, so no label comes twice
                number = _via_subscriber(over, union.late_ms, alone, at, number, alone[at])
            union.feeds[at, number] = True
            late += over.link_ms[at, number]
            at = over.near[at, number]
            hops += 1
        union.late_ms[subscriber] = late
    return union


@kernel
def graft_union(over: Overlay, subscribers: Ints, publisher: int, rng: np.random.Generator) -> Union:
    """Split that ends at the first label already fed: a tree."""
    union = _nothing_fed(over, publisher)
    alone = greedy_delays(over, publisher, rng)
    fed = np.full(len(over.near), np.inf)
    fed[publisher] = 0.0
    here, there, ports = _scratch(over)
    digits_of(over.cube, publisher, there)
    path = np.empty(len(over.near) + 1, np.int64)
    taken = np.empty(len(over.near) + 1, np.int64)
    for subscriber in subscribers:
        at, hops = subscriber, 0
        while fed[at] == np.inf:
            digits_of(over.cube, at, here)
            number = next_port(over, GREEDY, at, publisher, here, there, ports, rng)
            number = _via_subscriber(over, union.late_ms, fed, at, number, alone[at])
            path[hops], taken[hops] = at, number
            at = over.near[at, number]
            hops += 1
        for hop in range(hops - 1, -1, -1):
            label, number = path[hop], taken[hop]
            union.feeds[label, number] = True
            fed[label] = fed[over.near[label, number]] + over.link_ms[label, number]
        union.late_ms[subscriber] = fed[subscriber]
    return union


@kernel
def _via_subscriber(over: Overlay, subscribed: Floats, rest: Floats, at: int, number: int, greedy_ms: float) -> int:
    """The port to the subscribing neighbour that makes the rest of the path shortest, if shorter than greedy."""
    least = greedy_ms
    for other in range(over.near.shape[1]):
        beside = over.near[at, other]
        if subscribed[beside] < np.inf and over.link_ms[at, other] + rest[beside] < least:
            least = over.link_ms[at, other] + rest[beside]
            number = other
    return number


@kernel
def greedy_delays(over: Overlay, publisher: int, rng: np.random.Generator) -> Floats:
    """The delay of every label's own greedy path to the publisher, shape (M,), ms."""
    everyone = np.arange(len(over.near))
    delay, _ = route_all(over, GREEDY, everyone, np.full(len(over.near), publisher), rng)
    return delay


@kernel
def _nothing_fed(over: Overlay, publisher: int) -> Union:
    late = np.full(len(over.near), np.inf)
    late[publisher] = 0.0
    return Union(np.zeros(over.near.shape, np.bool_), late)


@kernel
def _scratch(over: Overlay) -> tuple[Ints, Ints, Ints]:
    dimensions, links = over.cube.dimensions, over.near.shape[1]
    return np.empty(dimensions, np.int64), np.empty(dimensions, np.int64), np.empty(links + 1, np.int64)


def copies_sent(over: Overlay, union: Union) -> tuple[Ints, Ints]:
    """The overlay hops that packets make, as hosts (from, to); hops within one host are none."""
    fed, number = np.nonzero(union.feeds)
    source, target = over.host[over.near[fed, number]], over.host[fed]
    apart = source != target
    return source[apart].astype(np.int64), target[apart].astype(np.int64)
