"""Next hops on the cube: ODR, Random and Greedy. Source: the slides' "Overlay routing".

Every policy chooses among the neighbours that are one hop closer to the target, so every route is a shortest path in
hops. The policies differ in which of these neighbours they prefer:

- ODR (ordered dimensional routing): the one in the lowest dimension in which the digits differ.
- Random (random ordering of dimensions): one drawn at random at each hop.
- Greedy (proximity routing): the one whose link has the least delay.
"""

from collections.abc import Callable
from enum import StrEnum

import numpy as np

from cubecast.overlay.cube import Cube, digit, step, ways_closer
from cubecast.types import Label


class Policy(StrEnum):
    """How a host chooses the next hop."""

    ODR = "odr"
    RANDOM = "random"
    GREEDY = "greedy"


def closer_neighbours(cube: Cube, here: int, there: int) -> list[Label]:
    """The neighbours one hop closer to `there`, by dimension; + before - where both directions are equally short."""
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
    """The next hops that a policy allows, best first; empty if `here` is the target.

    ODR allows one. Random and Greedy allow all closer neighbours, so that a search can try the next one if the first
    does not answer or cannot keep the bound.

    Args:
        cost_ms: delay of the link to a neighbour, ms >= 0; called by Greedy only.
        rng: used by Random only.
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
    """The labels of the route from `here` to `there`, both included; it has `distance(here, there)` hops.

    Args:
        cost_ms: delay of the link between two neighbours, ms >= 0.
    """
    path = [Label(here)]
    while path[-1] != there:
        at = path[-1]
        path.append(ranked_next_hops(policy, cube, at, there, lambda label: cost_ms(at, label), rng)[0])  # noqa: B023
    return path
