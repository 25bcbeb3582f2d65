"""Shapes: mean hops against A(k, n), and which shape for m hosts, in both forms of the M-region."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cubecast.lab.compilation import compiled
from cubecast.lab.experiment import (
    Claim,
    Experiment,
    Parameters,
    Point,
    Row,
    Task,
    column_of,
    matching,
    number,
    one_task_a_seed,
)
from cubecast.lab.metric_rows import hops_agree
from cubecast.lab.populations import generator
from cubecast.overlay.cube import Cube, label_count, mean_hops
from cubecast.overlay.kernel import kernel
from cubecast.overlay.many_routes import closer_ports, digits_of, move_digits
from cubecast.overlay.region import exact_region, least_mean_shape, links_per_host, live_region, published_region
from cubecast.types import Floats, Ints

if TYPE_CHECKING:
    from cubecast.lab.drawing import Axes

SHAPES = (Cube(2, 16), Cube(3, 10), Cube(4, 8), Cube(5, 7), Cube(16, 4), Cube(40, 3), Cube(256, 2))
SLIDE_AXIS = (2, 4, 9, 27, 32, 81, 243, 729, 4_782_969)
"""Values of M on the slide's axis."""
BRUTE_FORCE_MAX = 1_000_000
"""Greatest m for which the exact form is compared with brute force."""


def tasks(parameters: Parameters) -> list[Task]:
    """Hops for each shape and seed, then the regions and the comparison with brute force."""
    points: list[Point] = [("hops", place, 0) for place in range(len(_shapes(parameters)))]
    per_seed = one_task_a_seed("shape", parameters, points)
    return [*per_seed, *(Task("shape", parameters, 0, kind) for kind in ("regions", "brute force"))]


def _shapes(parameters: Parameters) -> tuple[Cube, ...]:
    return SHAPES if parameters.shape is None else (parameters.shape,)


def measure(task: Task) -> list[Row]:
    """The mean hops of one shape, the regions, or the comparison with brute force."""
    match task.kind:
        case "hops":
            return [_hops(_shapes(task.parameters)[task.number], task)]
        case "regions":
            return _regions()
        case _:
            return [_brute_force()]


def _hops(shape: Cube, task: Task) -> Row:
    rng = generator(task.seed, 1)
    sources, targets = rng.integers(label_count(shape), size=(2, task.parameters.pairs))
    walked = compiled(hops_walked)(shape, sources, targets)
    return {
        "kind": "hops",
        "seed": task.seed,
        "shape": str(shape),
        "labels": label_count(shape),
        "hops": round(float(walked.mean()), 4),
        "expected": round(mean_hops(*shape), 4),
    }


@kernel
def hops_walked(cube: Cube, sources: Ints, targets: Ints) -> Ints:
    """Hops of ordered routes between pairs of labels, shape (pairs,), counted by walking them; 0 from a label to itself."""
    hops = np.zeros(len(sources), np.int64)
    here, there = np.empty(cube.dimensions, np.int64), np.empty(cube.dimensions, np.int64)
    ports = np.empty(2 * cube.dimensions + 1, np.int64)
    for pair in range(len(sources)):
        digits_of(cube, sources[pair], here)
        digits_of(cube, targets[pair], there)
        while closer_ports(cube, here, there, ports) > 0:
            move_digits(cube, here, ports[0])
            hops[pair] += 1
    return hops


def _regions() -> list[Row]:
    rows: list[Row] = []
    for exponent in np.arange(1, 23.01, 0.25):
        hosts = round(2**exponent)
        for form, region in (("published", published_region), ("exact", exact_region), ("live", live_region)):
            shape = region(hosts)
            rows.append(
                {
                    "kind": "region",
                    "form": form,
                    "hosts": hosts,
                    "radix": shape.radix,
                    "dimensions": shape.dimensions,
                    "labels": label_count(shape),
                    "mean_hops": round(mean_hops(*shape), 4),
                    "links_per_host": round(links_per_host(shape, hosts), 2),
                }
            )
    return rows


