"""Routes over a whole overlay at once: the policies of `routing` over a table of link costs, and two-step lookahead.

The hosts' own decision, one at a time, is `routing.ranked_next_hops`; a law in the tests holds the two together.
"""

from typing import NamedTuple

import numpy as np

from cubecast.overlay.coordinates import estimated_ms
from cubecast.overlay.cube import Cube, label_count, ways_closer
from cubecast.overlay.delays import Delays
from cubecast.overlay.kernel import kernel
from cubecast.types import Floats, Indices, Ints, Milliseconds

ODR, RANDOM, GREEDY, LOOKAHEAD = range(4)
"""Numbers of the policies, as kernels take them."""

NO_POSITIONS: Floats = np.zeros((1, 1))
"""For policies that do not look at coordinates."""


class Overlay(NamedTuple):
    """A cube with hosts on its labels, as routes see it.

    Attributes:
        cube: the shape; M labels, degree p.
        host: shape (M,), the host on each label.
        link_ms: shape (M, p), one-way delay of each label's links, by port.
        near: shape (M, p), the label behind each port.
        positions: shape (hosts, d), coordinates, ms; what lookahead judges the rest of a path by.
    """

    cube: Cube
    host: Indices
    link_ms: Milliseconds
    near: Indices
    positions: Floats


def overlay(cube: Cube, host: Indices, delays: Delays, positions: Floats = NO_POSITIONS) -> Overlay:
    """The overlay of hosts on labels."""
    near = neighbour_table(cube)
    link_ms = np.empty(near.shape, np.float32)
    for number in range(near.shape[1]):
        a, b = host, host[near[:, number]]
        column = delays.between_ms[delays.at[a], delays.at[b]] + delays.access_ms[a] + delays.access_ms[b]
        link_ms[:, number] = np.where(a == b, 0, column)
    return Overlay(cube, host, link_ms, near, positions)


def neighbour_table(cube: Cube) -> Indices:
    """The label behind each port of each label, shape (M, p), in the order of `cube.neighbours`."""
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
    """Writes a label's digits, the least significant first."""
    for dimension in range(cube.dimensions):
        digits[dimension] = label % cube.radix
        label //= cube.radix


@kernel
def closer_ports(cube: Cube, here: Ints, there: Ints, ports: Ints) -> int:
    """Writes the ports that lead one hop closer, in rising order, and gives how many.

    Args:
        here, there: shape (n,), digits.
        ports: shape (p + 1,), written to.
    """
    found = 0
    for dimension in range(cube.dimensions):  # written always, counted where closer: no branch to mispredict
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
def move_digits(cube: Cube, digits: Ints, number: int) -> None:
    """Takes the digits through a port."""
    if cube.radix == 2:
        digits[number] = 1 - digits[number]
    else:
        digits[number // 2] = (digits[number // 2] + 1 - 2 * (number % 2)) % cube.radix


@kernel
def next_port(
    over: Overlay, policy: int, at: int, target: int, here: Ints, there: Ints, ports: Ints, rng: np.random.Generator
) -> int:
    """The port a policy takes from label `at`, whose digits are `here`."""
    found = closer_ports(over.cube, here, there, ports)
    if policy == ODR or found == 1:
        return int(ports[0])
    if policy == RANDOM:
        return int(ports[rng.integers(0, found)])
    best, least = int(ports[0]), np.inf
    for place in range(found):
        number = int(ports[place])
        cost = float(over.link_ms[at, number])
        if policy == LOOKAHEAD and cost < least:
            cost += _least_beyond(over, int(over.near[at, number]), target, here, there, number)
        if cost < least:
            best, least = number, cost
    return best


@kernel
def _least_beyond(over: Overlay, middle: int, target: int, here: Ints, there: Ints, through: int) -> float:
    """From a next hop: the least link to a hop after it, and what coordinates foretell from there, ms."""
    if middle == target:
        return 0.0
    ports = np.empty(over.near.shape[1] + 1, np.int64)
    digits = here.copy()
    move_digits(over.cube, digits, through)
    least = np.inf
    for place in range(closer_ports(over.cube, digits, there, ports)):
        beyond = over.near[middle, ports[place]]
        rest = estimated_ms(over.positions, over.host[beyond], over.host[target])
        least = min(least, float(over.link_ms[middle, ports[place]]) + rest)
    return least


@kernel
def route_all(
    over: Overlay, policy: int, sources: Ints, targets: Ints, rng: np.random.Generator
) -> tuple[Floats, Ints]:
    """Routes between pairs of labels.

    Returns:
        delay: shape (pairs,), ms along the overlay.
        hops: shape (pairs,).
    """
    delay, hops = np.zeros(len(sources)), np.zeros(len(sources), np.int64)
    here, there = np.empty(over.cube.dimensions, np.int64), np.empty(over.cube.dimensions, np.int64)
    ports = np.empty(over.near.shape[1] + 1, np.int64)
    for pair in range(len(sources)):
        at, target = sources[pair], targets[pair]
        digits_of(over.cube, at, here)
        digits_of(over.cube, target, there)
        while at != target:
            number = next_port(over, policy, at, target, here, there, ports, rng)
            delay[pair] += over.link_ms[at, number]
            hops[pair] += 1
            move_digits(over.cube, here, number)
            at = over.near[at, number]
    return delay, hops
