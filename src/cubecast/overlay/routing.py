"""Next hops on the cube: ODR, Random and Greedy. Source: the slides' "Overlay routing".

Every policy moves only to neighbours that are one hop closer, so each arrives in exactly the distance; the policies
differ in which closer neighbour they prefer.

- ODR: the lowest dimension that still differs (ordered dimensional routing).
- Random: a closer neighbour drawn at random at every hop (random ordering of dimensions).
- Greedy: the closer neighbour behind the link of least cost (proximity).
"""

from collections.abc import Callable
from enum import StrEnum

import numpy as np

from cubecast.overlay.cube import Cube, digit, step, ways_closer
from cubecast.types import Label


class Policy(StrEnum):
    """How a host picks the next hop."""

    ODR = "odr"
    RANDOM = "random"
    GREEDY = "greedy"


def closer_neighbours(cube: Cube, here: int, there: int) -> list[Label]:
    """The neighbours one hop closer to `there`, by dimension, + before - where both ways round are as short."""
    found = []
    for dimension in range(cube.dimensions):
        ahead = (digit(cube, there, dimension) - digit(cube, here, dimension)) % cube.radix
        up, down = ways_closer(cube.radix, ahead)
        if up:
            found.append(step(cube, here, dimension, 1))
        if down:
            found.append(step(cube, here, dimension, -1))
    return found


def ranked_next_hops(
    policy: Policy, cube: Cube, here: int, there: int, cost_ms: Callable[[Label], float], rng: np.random.Generator
) -> list[Label]:
    """The next hops a policy allows, best first; empty on arrival.

    ODR allows exactly one; Random and Greedy allow every closer neighbour, so that a search may try the next when the
    first does not answer or does not keep the bound.

    Args:
        cost_ms: the link's cost to a neighbouring label, ms >= 0; asked by Greedy only.
        rng: drawn from by Random only.
    """
    closer = closer_neighbours(cube, here, there)
    match policy:
        case Policy.ODR:
            return closer[:1]
        case Policy.RANDOM:
            return [closer[i] for i in rng.permutation(len(closer))]
        case Policy.GREEDY:
            return sorted(closer, key=cost_ms)


def route(
    policy: Policy,
    cube: Cube,
    here: int,
    there: int,
    cost_ms: Callable[[Label, Label], float],
    rng: np.random.Generator,
) -> list[Label]:
    """The whole path `here .. there`, both ends included; its length in hops is the distance.

    Args:
        cost_ms: cost_ms(a, b) of the link between neighbouring labels a and b, ms >= 0.
    """
    path = [Label(here)]
    while path[-1] != there:
        at = path[-1]
        path.append(ranked_next_hops(policy, cube, at, there, lambda label: cost_ms(at, label), rng)[0])  # noqa: B023
    return path
