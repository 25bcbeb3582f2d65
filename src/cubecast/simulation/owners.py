"""The owners of a run's jobs: each requests a derived channel, renews the request, and tries again when it failed.

An owner behaves as `cubecast process --at auto` that is started again whenever it fails.
"""

import hashlib
from dataclasses import dataclass, field

from cubecast.engine.protocol.job_records import Job, JobStatus
from cubecast.errors import DirectoryError
from cubecast.simulation.population import AGAIN_S, channel_name, derived_name
from cubecast.simulation.simulated_run import SimulatedRun

RENEW_S = 2.0
"""Time between two requests of an owner, s; as in cubecast.client.remote_job."""
BEGIN_SHARE = 0.2
"""Share of the warm-up after which owners request their jobs, 0 to 1; publishers have published by then."""


@dataclass(slots=True, eq=False)
class JobOwner:
    """One owner and its job."""

    number: int
    job: Job
    since: float
    """When it first requested the job, s."""
    attempt: int = 0
    """Number of times that the job failed."""
    failures: list[str] = field(default_factory=list)
    """The reasons of these failures, one line each."""


def add_owners(run: SimulatedRun) -> list[JobOwner]:
    """Adds the owners of all jobs and schedules their first requests."""
    begin_s = BEGIN_SHARE * run.scenario.warm_s
    owners = [JobOwner(number, _job(run, number, 0), run.overlay.now + begin_s) for number in range(run.scenario.jobs)]
    for owner in owners:
        run.overlay.queue.after(begin_s, _renew, run, owner)
    return owners


def _job(run: SimulatedRun, number: int, attempt: int) -> Job:
    channel = derived_name(number)
    return Job(
        channel,
        channel_name(number % run.scenario.channels),
        f"owner {number}, attempt {attempt}",
        hashlib.sha256(channel.encode()).hexdigest(),
        bound_ms=run.scenario.bound_ms[1],
        tree=run.scenario.tree,
    )


def _renew(run: SimulatedRun, owner: JobOwner) -> None:
    next_s, supernode = RENEW_S, run.overlay.supernode
    status: JobStatus | None = None
    try:
        status = supernode.want_job(owner.job)
    except DirectoryError as error:
        owner.failures.append(str(error))
    if status is not None and status.state in ("failed", "refused"):
        owner.failures.append(status.reason)
        supernode.end_job(owner.job)
        owner.attempt += 1
        owner.job = _job(run, owner.number, owner.attempt)
        next_s = AGAIN_S
    run.overlay.queue.after(next_s, _renew, run, owner)
