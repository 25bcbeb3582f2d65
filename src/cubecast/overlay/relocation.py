"""Dynamic host relocation: a subscriber swaps places with a farther host near the publisher.

Source: the slides' Subscribe(S, P, d). Cost is the unicast latency to P: read as overlay delay the swap does nothing.
Two forms:

- `relocate_published`, the slide's recursion: the neighbour of P with the greatest cost swaps when S is nearer, else
  the search goes on around that neighbour, which takes the place of P.
- `relocate_breadth_first`: S is compared with all labels at exactly 1, 2, .. D hops from P.

The publisher never moves. A displaced host may be a subscriber itself.
"""

import numpy as np

from cubecast.overlay.delays import Delays, delay_ms
from cubecast.overlay.kernel import kernel
from cubecast.types import Floats, Indices, Ints

STAYS = -1


@kernel
def relocate_published(
    near: Indices, host: Indices, delays: Delays, subscriber: int, publisher: int, publisher_label: int, depth: int
) -> int:
    """The label the subscriber should swap to, or -1: the slide's Subscribe(S, P, d) for D = depth.

    Args:
        near: shape (M, p), the labels beside each label.
        host: shape (M,), the host on each label.
        subscriber, publisher: hosts.
    """
    around = publisher_label
    for _ in range(depth):
        far, most = STAYS, -1.0
        for number in range(near.shape[1]):
            label = int(near[around, number])
            if host[label] != publisher and host[label] != subscriber:
                cost = delay_ms(delays, host[label], host[around])
                if cost > most:
                    far, most = label, cost
        if far < 0 or delay_ms(delays, subscriber, host[around]) < most:
            return far
        around = far
    return STAYS


@kernel
def relocate_breadth_first(
    rings: Ints, ring_first: Ints, host: Indices, cost_ms: Floats, subscriber: int, subscriber_label: int
) -> int:
    """The label the subscriber should swap to, or -1: the nearest ring with a host farther from the publisher.

    Args:
        rings: labels by rising distance from the publisher's label, which is not among them.
        ring_first: shape (depth + 1,), where each ring begins in `rings`.
        cost_ms: shape (hosts,), unicast latency of each host to the publisher.
    """
    for ring in range(len(ring_first) - 1):
        far, most = STAYS, cost_ms[subscriber]
        for place in range(ring_first[ring], ring_first[ring + 1]):
            label = rings[place]
            if label == subscriber_label:
                return STAYS  # as near in logical space as it would become
            if cost_ms[host[label]] > most:
                far, most = label, cost_ms[host[label]]
        if far >= 0:
            return int(far)
    return STAYS


@kernel
def rings_around(near: Indices, label: int, depth: int) -> tuple[Ints, Ints]:
    """The labels at exactly 1, 2, .. depth hops.

    Returns:
        rings: labels by rising distance.
        ring_first: shape (depth + 1,), where each ring begins.
    """
    seen = np.zeros(len(near), np.bool_)
    seen[label] = True
    found = np.empty(len(near), np.int64)
    found[0] = label
    total, start = 1, 0
    first = np.zeros(depth + 1, np.int64)
    for ring in range(depth):
        end = total
        for place in range(start, end):
            for number in range(near.shape[1]):
                beside = near[found[place], number]
                if not seen[beside]:
                    seen[beside] = True
                    found[total] = beside
                    total += 1
        start = end
        first[ring + 1] = total - 1
    return found[1:total].copy(), first


@kernel
def relocate_all(
    near: Indices,
    host: Indices,
    delays: Delays,
    subscribers: Ints,
    publisher: int,
    depth: int,
    breadth_first: bool,
) -> tuple[Indices, int]:
    """Subscribes one host after another, each swap seen by the next. A host with several labels moves with its last.

    Returns:
        host: shape (M,), the host on each label afterwards.
        swaps: how many there were.
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
    rings, ring_first = rings_around(near, home, depth)
    swaps = 0
    for subscriber in subscribers:
        label = seat[subscriber]
        if breadth_first:
            to = relocate_breadth_first(rings, ring_first, host, cost_ms, subscriber, label)
        else:
            to = relocate_published(near, host, delays, subscriber, publisher, home, depth)
        if to >= 0:
            host[label], host[to] = host[to], host[label]
            seat[host[label]], seat[host[to]] = label, to
            swaps += 1
    return host, swaps
