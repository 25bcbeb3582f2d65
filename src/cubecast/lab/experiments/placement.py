"""Better labels by pairwise swaps, and next hops chosen by looking two hops ahead."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from cubecast.lab.compilation import compiled
from cubecast.lab.experiment import Claim, Experiment, Parameters, Row, Task, mean_of, one_task_a_seed, sizes_of
from cubecast.lab.metric_rows import penalty_row
from cubecast.lab.populations import generator, network_of, seated, some_pairs
from cubecast.overlay.coordinates import landmark_coordinates
from cubecast.overlay.cube import label_count
from cubecast.overlay.delays import delays_between, delays_from
from cubecast.overlay.many_routes import GREEDY, LOOKAHEAD, neighbour_table, overlay, route_all
from cubecast.overlay.placement import mean_link_ms, swapped_labels
from cubecast.overlay.region import live_region

if TYPE_CHECKING:
    from cubecast.lab.drawing import Axes

LANDMARKS = 32
"""Number of hosts to which all others measure their delay, for coordinates."""
CLOSE = 32
"""Number of nearest hosts, by coordinates, that a swap tries to make neighbours."""
TRIES_PER_HOST = (0, 50, 100, 150)
"""Tries of label swaps for each host, after each of which routes are measured."""
RAD_BAR = 2.35
"""Bar: maximum RAD for 65 536 hosts on 2^16 after all swaps, with lookahead."""
P90_BAR = 3.7
"""Bar: maximum 90th percentile of RDP for the same hosts."""


def tasks(parameters: Parameters) -> list[Task]:
    """One for each seed, because each state is made from the previous one."""
    return one_task_a_seed("placement", parameters)


def measure(task: Task) -> list[Row]:
    """Routes by greedy and by lookahead, after each number of TRIES_PER_HOST."""
    p = task.parameters
    network = network_of(p.network, p.size, task.seed)
    shape = p.shape or live_region(network.hosts)
    rng = generator(task.seed, 9)
    host, _ = seated(shape, network.hosts, rng)
    landmarks = rng.permutation(network.hosts)[:LANDMARKS]
    to_ms = np.stack([delays_from(network.delays, int(landmark)) for landmark in landmarks], axis=1)
    positions = landmark_coordinates(to_ms[landmarks], to_ms)
    _, nearest = cKDTree(positions).query(positions, min(CLOSE + 1, network.hosts))
    close = np.asarray(nearest)[:, 1:].astype(np.int32)
    near = neighbour_table(shape)
    sources, targets = some_pairs(label_count(shape), p.pairs, rng)
    swaps_possible = len(host) == network.hosts
    rows: list[Row] = []
    done = 0
    for tries in TRIES_PER_HOST if swaps_possible else (0,):
        host = compiled(swapped_labels)(near, host, network.delays, close, (tries - done) * network.hosts, rng)
        done = tries
        over = overlay(shape, host, network.delays, positions)
        unicast = delays_between(network.delays, host[sources], host[targets])
        distinct = unicast > 0
        for policy, number in (("greedy", GREEDY), ("lookahead", LOOKAHEAD)):
            delay, hops = compiled(route_all)(over, number, sources, targets, rng)
            rows.append(
                {
                    "shape": str(shape),
                    "seed": task.seed,
                    "tries": tries * network.hosts,
                    "policy": policy,
                    "hops": round(float(hops.mean()), 3),
                    **penalty_row(delay[distinct], unicast[distinct]),
                    "link_ms": round(mean_link_ms(near, host, network.delays), 2),
                    "links_per_host": near.shape[1] * len(host) / network.hosts,
                }
            )
    return rows


def judge(rows: Sequence[Row], _parameters: Parameters) -> list[Claim]:
    """The bar for the cube with better labels, and whether lookahead helps without them."""
    most = max(sizes_of(rows, "tries"))
    rad = mean_of(rows, "rad", tries=most, policy="lookahead")
    ninetieth = mean_of(rows, "rdp_p90", tries=most, policy="lookahead")
    random = mean_of(rows, "rad", tries=0, policy="greedy")
    ahead = mean_of(rows, "rad", tries=0, policy="lookahead")
    sixteen = rows[0]["shape"] == "2^16" and most > 0
    return [
        Claim(
            f"Cube with 16 links after swaps and lookahead: RAD <= {RAD_BAR}, p90 <= {P90_BAR}",
            "ours",
            f"RAD {rad:.2f}, p90 {ninetieth:.2f} after {most / 1e6:.1f} M tries (greedy on random labels: {random:.2f})",
            rad <= RAD_BAR and ninetieth <= P90_BAR if sixteen else None,
            "" if sixteen else "the bar is for 65 536 hosts on 2^16",
        ),
        Claim(
            "Two-step lookahead on coordinates helps even on random labels",
            "ours",
            f"RAD {ahead:.2f} against {random:.2f}",
            ahead < random,
        ),
    ]


def draw(rows: Sequence[Row], axes: Sequence["Axes"]) -> None:
    """RAD and the 90th percentile of RDP against tries."""
    tries = sizes_of(rows, "tries")
    for policy, style in (("greedy", "--"), ("lookahead", "-")):
        for column, colour in (("rad", "C0"), ("rdp_p90", "C1")):
            values = [mean_of(rows, column, tries=t, policy=policy) for t in tries]
            axes[0].plot([t / 1e6 for t in tries], values, colour + style, label=f"{column} {policy}", marker=".")
    axes[0].set_xlabel("tries of label swaps, millions")
    axes[0].set_ylabel("delay relative to unicast")
    axes[0].set_ylim(1, 11)
    axes[0].legend()


EXPERIMENT = Experiment(
    name="placement",
    title="Better labels for the cube",
    source="slides: further investigation into alternative adaptive algorithms (outlook); beyond the slides",
    options=frozenset({"network", "size", "seeds", "shape", "pairs"}),
    defaults=Parameters(pairs=50_000),
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    reading="""Two hosts swap labels when that makes all links of both labels shorter together. Half of the tries are blind,
half put a host beside one that coordinates say is near. From random labels this more than halves the delay of greedy
routes, with no more links a host. Lookahead takes the next hop whose best continuation, by the link after it and the
coordinates' distance from there, is shortest; it helps little on random labels and much on good ones.

A try needs two hosts to know the delays to each other's neighbours: 4 n probes where they are not known. 150 tries a
host are background work, too much for a join; a subscriber whose bound is violated relocates instead (see that page).""",
)
