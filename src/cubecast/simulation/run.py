"""Runs a scenario with a seed; the same scenario and seed give the same run, event by event."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec import structs

from cubecast.overlay.region import live_region
from cubecast.physical.catalogue import load_network
from cubecast.simulation.faults import schedule_faults
from cubecast.simulation.job_invariants import JobInvariants
from cubecast.simulation.observation import Observation
from cubecast.simulation.overlay import SimulatedOverlay
from cubecast.simulation.owners import add_owners
from cubecast.simulation.population import populate
from cubecast.simulation.scenario import Scenario
from cubecast.simulation.simulated_run import SimulatedRun
from cubecast.tracing.writer import TraceWriter

HOSTS_PER_SPARE_ROW = 20
"""The delay matrix has one more row, for newcomers, for each so many hosts, and at least one. With fewer rows newcomers would
wait until hosts have left."""


@dataclass(slots=True)
class SimulationResult:
    """The result of one seed.

    Attributes:
        digest: of the trace: every event of every host, and which hosts its effects concern.
        success_ratio: subscribers that media reaches over a path that promises their bound, as a share of all
            subscribers, mean over time; None if no subscription was old enough.
        reconnect_ms: p50 and p99 of the time from the crash of a host upstream until media flows again; None without any.
        events: number of events that host engines handled.
        jobs_running: share of the wanted jobs that ran, mean over time; None without jobs.
    """

    seed: int
    digest: str
    invariants_broken: list[str]
    success_ratio: float | None
    reconnect_ms: dict[str, float | None]
    events: int
    events_per_second: float
    reconnects: int
    never_reconnected: int
    """Streams that a crash had cut and that were still cut at the end."""
    changes: int
    streams_ended: int
    messages: int
    jobs_running: float | None


def simulate(scenario: Scenario, seed: int, trace: Path | None = None) -> SimulationResult:
    """Runs a scenario.

    Args:
        trace: file that all engines' events and effects are appended to.

    Raises:
        UsageError: the network is not known.
        NetworkFileError: its file cannot be read.
    """
    spare = max(1, scenario.hosts // HOSTS_PER_SPARE_ROW)
    network = load_network(scenario.network, scenario.hosts + spare, seed)
    cube = live_region(scenario.hosts + spare)
    config = structs.replace(scenario.engine, tick_s=scenario.tick_s)
    overlay = SimulatedOverlay(network.matrix_ms(), cube, scenario.policy, seed, config, scenario.directory, wire=False)
    overlay.loss = scenario.loss
    run = SimulatedRun(scenario, seed, overlay, np.random.default_rng([seed, 64]), np.random.default_rng([seed, 65]))
    run.places = list(range(scenario.hosts, scenario.hosts + spare))
    populate(run)
    if trace is not None:
        overlay.writer = overlay.supernode.writer = TraceWriter(trace)
    observation = Observation(run, JobInvariants(overlay, add_owners(run), run.leaving))
    begun = time.perf_counter()
    with _without_collector():
        overlay.run(scenario.warm_s)
        schedule_faults(run)
        observation.start_sampling()
        overlay.run(scenario.seconds)
    if overlay.writer is not None:
        overlay.writer.close()
    took_s = time.perf_counter() - begun
    observation.check_subscribers()
    return _result(run, observation, took_s)


def _result(run: SimulatedRun, observation: Observation, took_s: float) -> SimulationResult:
    overlay = run.overlay
    p50, p99 = (round(float(s) * 1000, 1) for s in np.percentile(run.reconnect_s or [np.nan], [50, 99]))
    return SimulationResult(
        seed=run.seed,
        digest=observation.digest,
        invariants_broken=run.broken,
        success_ratio=_mean(observation.served_shares),
        reconnect_ms={"p50": p50, "p99": p99} if run.reconnect_s else {"p50": None, "p99": None},
        events=overlay.engine_events,
        events_per_second=round(overlay.engine_events / took_s),
        reconnects=len(run.reconnect_s),
        never_reconnected=len(run.cut),
        changes=sum(here.changes for here in overlay.hosts.values()),
        streams_ended=run.streams_ended,
        messages=overlay.messages,
        jobs_running=_mean(observation.job_invariants.running_shares),
    )


def _mean(shares: list[float]) -> float | None:
    return round(float(np.mean(shares)), 4) if shares else None


@contextmanager
def _without_collector() -> Iterator[None]:
    """Disables Python's cyclic garbage collector: engines leave no cyclic garbage, and its search takes a sixth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
