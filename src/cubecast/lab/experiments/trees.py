"""Trees: every way to deliver a channel, on the same network with the same publishers and subscribers."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes

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

FIGURES = (
    "fan_out_max", "rad", "rdp_p50", "rdp_p90", "stress_mean", "stress_max", "traversals", "links_per_host",
    "probes_per_host",
)  # fmt: skip
GROUP = 4096
PROBES_BAR = 64.0
SOONER_BY = 0.01
"""Two trees are as soon as each other within this share."""


def tasks_of(name: str) -> Callable[[Parameters], list[Task]]:
    """One for every method and seed."""
    return lambda parameters: one_task_a_seed(name, parameters, [(method, 0, 0) for method in METHODS])


def measure(task: Task) -> list[Row]:
    """One method, averaged over the publishers."""
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
        stage = DeliverySetting(network, group_of(network.hosts, publisher, group, rng), over, seat, tables)
        rows.append(delivery_row(deliver(method, stage, p.fan_out, rng), stage))
    means = {
        column: round(mean_of(rows, column), 4) if column != "fan_out_max"
        else int(max(column_of(rows, column)))
        for column in FIGURES
    }  # fmt: skip
    return [{
        "network": network.name, "seed": task.seed, "method": method, "group": len(stage.group) - 1,
        "fan_out": p.fan_out, "publishers": len(publishers), **means,
    }]  # fmt: skip


def judge(rows: Sequence[Row], parameters: Parameters) -> list[Claim]:
    """The bars for the live system's default, and what it must not cost."""

    def figure(column: str, method: str = "hybrid") -> float:
        return mean_of(rows, column, method=method)

    cap = parameters.fan_out
    routers_known = not is_file(parameters.network) or Path(parameters.network).suffix == SUFFIX
    most = max(column_of(matching(rows, method="hybrid"), "fan_out_max"))
    beside = {method: figure("rad", method) for method in SURVEYS if method != "hybrid"}
    known = ", ".join(f"{method} {rad:.3f}" for method, rad in beside.items())
    claims = [
        Claim(
            f"The hybrid tree keeps every host's fan-out at {cap} and its probes at {PROBES_BAR:.0f} a host",
            "ours",
            f"most copies of one host: {most:.0f}; {figure('probes_per_host'):.1f} round trips a host",
            most <= cap and figure("probes_per_host") <= PROBES_BAR,
        ),
        Claim(
            f"No other tree of bounded fan-out is sooner by {100 * SOONER_BY:.0f} %",
            "ours",
            f"RAD: hybrid {figure('rad'):.3f}, {known}",
            figure("rad") <= min(beside.values()) * (1 + SOONER_BY),
        ),
        Claim(
            "Hybrid crosses no more physical links than Scribe with full PNS",
            "ours",
            f"{figure('traversals'):.0f} against {figure('traversals', 'scribe-pns'):.0f}; mean stress "
            f"{figure('stress_mean'):.2f} against {figure('stress_mean', 'scribe-pns'):.2f}",
            figure("traversals") <= figure("traversals", "scribe-pns") if routers_known else None,
            "" if routers_known else "of a matrix only access links are known, two for each copy",
        ),
    ]
    if figure("rad", "limit") < 1 - SOONER_BY:
        claims.append(
            Claim(
                "Where detours are shorter than the direct way, the tree is sooner than direct connections",
                "ours",
                f"RAD {figure('rad'):.3f}; limit of any tree over these hosts {figure('rad', 'limit'):.3f}",
                figure("rad") < 1,
            )
        )
    return claims


def draw(rows: Sequence[Row], axes: Sequence[Axes]) -> None:
    """RAD with the 90th percentile of RDP, and traversals, by method."""
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
    reading="""Every row has the same network, publishers and subscribers. star is unicast to everyone and stands for what a
single strong server does; limit is the shortest-path tree over all pairs without any limit on fan-out. The cube's own
methods do not limit fan-out either, and neither does Scribe: fan_out_max tells.

hybrid is meant to be the default of the live system, which so far knows the cube only. It takes the better of two starts (hubs chosen by coordinates; measured
detours), then lets hosts measure promising relatives and change places while that serves everyone sooner, links in the
score. On the transit-stub network nothing can be sooner than unicast, since packets follow shortest paths; what is left
over 1 is the price of a bounded fan-out. On measured Internet delays most pairs have a faster way through a third host:
there the tree is sooner than direct connections, and not far from the limit that all pairs would allow.

probes_per_host counts every round trip measured, landmarks included; half a round trip stands for one way.""",
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
costs its own access twice, so bounded fan-out costs more here than anywhere else, and small fan-outs most of all. The
order of the methods stays, but hybrid crosses more links than Scribe, whose hosts may send any number of copies.
Coordinates fold a host's access latency into its position; telling it apart is where
something is left to gain.""",
)
