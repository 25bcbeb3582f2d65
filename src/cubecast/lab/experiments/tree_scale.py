"""The hybrid tree against group size and fan-out, and its bars."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cubecast.lab.deliveries import DeliverySetting, deliver, delivery_row
from cubecast.lab.experiment import (
    Claim,
    Experiment,
    Parameters,
    Row,
    Task,
    mean_of,
    one_task_a_seed,
    sizes_of,
)
from cubecast.lab.populations import generator, group_of, network_of, publishers_of

if TYPE_CHECKING:
    from cubecast.lab.drawing import Axes

GROUPS = (256, 1024, 4096, 16_384)
FAN_OUTS = (4, 8, 16)
BARS = (
    (16, 1024, 16_384, "rad", 1.23),
    (16, 1024, 16_384, "rdp_p90", 1.43),
    (8, 4096, 4096, "rad", 1.33),
    (8, 4096, 4096, "stress_mean", 2.4),
    (4, 1024, 16_384, "rad", 1.6),
)
"""Each bar: fan-out, smallest and largest group, column, and the column's maximum."""


def tasks(parameters: Parameters) -> list[Task]:
    """One for each group, fan-out and publisher; the largest groups first."""
    groups = GROUPS if parameters.group is None else (parameters.group,)
    points = [
        (str(fan_out), group, publisher)
        for group in sorted(groups, reverse=True)
        for fan_out in FAN_OUTS
        for publisher in range(parameters.publishers)
    ]
    return one_task_a_seed("tree-scale", parameters, points)


def measure(task: Task) -> list[Row]:
    """The metrics of one publisher's tree."""
    p = task.parameters
    network = network_of(p.network, p.size, task.seed)
    publishers = publishers_of(network.hosts, p.publishers, generator(task.seed, 14))
    if task.repeat >= len(publishers):
        return []
    rng = generator(task.seed, 14, task.number, task.repeat)
    group = group_of(network.hosts, publishers[task.repeat], min(task.number, network.hosts - 1), rng)
    setting = DeliverySetting(network, group)
    return [
        {
            "group": len(group) - 1,
            "fan_out": int(task.kind),
            "seed": task.seed,
            "publisher": task.repeat,
            **delivery_row(deliver("hybrid", setting, int(task.kind), rng), setting),
        }
    ]


def judge(rows: Sequence[Row], parameters: Parameters) -> list[Claim]:
    """The bars; they are judged on the transit-stub network only."""
    groups = sizes_of(rows, "group")
    claims = []
    for fan_out, low, high, column, bar in BARS:
        covered = [group for group in groups if low <= group <= high]
        worst = max((mean_of(rows, column, group=g, fan_out=fan_out) for g in covered), default=None)
        where = f"{low}" if low == high else f"{low} to {high}"
        set_for = parameters.network == "transit-stub"
        claims.append(
            Claim(
                f"Hybrid at fan-out {fan_out}, {where} subscribers: {column} <= {bar}",
                "ours",
                "no such group was run" if worst is None else f"at most {worst:.3f}",
                worst <= bar if worst is not None and set_for else None,
                "" if set_for else "the bar is for the transit-stub network",
            )
        )
    return claims


def draw(rows: Sequence[Row], axes: Sequence["Axes"]) -> None:
    """RAD and the 90th percentile of RDP against group size, and physical links crossed for each subscriber."""
    groups = sorted(sizes_of(rows, "group"))
    for fan_out, colour in zip(FAN_OUTS, ("C0", "C1", "C2"), strict=True):
        for column, style in (("rad", "-"), ("rdp_p90", "--")):
            values = [mean_of(rows, column, group=g, fan_out=fan_out) for g in groups]
            label = f"{'RAD' if column == 'rad' else 'RDP p90'}, fan-out {fan_out}"
            axes[0].plot(groups, values, colour + style, label=label, marker=".")
        links = [mean_of(rows, "traversals", group=g, fan_out=fan_out) / g for g in groups]
        axes[1].plot(groups, links, colour + "-", label=f"fan-out {fan_out}", marker=".")
    for one, label in zip(
        axes, ("delay relative to unicast", "physical links crossed for each subscriber"), strict=True
    ):
        one.set_xscale("log", base=2)
        one.set_xlabel("group size")
        one.set_ylabel(label)
        one.legend(fontsize="small", ncols=2)
    low, high = axes[0].get_ylim()
    axes[0].set_ylim(low, high + 0.3 * (high - low))
    axes[1].set_ylim(bottom=0)


EXPERIMENT = Experiment(
    name="tree-scale",
    title="The hybrid tree at any size",
    source="beyond the slides",
    options=frozenset({"network", "size", "seeds", "group", "publishers"}),
    defaults=Parameters(publishers=2),
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    panels=2,
    reading="""Delay hardly depends on the size of the group, because larger groups offer nearer relays. A smaller fan-out costs delay:
with 4 copies a host instead of 16, the tree has more levels. The links crossed for each subscriber decrease as the group
grows, because more of them are within a stub domain.""",
)
