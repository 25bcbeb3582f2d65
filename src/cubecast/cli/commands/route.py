"""`cubecast route SHAPE FROM TO`: the path a policy takes between two labels."""

import numpy as np

from cubecast.cli.arguments import Parser, one_of, whole_number
from cubecast.overlay.cube import format_label, mean_hops, parse_cube, parse_label
from cubecast.overlay.routing import Policy, route
from cubecast.types import Label


def run(arguments: list[str]) -> int:
    """Runs the command."""
    parser = Parser(prog="cubecast route", description="Show the path a policy takes when every link costs the same.")
    parser.add_argument("shape", help="K^N, such as 2^4")
    parser.add_argument("source", help="label, digits")
    parser.add_argument("target", help="label, digits")
    parser.add_argument(
        "--policy", type=one_of(Policy), metavar="|".join(Policy), default=Policy.ODR, help="next hops (odr)"
    )
    parser.add_argument("--seed", type=whole_number(0, 2**31), default=0, metavar="N", help="of the random policy")
    args = parser.parse_args(arguments)
    cube = parse_cube(args.shape)
    here, there = parse_label(cube, args.source), parse_label(cube, args.target)

    def even(_a: Label, _b: Label) -> float:
        return 1.0

    path = route(args.policy, cube, here, there, even, np.random.default_rng(args.seed))
    print(" -> ".join(format_label(cube, label) for label in path))
    print(f"{len(path) - 1} hops; the mean over all pairs of {cube} is {mean_hops(*cube):.2f}")
    return 0
