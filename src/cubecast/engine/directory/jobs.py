"""Jobs: derived channels that hosts make for others with an extension, and the host assigned to each.

The owner of a job repeats its request; a job that is not requested any more ends, so no job is stored on disk. After a
restart of the super-node jobs return with their owners' requests, and stay with the hosts that still run them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cubecast.engine.directory.channels import Channels
from cubecast.engine.directory.config import JobsConfig
from cubecast.engine.directory.delay_table import DelayTable
from cubecast.engine.directory.events import Assign, DirectoryEffect
from cubecast.engine.directory.job_placement import AUTO, JobPlacement, PlacementInputs
from cubecast.engine.directory.state import DirectoryState
from cubecast.engine.protocol.job_records import Job, JobProgress, JobReport, JobStatus
from cubecast.errors import DirectoryError
from cubecast.types import ChannelName, HostId


@dataclass(slots=True)
class _Entry:
    """A job and its state; `state` and `reason` as in JobStatus."""

    job: Job
    at: str
    lease_until: float
    has_module: bool
    pending_extension: str = ""
    """The module of a newer version that its owner has not uploaded yet."""
    host: HostId | None = None
    retry_at: float = -np.inf
    state: str = "waiting"
    reason: str = ""
    progress: JobProgress = field(default_factory=JobProgress)
    avoid_until: dict[HostId, float] = field(default_factory=dict)
    """Hosts at which the job failed, and until when they are not chosen again, s."""
    failures: int = 0
    """Number of failures since it ran last."""

    @property
    def over(self) -> bool:
        """Whether no host shall be chosen any more."""
        return self.state in ("finished", "refused", "failed")

    def may_stay(self, report: JobReport) -> bool:
        """Whether a job without a host can be left to the one that reports it."""
        runs_it = report.state in ("starting", "running") and report.job.owner == self.job.owner
        return self.host is None and not self.over and runs_it


class JobTable:
    """All jobs. The directory engine owns one."""

    def __init__(self, delay_table: DelayTable, config: JobsConfig) -> None:
        self._config = config
        self._placement = JobPlacement(delay_table, config)
        self._entries: dict[ChannelName, _Entry] = {}
        self._consumers: dict[tuple[ChannelName, HostId], float] = {}
        """Hosts that requested a channel before it was announced, and when, s."""
        self._settle_at = -np.inf
        """Until then hosts may run jobs whose owners have not repeated their requests yet, s."""
        self._changed: set[HostId] = set()
        """Hosts whose jobs differ from those they were sent last."""

    # ------------------------------------------------------------------ requests and reports

    def settle(self, now: float) -> None:
        """After a restart: for one lease, jobs that hosts report and no owner has requested again are not stopped."""
        self._settle_at = now + self._config.lease_s

    def request(self, job: Job, at: str, *, has_module: bool, now: float) -> None:
        """Adds a job, or renews its lease.

        Args:
            at: a host, PUBLISHER or AUTO.
            has_module: whether the super-node has the module.

        Raises:
            DirectoryError: the channel is another owner's, would be derived from itself, or there are too many jobs.
        """
        entry = self._entries.get(job.channel)
        lease_until = now + self._config.lease_s
        if entry is None:
            if len(self._entries) >= self._config.jobs_max:
                raise DirectoryError(f"there are {self._config.jobs_max} derived channels already")
            self._check_acyclic(job)
            self._entries[job.channel] = _Entry(job, at, lease_until, has_module)
            return
        if entry.job.owner != job.owner:
            raise DirectoryError(f"channel {job.channel!r} is derived by another job; choose another name")
        if not entry.job.same_input(job) or entry.at != at:
            raise DirectoryError(
                f"channel {job.channel!r} has another source, other settings or another place; end that job first"
            )
        entry.lease_until, entry.has_module = lease_until, has_module
        entry.pending_extension = "" if has_module else job.extension
        if entry.job != job and has_module:
            entry.job = job
            self._mark_changed(entry)

    def end(self, channel: ChannelName, owner: str) -> None:
        """Ends a job at its owner's request; other requests are ignored."""
        entry = self._entries.get(channel)
        if entry is not None and entry.job.owner == owner:
            del self._entries[channel]
            self._mark_changed(entry)

    def report(self, host: HostId, reports: tuple[JobReport, ...], now: float) -> None:
        """Stores a host's report of all the jobs it has."""
        by_channel = {report.job.channel: report for report in reports}
        for channel, report in by_channel.items():
            entry = self._entries.get(channel)
            if entry is not None and now < self._settle_at and entry.may_stay(report):
                entry.host = host
            if entry is None or entry.host != host:
                self._changed.add(host)  # it runs a job that is not assigned to it
            else:
                self._store_report(entry, host, report, now)
        for channel, entry in self._entries.items():
            if entry.host == host and channel not in by_channel:
                self._changed.add(host)

    def _store_report(self, entry: _Entry, host: HostId, report: JobReport, now: float) -> None:
        entry.state, entry.reason, entry.progress = report.state, report.reason, report.progress
        if report.state == "running":
            entry.failures = 0
        elif report.state == "failed":
            entry.failures += 1
            entry.avoid_until[host] = now + self._config.avoid_s
            if entry.at == AUTO and entry.failures < self._config.failures_max:
                entry.state = "waiting"
            self._withdraw_from_host(entry)
        elif entry.over:
            self._withdraw_from_host(entry)

    def add_consumer(self, host: HostId, channel: ChannelName, now: float) -> None:
        """Records that a host requested a channel that is not announced."""
        self._consumers[channel, host] = now
        for key in [key for key, at in self._consumers.items() if now - at > self._config.consumer_s]:
            del self._consumers[key]
        while len(self._consumers) > self._config.consumers_max:
            del self._consumers[next(iter(self._consumers))]

    def consumers(self, channel: ChannelName, now: float) -> list[HostId]:
        """Hosts that lately requested a channel while it was not announced."""
        return [
            host
            for (requested, host), at in self._consumers.items()
            if requested == channel and now - at <= self._config.consumer_s
        ]

    def remove_host(self, host: HostId) -> None:
        """Takes its jobs from a host that has left, so that others get them."""
        self._changed.discard(host)
        for entry in self._entries.values():
            if entry.host == host:
                entry.host, entry.state, entry.reason = None, "waiting", f"host {host} has left"

    # ------------------------------------------------------------------ assignment

    def end_expired(self, now: float) -> None:
        """Ends the jobs whose leases are over."""
        for channel, entry in list(self._entries.items()):
            if entry.lease_until < now:
                del self._entries[channel]
                self._mark_changed(entry)

    def waiting(self, now: float) -> list[Job]:
        """Jobs for which a host should be chosen now."""
        if not self.settled(now):
            return []
        return [
            entry.job
            for entry in self._entries.values()
            if entry.host is None and entry.has_module and not entry.over and entry.retry_at <= now
        ]

    def place(self, job: Job, inputs: PlacementInputs, now: float) -> None:
        """Assigns a job to the best host, if any can run it."""
        entry = self._entries[job.channel]
        entry.retry_at = now + self._config.retry_after_s
        avoided = {host for host, until in entry.avoid_until.items() if until > now}
        host, entry.reason = self._placement.choose(job, entry.at, inputs, self._jobs_by_host(), avoided)
        if host is not None:
            entry.host, entry.state = host, "starting"
            self._mark_changed(entry)

    def take_changed(self, now: float) -> set[HostId]:
        """Hosts that must be sent their jobs again."""
        if not self.settled(now):
            return set()
        changed, self._changed = self._changed, set()
        return changed

    # ------------------------------------------------------------------ queries

    def of(self, host: HostId) -> tuple[Job, ...]:
        """The jobs assigned to a host."""
        return tuple(entry.job for entry in self._entries.values() if entry.host == host)

    def settled(self, now: float) -> bool:
        """Whether all jobs are known: always except during the first lease after a restart."""
        return now >= self._settle_at

    def __contains__(self, channel: ChannelName) -> bool:
        """Whether a job derives a channel."""
        return channel in self._entries

    def status(self, channel: ChannelName) -> JobStatus:
        """The state of a job, for its owner.

        Raises:
            DirectoryError: there is no such job.
        """
        entry = self._entries.get(channel)
        if entry is None:
            raise DirectoryError(f"no job derives channel {channel!r}")
        return JobStatus(entry.host, entry.state, entry.reason, entry.progress, not entry.has_module)

    def modules(self) -> set[str]:
        """The SHA-256 of each module that jobs need; "" may be among them."""
        return {digest for entry in self._entries.values() for digest in (entry.job.extension, entry.pending_extension)}

    def derives(self, host: HostId, channel: ChannelName) -> bool:
        """Whether a host has the job that derives a channel."""
        entry = self._entries.get(channel)
        return entry is not None and entry.host == host

    def needs(self, host: HostId, channel: ChannelName) -> bool:
        """Whether a channel is the source of one of a host's jobs."""
        return any(entry.host == host and entry.job.source == channel for entry in self._entries.values())

    def _jobs_by_host(self) -> Mapping[HostId, list[Job]]:
        jobs: dict[HostId, list[Job]] = {}
        for entry in self._entries.values():
            if entry.host is not None:
                jobs.setdefault(entry.host, []).append(entry.job)
        return jobs

    def _check_acyclic(self, job: Job) -> None:
        source: ChannelName | None = job.source
        for _ in range(len(self._entries) + 1):
            if source == job.channel:
                raise DirectoryError(f"channel {job.channel!r} would be derived from itself")
            entry = self._entries.get(source) if source is not None else None
            source = None if entry is None else entry.job.source

    def _withdraw_from_host(self, entry: _Entry) -> None:
        self._mark_changed(entry)
        entry.host = None

    def _mark_changed(self, entry: _Entry) -> None:
        if entry.host is not None:
            self._changed.add(entry.host)


