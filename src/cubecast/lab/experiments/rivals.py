"""Rivals: the systems that the slides name, on the same network and hosts, with the state that each host keeps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cubecast.errors import UsageError
from cubecast.lab.compilation import compiled
from cubecast.lab.deliveries import DeliverySetting, deliver
from cubecast.lab.experiment import (
    Claim,
    Experiment,
    Parameters,
    Point,
    Row,
    Task,
    matching,
    mean_of,
    names_of,
    one_task_a_seed,
    sizes_of,
)
from cubecast.lab.metric_rows import penalty_row
from cubecast.lab.populations import generator, group_of, members, network_of, publishers_of, seated_overlay
from cubecast.lab.rivals.chord import chord, chord_routes
from cubecast.lab.rivals.narada import HOSTS_MAX, narada_tree
from cubecast.lab.rivals.pastry import FULL_PNS, NO_PNS, SAMPLES, pastry, pastry_routes
from cubecast.overlay.cube import Cube, degree
from cubecast.overlay.delays import delay_matrix, delays_between
from cubecast.overlay.many_routes import GREEDY, ODR, route_all
from cubecast.overlay.region import live_region

if TYPE_CHECKING:
    from cubecast.lab.drawing import Axes

PNS = {"none": NO_PNS, "sampled": SAMPLES, "full": FULL_PNS}
BASES = (2, 4, 16)
"""Pastry's bases."""
CAN_DIMENSIONS = 4
"""Dimensions of CAN's torus: every host has 8 links."""
LEFT_LABEL_STATES = (10, 20)
"""Range of links per host within which a system's name stands left of its point in the plot; others' stand right of it."""
NARADA_GROUPS = (128, 512, 1024)
"""Subscribers in the comparison with Narada."""


def tasks(parameters: Parameters) -> list[Task]:
    """One for each system; those with slow tables first."""
    points: list[Point] = [("pastry-full", base, 0) for base in BASES]
    points += [("pastry-few", base, 0) for base in BASES] + [("cube", 0, 0), ("can", 0, 0), ("chord", 0, 0)]
    groups = NARADA_GROUPS if parameters.group is None else (parameters.group,)
    points += [("groups", group, 0) for group in groups]
    return one_task_a_seed("rivals", parameters, points)


def measure(task: Task) -> list[Row]:
    """Routes of one system between random hosts, or deliveries to one group size."""
    kind, value = task.kind, task.number
    if kind == "groups":
        return _groups(task, value)
    p = task.parameters
    network = network_of(p.network, p.size, task.seed)
    delays = network.delays
    rng = generator(task.seed, 12)
    sources = rng.integers(network.hosts, size=p.pairs)
    targets = (sources + rng.integers(1, network.hosts, size=p.pairs)) % network.hosts
    unicast = delays_between(delays, sources, targets)

    def row(system: str, routes: tuple[object, object], state: float) -> Row:
        delay, hops = np.asarray(routes[0]), np.asarray(routes[1])
        return {
            "kind": "routes",
            "system": system,
            "hosts": network.hosts,
            "seed": task.seed,
            "hops": round(float(hops.mean()), 3),
            **penalty_row(delay, unicast),
            "state_per_host": round(state, 1),
        }

    rows: list[Row] = []
    if kind.startswith("pastry"):
        for name, samples in PNS.items():
            if (name == "full") == (kind == "pastry-full"):
                tables = pastry(delays, value, samples, rng)
                state = float((tables.table >= 0).sum() / network.hosts)
                routes = compiled(pastry_routes)(tables, delays, sources, targets)
                rows.append(row(f"Pastry base {value}, {name} PNS", routes, state))
    elif kind == "chord":
        ring = chord(network.hosts, rng)
        for system, proximity in (("Chord", False), ("Chord, proximity routing", True)):
            rows.append(row(system, compiled(chord_routes)(ring, delays, sources, targets, proximity), ring.fingers))
    else:
        radix = max(2, int(np.ceil(network.hosts ** (1 / CAN_DIMENSIONS) - 1e-9)))
        shape = Cube(radix, CAN_DIMENSIONS) if kind == "can" else p.shape or live_region(network.hosts)
        over, seat = seated_overlay(shape, network, rng)
        policies = {"Greedy": GREEDY} if kind == "can" else {"ODR": ODR, "Greedy": GREEDY}
        for policy, number in policies.items():
            system = f"CAN, {CAN_DIMENSIONS} dimensions, RTT-weighted" if kind == "can" else f"cube {shape}, {policy}"
            routes = compiled(route_all)(over, number, seat[sources], seat[targets], rng)
            rows.append(row(system, routes, degree(shape) * len(over.host) / network.hosts))
    return rows