def _brute_force() -> Row:
    """Compares the exact form with brute force over all shapes that can be optimal, for every m to BRUTE_FORCE_MAX."""
    sizes, means = [], []
    for dimensions in range(1, BRUTE_FORCE_MAX.bit_length() + 1):
        radix = 2
        while radix == 2 or (radix - 1) ** dimensions < BRUTE_FORCE_MAX:
            sizes.append(radix**dimensions)
            means.append(dimensions * (radix * radix // 4) / radix)
            radix += 1
    order = np.argsort(sizes, kind="stable")[::-1]
    wrong = compiled(mismatches)(np.array(sizes)[order], np.array(means)[order], BRUTE_FORCE_MAX)
    return {"kind": "brute force", "hosts": BRUTE_FORCE_MAX, "mismatches": int(wrong)}


@kernel
def mismatches(sizes: Ints, means: Floats, hosts_max: int) -> int:
    """The number of m for which the exact form differs from the best shape; shapes are given by falling size.

    As m decreases, shapes of at least m labels become eligible; the best eligible shape is the reference for m.
    """
    wrong, eligible, best = 0, 0, -1
    for hosts in range(hosts_max, 0, -1):
        while eligible < len(sizes) and sizes[eligible] >= hosts:
            if best < 0 or means[eligible] < means[best]:  # ties go to the larger shape, which is first
                best = eligible
            eligible += 1
        radix, dimensions = least_mean_shape(hosts)
        wrong += radix**dimensions != sizes[best] or dimensions * (radix * radix // 4) / radix != means[best]
    return wrong


def judge(rows: Sequence[Row], parameters: Parameters) -> list[Claim]:
    """The claims about A(k, n) and M-regions."""
    hops = [row for row in rows if row["kind"] == "hops"]
    worst = max(abs(number(row, "hops") / number(row, "expected") - 1) for row in hops)
    reached = {label_count(published_region(round(2 ** (tenth / 10)))) for tenth in range(230)}
    wrong = sum(number(row, "mismatches") for row in rows if row["kind"] == "brute force")
    literal, best = published_region(65_536), exact_region(65_536)
    return [
        Claim(
            "Average case path length: A(k,n) = n floor(k^2/4) / k",
            "formula",
            f"{len(hops)} shapes, hops walked are off by at most {100 * worst:.2f} %",
            hops_agree(worst, parameters.pairs),
        ),
        Claim(
            "M-region analysis determines optimal values for k and n (axis 2, 4, 9, 27, 32, 81, 243, 729 ... 4 782 969)",
            "axis of M",
            f"the published loop returns {len(reached & set(SLIDE_AXIS))} of the axis's {len(SLIDE_AXIS)} values",
            set(SLIDE_AXIS) <= reached,
        ),
        Claim(
            "The published loop returns the shape with the least A(k,n)",
            "",
            f"for 65 536 hosts it gives {literal} with A = {mean_hops(*literal):.2f}; {best} has {mean_hops(*best):.2f}",
            literal == best,
            "it starts at the hypercube and accepts larger M only; exact_region searches all shapes",
        ),
        Claim(
            "The exact form has the least A(k,n) with k^n >= m, ties to the larger M",
            "",
            f"{wrong:.0f} mismatches with brute force for m up to {BRUTE_FORCE_MAX}",
            wrong == 0,
        ),
    ]


def draw(rows: Sequence[Row], axes: Sequence["Axes"]) -> None:
    """A(k, n) against m, links per host, and the k and n of both forms."""
    for form, style in (("published", "--"), ("exact", "-"), ("live", ":")):
        mine = matching(rows, form=form)
        axes[0].plot(column_of(mine, "hosts"), column_of(mine, "mean_hops"), style, label=form)
        axes[1].plot(column_of(mine, "hosts"), column_of(mine, "links_per_host"), style, label=form)
    for form, colour in (("published", "C0"), ("exact", "C1")):
        mine = matching(rows, form=form)
        for column, style in (("radix", "--"), ("dimensions", "-")):
            label = f"{'k' if column == 'radix' else 'n'}, {form}"
            axes[2].plot(column_of(mine, "hosts"), column_of(mine, column), colour + style, label=label)
    for one, label in zip(axes, ("A(k, n), mean hops", "links per host", "radix k, dimensions n"), strict=True):
        one.set_xscale("log", base=2)
        one.set_xlabel("hosts m")
        one.set_ylabel(label)
        one.legend()
    axes[1].set_yscale("log")


EXPERIMENT = Experiment(
    name="shape",
    title="Which k-ary n-cube for m hosts",
    source="slides: Properties of k-ary n-cubes; M-regions; Calculating M-regions",
    options=frozenset({"shape", "pairs", "seeds"}),
    defaults=Parameters(pairs=200_000),
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    panels=3,
    reading="""Hops walked between random labels (a label to itself included, as in the formula) agree with A(k, n).

The slide's loop, with its missing brace restored, reproduces the slide's axis of M but does not find the least A: it
starts at the smallest hypercube and accepts only a larger M, so the A it returns is rarely the least. The exact form
searches all shapes. Neither considers state: if m is far below M, a host carries M/m labels and their links (middle plot).
A live overlay therefore takes the least A within a budget of 2 log2(m) links a host ("live").""",
)
