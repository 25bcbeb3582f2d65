"""QoS join: each newcomer has a bound of its own and finds a parent within a budget of probes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cubecast.lab.experiment import Claim, Experiment, Parameters, Row, Task, mean_of, one_task_a_seed, sizes_of
from cubecast.lab.metric_rows import penalty_row
from cubecast.lab.populations import generator, group_of, measure_pairs, members, network_of, publishers_of
from cubecast.overlay.delays import delays_between, delays_from
from cubecast.overlay.metrics import success_ratio
from cubecast.overlay.trees.hybrid import landmark_positions
from cubecast.overlay.trees.join import join
from cubecast.overlay.trees.measured import Measured, run_survey

if TYPE_CHECKING:
    from cubecast.lab.drawing import Axes

GROUP = 1024
"""Default number of subscribers; a larger group takes longer, since newcomers join one by one."""
BUDGETS = (1, 2, 4, 8, 16, 32)
"""Maximum numbers of probes of a newcomer, one run for each."""
BOUND_FACTORS = (1.1, 3.0)
"""Range of the random factor by which a newcomer's bound exceeds its direct delay."""


def tasks(parameters: Parameters) -> list[Task]:
    """One for each budget and publisher."""
    return one_task_a_seed("join", parameters, [("", b, p) for b in BUDGETS for p in range(parameters.publishers)])


def measure(task: Task) -> list[Row]:
    """A group that joins one by one; a refusal is wrong if a directory that knew all delays would have admitted."""
    budget, publisher = task.number, task.repeat
    p = task.parameters
    network = network_of(p.network, p.size, task.seed)
    rng = generator(task.seed, 11, publisher)
    publishers = publishers_of(network.hosts, p.publishers, generator(task.seed, 11))
    if publisher >= len(publishers):
        return []
    wanted = GROUP if p.group is None else p.group
    group = group_of(network.hosts, publishers[publisher], min(wanted, network.hosts - 1), rng)
    delays = members(network.delays, group)
    direct = delays_from(delays, 0)
    nodes = len(group)
    bounds = direct * rng.uniform(*BOUND_FACTORS, size=nodes)
    measured = Measured(nodes, nodes * nodes)
    positions, landmark_probes = run_survey(
        landmark_positions(measured, rng), lambda pairs: measure_pairs(delays, pairs)
    )
    late, copies = np.full(nodes, np.inf), np.zeros(nodes, np.int64)
    late[0] = 0.0
    probes, wrongly_refused = 0, 0
    for newcomer in range(1, nodes):
        open_hosts = copies < p.fan_out
        survey = join(late, open_hosts, positions, newcomer, bounds[newcomer], budget)
        joined, probed = run_survey(survey, lambda pairs: measure_pairs(delays, pairs))
        probes += probed
        if joined.parent >= 0:
            late[newcomer] = joined.best_ms
            copies[joined.parent] += 1
            continue
        candidates = np.flatnonzero(open_hosts & np.isfinite(late))
        best = (late[candidates] + delays_between(delays, candidates, np.full(len(candidates), newcomer))).min()
        wrongly_refused += bool(best <= bounds[newcomer])
    served = np.isfinite(late[1:])
    return [
        {
            "group": nodes - 1,
            "seed": task.seed,
            "publisher": publisher,
            "probes": budget,
            "success": round(success_ratio(served), 4),
            "wrongly_refused": round(wrongly_refused / (nodes - 1), 4),
            "kept": bool((late[1:][served] <= bounds[1:][served]).all()),
            "probes_per_host": round((probes + landmark_probes) / nodes, 2),
            **penalty_row(late[1:][served], direct[1:][served]),
        }
    ]


def judge(rows: Sequence[Row], _parameters: Parameters) -> list[Claim]:
    """Whether admitted bounds are kept, and how many probes a correct refusal takes."""
    budgets = sizes_of(rows, "probes")
    wrong = {b: mean_of(rows, "wrongly_refused", probes=b) for b in budgets}
    enough = next((b for b in budgets if wrong[b] <= 0.01), None)
    return [
        Claim(
            "Every admitted subscriber's bound is kept by the measured path",
            "ours",
            f"in {sum(bool(row['kept']) for row in rows)} of {len(rows)} runs",
            all(bool(row["kept"]) for row in rows),
        ),
        Claim(
            "A few probes find what an all-knowing directory would find",
            "ours",
            "refused although a host could have served: "
            + ", ".join(f"{100 * wrong[b]:.1f} % at {b}" for b in budgets)
            + (f"; within 1 % from {enough} probes on" if enough else ""),
            enough is not None and enough <= 16,
        ),
    ]


def draw(rows: Sequence[Row], axes: Sequence["Axes"]) -> None:
    """Success and wrong refusals against the budget."""
    budgets = sizes_of(rows, "probes")
    axes[0].plot(budgets, [mean_of(rows, "success", probes=b) for b in budgets], "-", label="success ratio", marker=".")
    axes[0].plot(
        budgets,
        [mean_of(rows, "wrongly_refused", probes=b) for b in budgets],
        "--",
        label="wrongly refused",
        marker=".",
    )
    axes[0].set_xscale("log", base=2)
    axes[0].set_xlabel("probes a newcomer")
    axes[0].set_ylabel("share of subscribers")
    axes[0].legend()


EXPERIMENT = Experiment(
    name="join",
    title="QoS join with a budget of probes",
    source="slides: hosts subscribing to published channels specify QoS constraints; beyond the slides",
    options=frozenset({"network", "size", "seeds", "fan_out", "group", "publishers"}),
    defaults=Parameters(publishers=2),
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    reading="""Newcomers arrive one by one with bounds of 1.1 to 3 times their direct delay, on a tree whose hosts send at most
the given fan-out. Coordinates rank the hosts with a copy to spare; the newcomer probes the first few and takes the best,
or is refused with the best bound it saw. A refusal is wrong when some host on the tree at that moment could have kept
the bound. No host moves to free a place here; refinement and relocation do that.""",
)