def _groups(task: Task, group: int) -> list[Row]:
    """Deliveries to small groups by Narada, by unicast, by the hybrid tree and by the limit."""
    p = task.parameters
    network = network_of(p.network, p.size, task.seed)
    rows: list[Row] = []
    for publisher in publishers_of(network.hosts, p.publishers, generator(task.seed, 13)):
        rng = generator(task.seed, 13, group, publisher)
        setting = DeliverySetting(network, group_of(network.hosts, publisher, min(group, network.hosts - 1), rng))
        if len(setting.group) > HOSTS_MAX:
            raise UsageError(f"--group: with Narada, every member knows all members; give at most {HOSTS_MAX - 1}")
        direct = setting.unicast_ms
        shared: Row = {"kind": "groups", "hosts": len(setting.group), "seed": task.seed, "publisher": publisher}
        _, late, links = narada_tree(delay_matrix(members(network.delays, setting.group)), 0, rng)
        known_members = float(len(setting.group) - 1)
        rows.append(
            {**shared, "system": "Narada", **penalty_row(late[1:], direct), "state_per_host": known_members + links}
        )
        for method in ("star", "hybrid", "limit"):
            delivery = deliver(method, setting, p.fan_out, rng)
            rows.append(
                {
                    **shared,
                    "system": method,
                    **penalty_row(delivery.late_ms, direct),
                    "state_per_host": round(delivery.links, 1),
                }
            )
    return rows


def judge(rows: Sequence[Row], _parameters: Parameters) -> list[Claim]:
    """The slides' claims about P2P routing and Narada."""
    routes = [row for row in rows if row["kind"] == "routes"]

    def rad(system: str) -> float:
        return mean_of(routes, "rad", system=system)

    greedy = next(system for system in names_of(routes, "system") if system.endswith("Greedy"))
    odr = greedy.replace("Greedy", "ODR")
    full = min((rad(f"Pastry base {base}, full PNS"), base) for base in BASES)
    state = mean_of(routes, "state_per_host", system=f"Pastry base {full[1]}, full PNS")
    groups = matching(rows, kind="groups")
    sizes = sizes_of(groups, "hosts")

    def at(system: str, size: int) -> float:
        return mean_of(groups, "rad", system=system, hosts=size)

    return [
        Claim(
            "Greedy gives significantly lower delay penalties than existing approaches based on P2P routing",
            "significantly lower",
            f"greedy {rad(greedy):.2f}; Chord {rad('Chord'):.2f}, Pastry base 16 without PNS "
            f"{rad('Pastry base 16, none PNS'):.2f}, base 2 {rad('Pastry base 2, none PNS'):.2f}",
            rad(greedy) < 0.8 * min(rad("Chord"), rad("Pastry base 2, none PNS")),
            "against systems blind to proximity with as many links a host; Pastry base 16 keeps 60",
        ),
        Claim(
            "... also than those with proximity neighbour selection",
            "",
            f"Pastry base {full[1]} with full PNS: RAD {full[0]:.2f} with {state:.0f} entries a host; greedy {rad(greedy):.2f}",
            rad(greedy) < full[0],
            "choosing near neighbours beats choosing among random ones; swapped labels close most of the gap (placement)",
        ),
        Claim(
            "Chord routes like ODR",
            "slides: P2P systems implicitly construct torus or k-ary n-cube topologies",
            f"RAD {rad('Chord'):.2f} against {rad(odr):.2f}",
            abs(rad("Chord") / rad(odr) - 1) < 0.05 if "2^" in odr else None,
        ),
        Claim(
            "QoS of Narada at the scale of Scribe (our hybrid tree)",
            "aim of the slides",
            "; ".join(
                f"{s - 1} subscribers: Narada {at('Narada', s):.2f}, hybrid {at('hybrid', s):.2f}" for s in sizes
            ),
            all(at("hybrid", s) <= at("Narada", s) for s in sizes) if sizes else None,
            "with Narada every member knows all members",
        ),
    ]


