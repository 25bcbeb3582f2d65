"""Runs the tasks of experiments, by joblib, in processes of this machine or on the workers of a Dask cluster."""

import os
import re
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import joblib

from cubecast import __version__
from cubecast.errors import LabError
from cubecast.lab.experiment import Experiment, ExperimentResult, Parameters, Row, Task
from cubecast.lab.experiments import EXPERIMENTS
from cubecast.simulation.run import SimulationResult, simulate
from cubecast.simulation.scenario import Scenario

CONNECT_S = 10
"""Timeout for reaching a Dask scheduler, and for its workers to start."""
QUIET_TRACKER = "ignore:resource_tracker:UserWarning"
"""A warning filter for joblib's helper process: if a sweep is interrupted on a busy machine, the helper would warn that a
folder it was about to remove no longer exists."""


def run_experiments(
    chosen: Sequence[tuple[Experiment, Parameters]],
    jobs: int,
    scheduler: str,
    on_progress: Callable[[int, int, str], None],
) -> list[ExperimentResult]:
    """Runs all tasks of all experiments together, so that no processor waits for the last task of one.

    Args:
        jobs: number of processes; ignored with a scheduler, whose workers run the tasks.
        scheduler: address of a Dask scheduler; empty for this machine.
        on_progress: called after each task with the tasks done, all tasks, and the experiment of the task.

    Raises:
        LabError: the scheduler does not answer.
        UsageError: a parameter makes no sense for an experiment.
    """
    # Experiments on a network run first: loky takes a worker's memory after its first task as its normal use, and would
    # take a network that is loaded later for a leak.
    in_order = sorted(chosen, key=lambda each: "network" not in each[0].options)
    tasks = [task for experiment, parameters in in_order for task in experiment.tasks(parameters)]
    rows: dict[str, dict[int, list[Row]]] = {experiment.name: {} for experiment, _ in chosen}
    seconds = dict.fromkeys(rows, 0.0)
    with _backend(jobs, scheduler) as parallel, warnings.catch_warnings():
        # loky replaces a worker that has grown and repeats its task, so users need no warning
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs")
        finished = parallel(joblib.delayed(perform)(number, task) for number, task in enumerate(tasks))
        for done, (place, spent, found) in enumerate(finished, start=1):
            name = tasks[place].experiment
            rows[name][place] = found
            seconds[name] += spent
            on_progress(done, len(tasks), name)
    return [
        _result(experiment, parameters, rows[experiment.name], seconds[experiment.name])
        for experiment, parameters in chosen
    ]


def run_simulations(
    scenario: Scenario, seeds: Sequence[int], jobs: int, trace: Path | None = None
) -> Iterator[SimulationResult]:
    """Runs a scenario with each seed in `jobs` processes; yields each result, in the order of seeds, when it is ready.

    Args:
        trace: file that the trace of a run with one seed is appended to.
    """
    if jobs == 1 or len(seeds) == 1:
        yield from (simulate(scenario, seed, trace) for seed in seeds)
        return
    os.environ.setdefault("PYTHONWARNINGS", QUIET_TRACKER)
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator", batch_size=1, max_nbytes=None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs")
        yield from parallel(joblib.delayed(simulate)(scenario, seed) for seed in seeds)


def perform(number: int, task: Task) -> tuple[int, float, list[Row]]:
    """Runs one task. Returns its number, its duration in seconds, and its rows."""
    start = perf_counter()
    rows = EXPERIMENTS[task.experiment].measure(task)
    return number, perf_counter() - start, rows


def _result(
    experiment: Experiment, parameters: Parameters, found: dict[int, list[Row]], seconds: float
) -> ExperimentResult:
    rows = [row for place in sorted(found) for row in found[place]]
    claims = [replace(c, holds=None if c.holds is None else bool(c.holds)) for c in experiment.judge(rows, parameters)]
    return ExperimentResult(experiment.name, experiment.options, __version__, parameters, rows, claims, seconds)


Tasks = Iterator[tuple[int, float, list[Row]]]


@contextmanager
def _backend(jobs: int, scheduler: str) -> Iterator[Callable[[object], Tasks]]:
    os.environ.setdefault("PYTHONWARNINGS", QUIET_TRACKER)
    if not scheduler:
        yield joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1, max_nbytes=None)
        return
    from distributed import Client  # noqa: PLC0415  slow to import, and needed only with a scheduler

    _check_reachable(scheduler)
    try:
        client = Client(scheduler, timeout=CONNECT_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as error:
        raise LabError(f"no Dask scheduler answers at {scheduler}: {error}") from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise LabError(
                f"the Dask scheduler at {scheduler} has no workers; start some with: dask worker {scheduler}"
            )
        with joblib.parallel_config(backend="dask", client=client, wait_for_workers_timeout=CONNECT_S):
            yield lambda tasks: iter(joblib.Parallel(batch_size=1)(tasks))


def _check_reachable(scheduler: str) -> None:
    """Connects once without Dask, whose own failed attempt would leave running tasks behind.

    Raises:
        LabError: `scheduler` is no address, or nothing listens there.
    """
    match = re.fullmatch(r"(?:tcp|tls)://\[?([^\]]+)\]?:(\d{1,5})", scheduler)
    if match is None:
        raise LabError(f"--scheduler {scheduler!r} is not the address of a Dask scheduler; write tcp://HOST:8786")
    try:
        socket.create_connection((match[1], int(match[2])), timeout=CONNECT_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise LabError(
            f"no Dask scheduler answers at {scheduler}; start one with: dask scheduler, and workers with: dask worker"
        ) from error