class JobAssignment:
    """Assigns waiting jobs to hosts and sends every host its jobs when they change."""

    def __init__(self, state: DirectoryState, channels: Channels, jobs: JobTable) -> None:
        self._state = state
        self._channels = channels
        self._jobs = jobs

    def assign(self, now: float) -> list[DirectoryEffect]:
        """Assigns what can be assigned now."""
        self._jobs.end_expired(now)
        for job in self._jobs.waiting(now):
            self._jobs.place(job, self._inputs(job, now), now)
        changed = sorted(self._jobs.take_changed(now))
        return [Assign(host, self._jobs.of(host)) for host in changed if host in self._state.members]

    def _inputs(self, job: Job, now: float) -> PlacementInputs:
        members, copies = self._state.members, self._channels.copies()
        source, derived = self._state.channels.get(job.source), self._state.channels.get(job.channel)
        source_ms: dict[HostId, float] = {}
        if source is not None:
            source_ms = {host: member.promised_ms for host, member in self._channels.group(source).items()}
        bounds_ms = {host: np.inf for host in self._jobs.consumers(job.channel, now) if host in members}
        if derived is not None:
            group = self._channels.group(derived)
            bounds_ms |= {host: member.bound_ms for host, member in group.items() if host != derived.publisher}
        return PlacementInputs(
            {host: member.slots for host, member in members.items()},
            {host: max(0, member.record.fan_out - copies[host]) for host, member in members.items()},
            source_ms,
            bounds_ms,
        )
