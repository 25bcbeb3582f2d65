"""Trees: every method of delivery on the same network, with the same publishers and subscribers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cubecast.lab.deliveries import METHODS, SURVEYS, UNIONS, DeliverySetting, deliver, delivery_row, full_pns
from cubecast.lab.experiment import (
    Claim,
    Experiment,
    Parameters,
    Row,
    Task,
    column_of,
    matching,
    mean_of,
    names_of,
    one_task_a_seed,
)
from cubecast.lab.populations import generator, group_of, network_of, publishers_of, seated_overlay
from cubecast.overlay.region import live_region
from cubecast.physical.catalogue import is_file
from cubecast.physical.saved import SUFFIX

if TYPE_CHECKING:
    from cubecast.lab.drawing import Axes

COLUMNS = (
    "fan_out_max",
    "rad",
    "rdp_p50",
    "rdp_p90",
    "stress_mean",
    "stress_max",
    "traversals",
    "links_per_host",
    "probes_per_host",
)
GROUP = 4096
"""Subscribers, on networks with routers and more hosts than that; elsewhere all hosts."""
PROBES_BAR = 64.0
"""Maximum mean number of round trips that a host measures for the hybrid tree."""
FASTER_BY = 0.01
"""Maximum relative difference of RAD at which two trees count as equally fast, 0 to 1."""


def tasks_of(name: str) -> Callable[[Parameters], list[Task]]:
    """The function that gives an experiment's tasks: one for each method and seed."""
    return lambda parameters: one_task_a_seed(name, parameters, [(method, 0, 0) for method in METHODS])


def measure(task: Task) -> list[Row]:
    """The metrics of one method, averaged over the publishers."""
    method = task.kind
    p = task.parameters
    network = network_of(p.network, p.size, task.seed)
    group = p.group if p.group is not None else (GROUP if network.routes.links and network.hosts > GROUP else 0)
    over, seat, tables = None, None, None
    if method in UNIONS:
        over, seat = seated_overlay(p.shape or live_region(network.hosts), network, generator(task.seed, 6))
    if method == "scribe-pns":
        tables = full_pns(network.delays, generator(task.seed, 7))
    rows = []
    publishers = publishers_of(network.hosts, p.publishers, generator(task.seed, 8))
    for publisher in publishers:
        rng = generator(task.seed, 8, publisher)
        setting = DeliverySetting(network, group_of(network.hosts, publisher, group, rng), over, seat, tables)
        rows.append(delivery_row(deliver(method, setting, p.fan_out, rng), setting))
    means = {
        column: round(mean_of(rows, column), 4) if column != "fan_out_max" else int(max(column_of(rows, column)))
        for column in COLUMNS
    }
    return [
        {
            "network": network.name,
            "seed": task.seed,
            "method": method,
            "group": len(setting.group) - 1,
            "fan_out": p.fan_out,
            "publishers": len(publishers),
            **means,
        }
    ]


def judge(rows: Sequence[Row], parameters: Parameters) -> list[Claim]:
    """The bars for the hybrid tree, and its delay and links against other trees."""

    def figure(column: str, method: str = "hybrid") -> float:
        return mean_of(rows, column, method=method)

    cap = parameters.fan_out
    routers_known = not is_file(parameters.network) or Path(parameters.network).suffix == SUFFIX
    most = max(column_of(matching(rows, method="hybrid"), "fan_out_max"))
    others = {method: figure("rad", method) for method in SURVEYS if method != "hybrid"}
    known = ", ".join(f"{method} {rad:.3f}" for method, rad in others.items())
    claims = [
        Claim(
            f"The hybrid tree keeps every host's fan-out at {cap} and its probes at {PROBES_BAR:.0f} a host",
            "ours",
            f"most copies of one host: {most:.0f}; {figure('probes_per_host'):.1f} round trips a host",
            most <= cap and figure("probes_per_host") <= PROBES_BAR,
        ),
        Claim(
            f"No other tree of bounded fan-out is faster by {100 * FASTER_BY:.0f} %",
            "ours",
            f"RAD: hybrid {figure('rad'):.3f}, {known}",
            figure("rad") <= min(others.values()) * (1 + FASTER_BY),
        ),
        Claim(
            "Hybrid crosses no more physical links than Scribe with full PNS",
            "ours",
            f"{figure('traversals'):.0f} against {figure('traversals', 'scribe-pns'):.0f}; mean stress "
            f"{figure('stress_mean'):.2f} against {figure('stress_mean', 'scribe-pns'):.2f}",
            figure("traversals") <= figure("traversals", "scribe-pns") if routers_known else None,
            "" if routers_known else "in a matrix only access links are known, two for each copy",
        ),
    ]
    if figure("rad", "limit") < 1 - FASTER_BY:
        claims.append(
            Claim(
                "Where detours are shorter than the direct path, the tree is faster than direct connections",
                "ours",
                f"RAD {figure('rad'):.3f}; limit of any tree over these hosts {figure('rad', 'limit'):.3f}",
                figure("rad") < 1,
            )
        )
    return claims


