"""Chord (Stoica et al., SIGCOMM 2001): a ring with fingers at 1, 2, 4, .. places ahead.

Plain Chord takes the longest finger that does not overshoot. Proximity routing takes the finger with the least latency
among those whose bits are set in the remaining distance: the number of hops is the same, but the hops are shorter.
"""

from typing import NamedTuple

import numpy as np

from cubecast.overlay.delays import Delays, delay_ms
from cubecast.overlay.kernel import kernel
from cubecast.types import Floats, Indices, Ints


class Chord(NamedTuple):
    """A ring of hosts.

    Attributes:
        host: shape (m,), the host at each place.
        place: shape (hosts,), the place of each host.
        fingers: number of fingers of each host.
    """

    host: Indices
    place: Indices
    fingers: int


def chord(hosts: int, rng: np.random.Generator) -> Chord:
    """A ring of all hosts in random order."""
    host = rng.permutation(hosts).astype(np.int32)
    return Chord(host, np.argsort(host).astype(np.int32), max(1, (hosts - 1).bit_length()))


@kernel
def chord_next(ring: Chord, delays: Delays, at: int, target: int, proximity: bool) -> int:
    """The next host from host `at` towards host `target`."""
    hosts = len(ring.host)
    ahead = (ring.place[target] - ring.place[at]) % hosts
    best, least = 0, np.inf
    for finger in range(ring.fingers - 1, -1, -1):
        if ahead >> finger & 1:
            jump = ring.host[(ring.place[at] + (1 << finger)) % hosts]
            if not proximity:
                return int(jump)
            cost = delay_ms(delays, at, jump)
            if cost < least:
                best, least = int(jump), cost
    return best


@kernel
def chord_routes(ring: Chord, delays: Delays, sources: Ints, targets: Ints, proximity: bool) -> tuple[Floats, Ints]:
    """Delay, ms, and hops of routes between pairs of hosts, shape (pairs,) each."""
    delay, hops = np.zeros(len(sources)), np.zeros(len(sources), np.int64)
    for pair in range(len(sources)):
        at, target = int(sources[pair]), int(targets[pair])
        while at != target:
            there = chord_next(ring, delays, at, target, proximity)
            delay[pair] += delay_ms(delays, at, there)
            hops[pair] += 1
            at = there
    return delay, hops