def draw(rows: Sequence[Row], axes: Sequence["Axes"]) -> None:
    """RAD of routes against state, and RAD of deliveries against group size."""
    places: dict[tuple[float, float], list[str]] = {}
    for system in names_of(matching(rows, kind="routes"), "system"):
        state, rad = mean_of(rows, "state_per_host", system=system), mean_of(rows, "rad", system=system)
        near = next((p for p in places if abs(p[0] / state - 1) < 0.1 and abs(p[1] / rad - 1) < 0.04), (state, rad))
        places.setdefault(near, []).append(system)
    for (state, rad), systems in places.items():
        axes[0].plot([state], [rad], "o")
        left = LEFT_LABEL_STATES[0] < state < LEFT_LABEL_STATES[1]
        names = "\n".join(system.replace("Pastry base", "Pastry").replace(" PNS", "") for system in systems)
        axes[0].text(
            state * (0.93 if left else 1.06),
            rad,
            names,
            fontsize="x-small",
            va="center",
            ha="right" if left else "left",
        )
    axes[0].set_xscale("log", base=2)
    axes[0].set_yscale("log")
    most = max(rad for _, rad in places)
    ticks = [tick for tick in (0.8, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24) if tick <= 1.2 * most]
    axes[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[0].set_xlim(2, 300)
    axes[0].set_xlabel("links or table entries a host (Pastry: base, PNS)")
    axes[0].set_ylabel("RAD of routes between random hosts")
    groups = matching(rows, kind="groups")
    sizes = sizes_of(groups, "hosts")
    for system, style in (("star", ":"), ("Narada", "--"), ("hybrid", "-"), ("limit", "k:")):
        values = [mean_of(groups, "rad", system=system, hosts=size) for size in sizes]
        axes[1].plot([size - 1 for size in sizes], values, style, label=system, marker=".")
    axes[1].set_xscale("log", base=2)
    axes[1].set_xlabel("group size")
    axes[1].set_ylabel("RAD of deliveries")
    axes[1].legend()


EXPERIMENT = Experiment(
    name="rivals",
    title="Rivals on the same network",
    source="slides: Goals (Chord, CAN, Pastry; Narada; Pastry/Scribe)",
    options=frozenset({"network", "size", "seeds", "shape", "pairs", "fan_out", "group", "publishers"}),
    defaults=Parameters(publishers=3),
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    panels=2,
    reading="""The slides' claim holds against systems that are blind to proximity and keep as many links: plain Chord routes
like ODR, and so does Pastry base 2 without proximity neighbour selection (PNS). It does not hold against Pastry with near
hosts in its tables: with base 16 and the nearest host in every entry, routes are more than three times shorter than
greedy's on random labels. Full PNS assumes that every host has measured all others; sampled PNS (16 random candidates an
entry) is practicable. CAN with full zones is our cube with greedy next hops.

The rivals have complete, current tables and no churn. Narada gives good delays to small groups, but every member must know
all members. Its mesh here settles in rounds of 4 probes a host; hosts drop links beyond 12 where the mesh stays connected.""",
)
