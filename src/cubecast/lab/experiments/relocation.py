"""Relocation: how many more subscribers keep their bound if they may swap labels with hosts nearer to the publisher."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cubecast.lab.compilation import compiled
from cubecast.lab.experiment import Claim, Experiment, Parameters, Row, Task, mean_of, one_task_a_seed, sizes_of
from cubecast.lab.populations import generator, group_of, network_of, publishers_of, seated
from cubecast.overlay.many_routes import GREEDY, neighbour_table, overlay, route_all
from cubecast.overlay.metrics import lateness, success_ratio
from cubecast.overlay.region import live_region
from cubecast.overlay.relocation import relocate_all
from cubecast.types import Floats, Indices

if TYPE_CHECKING:
    from cubecast.lab.drawing import Axes

GROUPS = (512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_535)
BOUNDS_MS = (100.0, 1000.0)
"""Range of the subscribers' random bounds."""
DEPTHS = (1, 2, 3, 4)
"""Depths D to which a subscriber searches for a label."""


def tasks(parameters: Parameters) -> list[Task]:
    """One for each group size and publisher."""
    groups = GROUPS if parameters.group is None else (parameters.group,)
    publishers = range(parameters.publishers)
    return one_task_a_seed("relocation", parameters, [("", g, p) for g in groups for p in publishers])


def measure(task: Task) -> list[Row]:
    """Success ratio and lateness of one group without relocation, and with each form and depth of it."""
    group, publisher = task.number, task.repeat
    p = task.parameters
    network = network_of(p.network, p.size, task.seed)
    shape = p.shape or live_region(network.hosts)
    rng = generator(task.seed, 3, group, publisher)
    host, _ = seated(shape, network.hosts, rng)
    publishers = publishers_of(network.hosts, p.publishers, generator(task.seed, 3))
    if publisher >= len(publishers):
        return []
    chosen = group_of(network.hosts, publishers[publisher], min(group, network.hosts - 1), rng)
    bounds = rng.uniform(*BOUNDS_MS, size=len(chosen) - 1)
    near = neighbour_table(shape)

    def delays(seats: Indices) -> Floats:
        over = overlay(shape, seats, network.delays)
        seat = np.empty(network.hosts, np.int64)
        seat[seats] = np.arange(len(seats))
        sources = seat[chosen[1:]]
        return compiled(route_all)(over, GREEDY, sources, np.full(len(sources), seat[chosen[0]]), rng)[0]

    before = delays(host)
    rows: list[Row] = []
    for form, depth in [("none", 0), *((form, d) for form in ("published", "breadth-first") for d in DEPTHS)]:
        after, swaps = before, 0
        if depth:
            moved, swaps = compiled(relocate_all)(
                near, host, network.delays, chosen[1:], chosen[0], depth, form == "breadth-first"
            )
            after = delays(moved)
        rows.append(
            {
                "group": len(chosen) - 1,
                "seed": task.seed,
                "publisher": publisher,
                "form": form,
                "depth": depth,
                "success": round(success_ratio(after <= bounds), 4),
                "lateness": round(float(lateness(after, bounds).mean()), 4),
                "swaps": swaps,
                "harmed": round(float(((before <= bounds) & (after > bounds)).mean()), 4),
            }
        )
    return rows


def judge(rows: Sequence[Row], _parameters: Parameters) -> list[Claim]:
    """The gains over no relocation."""

    def gain(group: object, form: str, depth: int) -> float:
        with_it = mean_of(rows, "success", group=group, form=form, depth=depth)  # type: ignore[arg-type]
        return 100 * ((with_it or 0.0) - mean_of(rows, "success", group=group, form="none"))  # type: ignore[arg-type]

    def gains(form: str) -> str:
        return ", ".join(f"{gain(1024, form, depth):+.1f}" for depth in DEPTHS)

    groups = sizes_of(rows, "group")
    middle = [g for g in groups if 512 <= g <= 16_384]
    base = mean_of(rows, "success", form="none")
    cuts = [
        1
        - mean_of(rows, "lateness", group=g, form="published", depth=1)
        / max(1e-9, mean_of(rows, "lateness", group=g, form="none"))
        for g in groups
    ]
    harmed = mean_of(rows, "harmed", form="breadth-first", depth=4)
    best = max(((gain(g, "published", 1), g) for g in middle), default=None)
    return [
        Claim(
            "Adaptive node assignment (D = 1) shows up to 5 % improvement of the success ratio",
            "up to 5 %, base 0.65-0.73",
            "groups of 512..16 384 not run"
            if best is None
            else f"up to {best[0]:+.1f} points, at {best[1]} subscribers; base {base:.2f}",
            None if best is None else best[0] >= 3.0,
        ),
        Claim(
            "The adaptive method can yield > 20 % latency reduction (normalised lateness)",
            "> 20 %",
            f"lateness falls by up to {100 * max(cuts):.0f} % (D = 1)",
            max(cuts) > 0.20,
        ),
        Claim(
            "Improved performance is likely with greater depth D",
            "expected, not measured",
            f"at 1024 subscribers, D = 1 .. 4: recursion {gains('published')}; breadth-first {gains('breadth-first')} points"
            if 1024 in groups
            else "a group of 1024 not run",
            gain(1024, "breadth-first", 4) >= 13.0 if 1024 in groups else None,
        ),
        Claim(
            "Relocation harms no other subscriber",
            "",
            f"{100 * harmed:.1f} % of the subscribers lose a bound they kept (breadth-first, D = 4)",
            harmed == 0,
            "a displaced host may be a subscriber; it moves farther away",
        ),
    ]


def draw(rows: Sequence[Row], axes: Sequence["Axes"]) -> None:
    """Success ratio and normalised lateness against group size, on the slides' axes."""
    groups = sizes_of(rows, "group")
    lines = [
        ("none", 0, "k-"),
        ("published", 1, "C0--"),
        ("published", 4, "C0:"),
        ("breadth-first", 2, "C1--"),
        ("breadth-first", 4, "C1:"),
    ]
    for form, depth, style in lines:
        label = "non-adaptive" if not depth else f"{form}, D = {depth}"
        for one, column in zip(axes, ("success", "lateness"), strict=True):
            values = [mean_of(rows, column, group=g, form=form, depth=depth) for g in groups]
            one.plot(groups, values, style, label=label, marker=".")
    for one, label in zip(axes, ("success ratio", "normalised lateness"), strict=True):
        one.set_xscale("log", base=2)
        one.set_xlabel("group size")
        one.set_ylabel(label)
        low, high = one.get_ylim()
        one.set_ylim(low, high + 0.35 * (high - low))
        one.legend(fontsize="small", ncols=2, loc="upper center")


EXPERIMENT = Experiment(
    name="relocation",
    title="Moving subscribers in logical space",
    source="slides: Subscribe(S, P, d); Success Ratio vs Group Size; Lateness vs Group Size",
    options=frozenset({"network", "size", "seeds", "shape", "group", "publishers"}),
    defaults=Parameters(publishers=6),
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    panels=2,
    reading="""With cost(P) taken as the unicast latency to P, the gain is at least the published one; taken as the delay along the
overlay, swaps gain nothing. Bounds are uniform in 100..1000 ms, chosen so that the base success is on the slide's axis
(0.65 to 0.73): the slides do not say how bounds were drawn.

Depth helps. The slide's recursion continues around the farthest neighbour instead of P, so it also gathers subscribers
around wrong places, and more of them in larger groups; comparing with all labels at exactly d hops from P is better at
every size. Displaced hosts may be subscribers: the column "harmed" is the share that lose a bound they kept.""",
)
