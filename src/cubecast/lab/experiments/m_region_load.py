"""Labels and links of a host when the cube has more labels (M) than there are hosts (m)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cubecast.lab.experiment import (
    Claim,
    Experiment,
    Parameters,
    Row,
    Task,
    column_of,
    matching,
    number,
    one_task_a_seed,
    sizes_of,
)
from cubecast.lab.populations import generator, seated
from cubecast.overlay.cube import degree, label_count, mean_hops
from cubecast.overlay.many_routes import neighbour_table
from cubecast.overlay.region import exact_region, live_region, published_region

if TYPE_CHECKING:
    from cubecast.lab.drawing import Axes

SIZES = (100, 200, 400, 600, 800, 1000, 1500, 2000, 3000, 4000, 6000, 8000)
FORMS = {"published": published_region, "exact": exact_region, "live": live_region}
LABELS_MAX = 1 << 18
"""Maximum labels of a cube whose labels and links are counted; of a larger one only the shape is reported."""


def tasks(parameters: Parameters) -> list[Task]:
    """One for each number of hosts and form of the region."""
    sizes = SIZES if parameters.size is None else (parameters.size,)
    return one_task_a_seed("m-region-load", parameters, [(form, size, 0) for size in sizes for form in FORMS])


def measure(task: Task) -> list[Row]:
    """Labels and distinct neighbours of hosts on random labels of the shape that one form of the region chooses."""
    size, form = task.number, task.kind
    shape = FORMS[form](size)
    row: Row = {
        "hosts": size,
        "seed": task.seed,
        "form": form,
        "shape": str(shape),
        "labels": label_count(shape),
        "mean_hops": round(mean_hops(*shape), 3),
        "degree": degree(shape),
    }
    if label_count(shape) > LABELS_MAX:
        return [row]
    host, _ = seated(shape, size, generator(task.seed, 10, size))
    near = neighbour_table(shape)
    held = np.bincount(host, minlength=size)
    ends = np.unique(np.repeat(host.astype(np.int64), near.shape[1]) * size + host[near].ravel())
    links = np.bincount(ends[ends // size != ends % size] // size, minlength=size)
    row |= {
        "labels_mean": round(float(held.mean()), 3),
        "labels_max": int(held.max()),
        "links_mean": round(float(links.mean()), 2),
        "links_max": int(links.max()),
    }
    return [row]


def judge(rows: Sequence[Row], _parameters: Parameters) -> list[Claim]:
    """Routing state must be in O(log M)."""
    counted = [row for row in rows if "links_mean" in row]

    def worst(form: str) -> tuple[float, int]:
        return max(
            (number(r, "links_mean") / np.log2(number(r, "hosts")), int(number(r, "hosts")))
            for r in counted
            if r["form"] == form
        )

    claims = [
        Claim(
            "If m < M, some physical hosts perform the routing of multiple logical nodes",
            "",
            "most labels at one host: "
            + ", ".join(f"{f} {max(column_of(matching(counted, form=f), 'labels_max')):.0f}" for f in FORMS),
            max(column_of(counted, "labels_max")) > 1,
        )
    ]
    for form, sentence in (
        ("published", "O(log M) routing state per node (published region)"),
        ("exact", "O(log M) routing state per node (exact region)"),
        ("live", "O(log M) routing state per node (the live system's region)"),
    ):
        ratio, at = worst(form)
        claims.append(
            Claim(
                sentence,
                "O(log M)",
                f"links a host are at most {ratio:.1f} log2(m), at m = {at}",
                ratio <= 2.0,
                "" if ratio <= 2.0 else "A(k, n) ignores state: if M is far above m, a host carries M/m labels",
            )
        )
    return claims


def draw(rows: Sequence[Row], axes: Sequence["Axes"]) -> None:
    """Labels and links of a host against m."""
    for form, style in (("published", "--"), ("exact", "-"), ("live", ":")):
        mine = [row for row in rows if row["form"] == form and "links_mean" in row]
        for one, column in zip(axes, ("labels_mean", "links_mean"), strict=True):
            one.plot(column_of(mine, "hosts"), column_of(mine, column), style, label=form, marker=".")
    sizes = sizes_of(rows, "hosts")
    axes[1].plot(sizes, [2 * np.log2(size) for size in sizes], "k-", linewidth=0.8, label="2 log2(m)")
    for one, label in zip(axes, ("labels a host, mean", "links a host, mean"), strict=True):
        one.set_xlabel("hosts m")
        one.set_ylabel(label)
        one.set_xscale("log", base=2)
        one.legend()


EXPERIMENT = Experiment(
    name="m-region-load",
    title="Fewer hosts than labels",
    source="slides: Logical versus Physical Hosts; Calculating M-regions",
    options=frozenset({"size", "seeds"}),
    defaults=Parameters(),
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    panels=2,
    reading="""Labels without a host of their own are carried by the host whose seat is nearest. Choosing the shape by A(k, n)
alone can leave many labels for each host, and every label brings its links: state grows well beyond log M. The live
system bounds links first and minimises A(k, n) within that bound.""",
)
