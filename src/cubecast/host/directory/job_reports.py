"""Reports on the jobs of a host: as many at a time as fit into a refresh."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from cubecast.engine.protocol.http_bodies import JOB_REPORTS_BYTES_MAX, JOBS_REPORTED_MAX
from cubecast.engine.protocol.job_records import Job, JobReport


class JobRunner(Protocol):
    """Makes derived channels that the super-node assigns to this host (cubecast.host.derived.jobs)."""

    slots: int
    """Maximum number of extensions that this host runs for others at the same time."""
    changed: Callable[[], None]
    """Called when there is something new to report; the session sets it."""

    def want(self, jobs: tuple[Job, ...]) -> None:
        """Replaces the assigned jobs by these: others are stopped."""

    def reports(self) -> tuple[JobReport, ...]:
        """The state of every assigned job."""


class JobReports:
    """The reports of a runner, in turn."""

    def __init__(self, work: JobRunner) -> None:
        self._work = work
        self._next_job = 0
        """Place of the first job in the next refresh, where not all of them fit."""

    def next(self) -> tuple[JobReport, ...]:
        """The reports on jobs for one refresh: as many as fit, beginning after those of the last one."""
        reports = self._work.reports()
        first = self._next_job % max(1, len(reports))
        fitting: list[JobReport] = []
        free_bytes = JOB_REPORTS_BYTES_MAX
        for report in (*reports[first:], *reports[:first]):
            free_bytes -= len(msgspec.json.encode(report)) + 1  # and a comma
            if free_bytes < 0 or len(fitting) == JOBS_REPORTED_MAX:
                break
            fitting.append(report)
        self._next_job = first + len(fitting)
        return tuple(fitting)