def draw(rows: Sequence[Row], axes: Sequence["Axes"]) -> None:
    """RAD and the 90th percentile of RDP, and traversals of physical links, by method."""
    methods = names_of(rows, "method")
    places = range(len(methods))
    for column, label, offset in (("rad", "RAD", -0.2), ("rdp_p90", "RDP p90", 0.2)):
        heights = [mean_of(rows, column, method=m) for m in methods]
        axes[0].bar([place + offset for place in places], heights, 0.4, label=label)
    axes[1].bar(list(places), [mean_of(rows, "traversals", method=m) for m in methods], 0.6)
    axes[0].set_yscale("log")
    for one in axes:
        one.set_xticks(list(places), methods, rotation=60, ha="right")
        one.grid(visible=True, axis="y", alpha=0.3)
    axes[0].axhline(1.0, color="k", linewidth=0.8)
    axes[0].set_yticks([0.8, 1, 1.5, 2, 3, 5, 10], ["0.8", "1", "1.5", "2", "3", "5", "10"])
    axes[0].set_ylabel("delay relative to unicast")
    axes[0].legend()
    axes[1].set_ylabel("physical links crossed")


OPTIONS = frozenset({"network", "size", "seeds", "shape", "fan_out", "group", "publishers"})

EXPERIMENT = Experiment(
    name="trees",
    title="Delivery trees side by side",
    source="beyond the slides; rivals: Narada provided the case for end-system multicast, Scribe the scale",
    options=OPTIONS,
    defaults=Parameters(),
    tasks=tasks_of("trees"),
    measure=measure,
    judge=judge,
    draw=draw,
    panels=2,
    reading="""Every row has the same network, publishers and subscribers. star is unicast to every subscriber, as from a
single strong server; limit is the shortest-path tree over all pairs without a limit on fan-out. The cube's methods and
Scribe have no limit on fan-out either; the column fan_out_max shows what they use.

hybrid starts from the better of two trees (hubs chosen by coordinates, or measured detours). Hosts then measure promising
relatives and change places while that improves a score of all delays and of the links crossed. On the transit-stub network
no tree can be faster than unicast, because packets follow shortest paths; what RAD exceeds 1 by is the cost of a bounded
fan-out. On measured Internet delays most pairs have a faster path through a third host: there the tree is faster than direct
connections, and close to the limit.

probes_per_host counts every round trip measured, including those to landmarks; a one-way delay is half a round trip.""",
)

HIGH_ACCESS = Experiment(
    name="trees-high-access",
    title="Delivery trees among hosts behind slow access lines",
    source="beyond the slides",
    options=OPTIONS - {"network"},
    defaults=Parameters(network="transit-stub-high-access"),
    tasks=tasks_of("trees-high-access"),
    measure=measure,
    judge=judge,
    draw=draw,
    panels=2,
    reading="""The same network, but hosts have an access latency of 5 to 20 ms (DSL, cable) instead of 0.5 to 2 ms. Every relay
adds its own access latency twice, so a bounded fan-out costs more here than on other networks, and a small fan-out most.
The order of the methods is the same, but hybrid crosses more links than Scribe, whose hosts may send any number of copies.
Coordinates include a host's access latency in its position; estimating it separately could improve the tree.""",
)
