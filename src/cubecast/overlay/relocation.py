"""Dynamic host relocation: a subscriber swaps labels with a host near the publisher in hops but far in delay.

Source: the slides' Subscribe(S, P, d). The cost of a host is its unicast latency to P; if the cost were the delay along
the overlay, a swap would not improve anything. There are two variants:

- `relocate_published`, the slide's recursion: S swaps with the neighbour of P that has the greatest cost if S has a
  smaller one; otherwise the search repeats with this neighbour in the role of P.
- `relocate_breadth_first`: S is compared with all hosts at exactly 1, 2, .. D hops from P.

The publisher never moves. The host that S swaps with may be a subscriber itself.
"""

import numpy as np

from cubecast.overlay.delays import Delays, delay_ms
from cubecast.overlay.kernel import kernel
from cubecast.types import Floats, Indices, Ints

NO_SWAP = -1
"""Result of a search that found no host to swap with."""


@kernel
def relocate_published(
    neighbour: Indices, host: Indices, delays: Delays, subscriber: int, publisher: int, publisher_label: int, depth: int
) -> int:
    """The label that the subscriber should swap to, or NO_SWAP: the slide's Subscribe(S, P, d) for D = depth.

    Args:
        neighbour: shape (M, p), the neighbours of each label.
        host: shape (M,), the host on each label.
        subscriber, publisher: hosts.
        depth: maximum number of hops from the publisher.
    """
    around = publisher_label
    for _ in range(depth):
        far, most = NO_SWAP, -1.0
        for port in range(neighbour.shape[1]):
            label = int(neighbour[around, port])
            if host[label] != publisher and host[label] != subscriber:
                cost = delay_ms(delays, host[label], host[around])
                if cost > most:
                    far, most = label, cost
        if far < 0 or delay_ms(delays, subscriber, host[around]) < most:
            return far
        around = far
    return NO_SWAP


@kernel
def relocate_breadth_first(
    rings: Ints, ring_first: Ints, host: Indices, cost_ms: Floats, subscriber: int, subscriber_label: int
) -> int:
    """The label that the subscriber should swap to, or NO_SWAP.

    It is the label of the host with the greatest cost at the smallest distance where a host has a greater cost than the
    subscriber, if this distance is smaller than the subscriber's.

    Args:
        rings: labels by ascending distance from the publisher's label, without that label itself.
        ring_first: shape (depth + 1,); the labels at distance d are rings[ring_first[d - 1] : ring_first[d]].
        cost_ms: shape (hosts,), unicast latency of each host to the publisher.
    """
    for ring in range(len(ring_first) - 1):
        far, most = NO_SWAP, cost_ms[subscriber]
        for place in range(ring_first[ring], ring_first[ring + 1]):
            label = rings[place]
            if label == subscriber_label:
                return NO_SWAP  # a swap would not bring it closer in the cube
            if cost_ms[host[label]] > most:
                far, most = label, cost_ms[host[label]]
        if far >= 0:
            return int(far)
    return NO_SWAP


@kernel
def rings_around(neighbour: Indices, label: int, depth: int) -> tuple[Ints, Ints]:
    """The labels at exactly 1, 2, .. depth hops from a label.

    Returns:
        rings: labels by ascending distance.
        ring_first: shape (depth + 1,); the labels at distance d are rings[ring_first[d - 1] : ring_first[d]].
    """
    seen = np.zeros(len(neighbour), np.bool_)
    seen[label] = True
    found = np.empty(len(neighbour), np.int64)
    found[0] = label
    total, start = 1, 0
    first = np.zeros(depth + 1, np.int64)
    for ring in range(depth):
        end = total
        for place in range(start, end):
            for port in range(neighbour.shape[1]):
                beside = neighbour[found[place], port]
                if not seen[beside]:
                    seen[beside] = True
                    found[total] = beside
                    total += 1
        start = end
        first[ring + 1] = total - 1
    return found[1:total].copy(), first


@kernel
def relocate_all(
    neighbour: Indices,
    host: Indices,
    delays: Delays,
    subscribers: Ints,
    publisher: int,
    depth: int,
    breadth_first: bool,
) -> tuple[Indices, int]:
    """Relocates the subscribers one after another; each one starts from the result of the swaps before.

    Of a host with several labels only the highest label moves.

    Returns:
        host: shape (M,), the host on each label afterwards.
        swaps: number of swaps made.
    """
    host = host.copy()
    hosts = len(delays.at)
    seat = np.empty(hosts, np.int64)
    cost_ms = np.empty(hosts)
    for label in range(len(host)):
        seat[host[label]] = label
    for each in range(hosts):
        cost_ms[each] = delay_ms(delays, each, publisher)
    home = seat[publisher]
    rings, ring_first = rings_around(neighbour, home, depth)
    swaps = 0
    for subscriber in subscribers:
        label = seat[subscriber]
        if breadth_first:
            to = relocate_breadth_first(rings, ring_first, host, cost_ms, subscriber, label)
        else:
            to = relocate_published(neighbour, host, delays, subscriber, publisher, home, depth)
        if to >= 0:
            host[label], host[to] = host[to], host[label]
            seat[host[label]], seat[host[to]] = label, to
            swaps += 1
    return host, swaps
