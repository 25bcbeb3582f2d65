"""Routes of many pairs of labels: the policies of `routing` on a table of link delays, and two-step lookahead.

A host chooses one next hop with `routing.ranked_next_hops`; the tests check that both modules choose the same hops.
"""

from typing import NamedTuple

import numpy as np

from cubecast.overlay.coordinates import estimated_ms
from cubecast.overlay.cube import Cube, label_count, ways_closer
from cubecast.overlay.delays import Delays
from cubecast.overlay.kernel import kernel
from cubecast.types import Floats, Indices, Ints, Milliseconds

ODR, RANDOM, GREEDY, LOOKAHEAD = range(4)
"""The routing policies as integers, because kernels take numbers."""

NO_POSITIONS: Floats = np.zeros((1, 1))
"""Placeholder for the coordinates, for policies that do not use them."""


class Overlay(NamedTuple):
    """A cube with hosts on its labels: the input of routing.

    Attributes:
        cube: the shape; M labels, p links per label.
        host: shape (M,), the host on each label.
        link_ms: shape (M, p), one-way delay of each link of a label; 0 where one host is at both ends.
        neighbour: shape (M, p), the label at the other end of each link.
        positions: shape (hosts, d), coordinates, ms; lookahead estimates the rest of a path from them.
    """

    cube: Cube
    host: Indices
    link_ms: Milliseconds
    neighbour: Indices
    positions: Floats


def overlay(cube: Cube, host: Indices, delays: Delays, positions: Floats = NO_POSITIONS) -> Overlay:
    """The overlay with the given host on each label.

    Args:
        host: shape (M,), the host on each label; a host may be on several labels.
        delays: one-way delays between the hosts.
        positions: shape (hosts, d), coordinates, ms; used by LOOKAHEAD only.
    """
    neighbour = neighbour_table(cube)
    link_ms = np.empty(neighbour.shape, np.float32)
    for port in range(neighbour.shape[1]):
        a, b = host, host[neighbour[:, port]]
        column = delays.between_ms[delays.at[a], delays.at[b]] + delays.access_ms[a] + delays.access_ms[b]
        link_ms[:, port] = np.where(a == b, 0, column)
    return Overlay(cube, host, link_ms, neighbour, positions)


def neighbour_table(cube: Cube) -> Indices:
    """The neighbours of every label, shape (M, p), each row in the order of `cube.neighbours`."""
    label = np.arange(label_count(cube), dtype=np.int64)
    columns = []
    for dimension in range(cube.dimensions):
        weight = cube.radix**dimension
        digit = label // weight % cube.radix
        columns.append(label + ((digit + 1) % cube.radix - digit) * weight)
        if cube.radix > 2:
            columns.append(label + ((digit - 1) % cube.radix - digit) * weight)
    return np.ascontiguousarray(np.stack(columns, axis=1).astype(np.int32))


@kernel
def digits_of(cube: Cube, label: int, digits: Ints) -> None:
    """Writes the digits of a label into `digits`, shape (n,), the least significant first."""
    for dimension in range(cube.dimensions):
        digits[dimension] = label % cube.radix
        label //= cube.radix


@kernel
def closer_ports(cube: Cube, here: Ints, there: Ints, ports: Ints) -> int:
    """Finds the ports whose link leads one hop closer to a label, and returns how many there are.

    Args:
        here, there: shape (n,), digits of the own label and of the target.
        ports: shape (p + 1,), output: the ports in ascending order; the rest is undefined.
    """
    found = 0
    for dimension in range(cube.dimensions):  # no branch, so none is mispredicted: written always, counted if closer
        ahead = there[dimension] - here[dimension]
        if cube.radix == 2:
            ports[found] = dimension
            found += ahead != 0
        else:
            up, down = ways_closer(cube.radix, ahead + cube.radix if ahead < 0 else ahead)
            ports[found] = 2 * dimension
            found += up
            ports[found] = 2 * dimension + 1
            found += down
    return found


@kernel
def move_digits(cube: Cube, digits: Ints, port: int) -> None:
    """Changes the digits of a label in place to those of its neighbour at a port."""
    if cube.radix == 2:
        digits[port] = 1 - digits[port]
    else:
        digits[port // 2] = (digits[port // 2] + 1 - 2 * (port % 2)) % cube.radix


@kernel
def next_port(
    over: Overlay, policy: int, at: int, target: int, here: Ints, there: Ints, ports: Ints, rng: np.random.Generator
) -> int:
    """The port of the next hop from label `at` that a policy chooses.

    Args:
        policy: ODR, RANDOM, GREEDY or LOOKAHEAD.
        here, there: shape (n,), digits of `at` and `target`.
        ports: shape (p + 1,), working space.
        rng: used by RANDOM only.
    """
    found = closer_ports(over.cube, here, there, ports)
    if policy == ODR or found == 1:
        return int(ports[0])
    if policy == RANDOM:
        return int(ports[rng.integers(0, found)])
    best, least = int(ports[0]), np.inf
    for place in range(found):
        port = int(ports[place])
        cost = float(over.link_ms[at, port])
        if policy == LOOKAHEAD and cost < least:
            cost += _least_beyond(over, int(over.neighbour[at, port]), target, here, there, port)
        if cost < least:
            best, least = port, cost
    return best


@kernel
def _least_beyond(over: Overlay, middle: int, target: int, here: Ints, there: Ints, through: int) -> float:
    """The second term of lookahead for the next hop at port `through`, ms.

    The least, over the hops after it, of the link's delay plus the estimated delay from there to the target.
    """
    if middle == target:
        return 0.0
    ports = np.empty(over.neighbour.shape[1] + 1, np.int64)
    digits = here.copy()
    move_digits(over.cube, digits, through)
    least = np.inf
    for place in range(closer_ports(over.cube, digits, there, ports)):
        beyond = over.neighbour[middle, ports[place]]
        rest = estimated_ms(over.positions, over.host[beyond], over.host[target])
        least = min(least, float(over.link_ms[middle, ports[place]]) + rest)
    return least


@kernel
def route_all(
    over: Overlay, policy: int, sources: Ints, targets: Ints, rng: np.random.Generator
) -> tuple[Floats, Ints]:
    """Computes the route of each pair of labels (sources[i], targets[i]).

    Returns:
        delay: shape (pairs,), one-way delay along the route, ms.
        hops: shape (pairs,), length of the route.
    """
    delay, hops = np.zeros(len(sources)), np.zeros(len(sources), np.int64)
    here, there = np.empty(over.cube.dimensions, np.int64), np.empty(over.cube.dimensions, np.int64)
    ports = np.empty(over.neighbour.shape[1] + 1, np.int64)
    for pair in range(len(sources)):
        at, target = sources[pair], targets[pair]
        digits_of(over.cube, at, here)
        digits_of(over.cube, target, there)
        while at != target:
            port = next_port(over, policy, at, target, here, there, ports, rng)
            delay[pair] += over.link_ms[at, port]
            hops[pair] += 1
            move_digits(over.cube, here, port)
            at = over.neighbour[at, port]
    return delay, hops
