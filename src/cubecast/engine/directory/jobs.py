"""Jobs: channels that hosts make for others by an extension, and which host makes which.

Whoever wants a channel made asks again and again; a job that nobody asks for any more ends, so nothing of it has to last.
After a restart of the super-node jobs come back as their owners ask, and go to the hosts that are at them still.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cubecast.engine.directory.delay_table import DelayTable
from cubecast.engine.protocol.job_records import Job, JobProgress, JobReport, JobStatus
from cubecast.errors import DirectoryError
from cubecast.overlay.operators import rank_sites
from cubecast.types import Bools, ChannelName, HostId

PUBLISHER, AUTO = "publisher", "auto"
JOB_LEASE_S = 10.0
JOBS_MAX, JOBS_PER_HOST_MAX = 1024, 64
RETRY_S = 2.0
"""A job that found no host is tried again after so long."""
AVOID_S, TRIES_MAX = 60.0, 3
"""A host where a job failed is left out for so long; after so many failures the job has failed."""
MISSED_S, MISSED_MAX = 30.0, 1024
"""Who asked for a channel in vain is taken for a consumer for so long."""
SITES_MAX = 256


@dataclass(frozen=True, slots=True)
class PlacementInputs:
    """What a placement has to know of the hosts.

    Attributes:
        slots: extensions each host is willing to run for others.
        spare: copies each may still send.
        late_ms: how late the source is at the hosts that have it, its publisher first; empty where it is not announced.
        bounds_ms: the consumers' bounds; infinite where nobody knows.
    """

    slots: Mapping[HostId, int]
    spare: Mapping[HostId, int]
    late_ms: Mapping[HostId, float]
    bounds_ms: Mapping[HostId, float]


@dataclass(slots=True)
class _Entry:
    job: Job
    at: str
    lease_until: float
    module: bool
    coming: str = ""
    """The module of a version whose owner has yet to bring it."""
    host: HostId | None = None
    retry_at: float = -np.inf
    state: str = "waiting"
    reason: str = ""
    progress: JobProgress = field(default_factory=JobProgress)
    avoid: dict[HostId, float] = field(default_factory=dict)
    tries: int = 0

    @property
    def over(self) -> bool:
        """No host is wanted any more."""
        return self.state in ("finished", "refused", "failed")

    def may_stay(self, report: JobReport) -> bool:
        """Whether a job that has no host can be left to the one that is at it."""
        at_it = report.state in ("starting", "running") and report.job.owner == self.job.owner
        return self.host is None and not self.over and at_it


class JobTable:
    """All jobs. The directory engine owns one."""

    def __init__(self, delay_table: DelayTable) -> None:
        self._delay_table = delay_table
        self._entries: dict[ChannelName, _Entry] = {}
        self._missed: dict[tuple[ChannelName, HostId], float] = {}
        self._settle_at = -np.inf
        """Until then hosts may be at jobs whose owners have not asked again yet."""
        self._changed: set[HostId] = set()

    def settle(self, until: float) -> None:
        """Hosts may be at jobs that are not known here; until then nobody is told to stop."""
        self._settle_at = until

    def want(self, job: Job, at: str, *, module: bool, now: float) -> None:
        """A job is wanted, or still is.

        Args:
            at: a host, PUBLISHER or AUTO.
            module: whether the module is here.

        Raises:
            DirectoryError: another owner's, or it would be made from itself, or there are too many.
        """
        entry = self._entries.get(job.channel)
        if entry is None:
            if len(self._entries) >= JOBS_MAX:
                raise DirectoryError(f"there are {JOBS_MAX} derived channels already")
            self._check_acyclic(job)
            self._entries[job.channel] = _Entry(job, at, now + JOB_LEASE_S, module)
            return
        if entry.job.owner != job.owner:
            raise DirectoryError(f"channel {job.channel!r} is made by another job; choose another name")
        if not entry.job.same_input(job) or entry.at != at:
            raise DirectoryError(f"channel {job.channel!r} is made from something else; end that job first")
        entry.lease_until, entry.module = now + JOB_LEASE_S, module
        entry.coming = "" if module else job.extension
        if entry.job != job and module:
            entry.job = job
            self._touch(entry)

    def end(self, channel: ChannelName, owner: str) -> None:
        """Its owner wants a job no more."""
        entry = self._entries.get(channel)
        if entry is not None and entry.job.owner == owner:
            del self._entries[channel]
            self._touch(entry)

    def report(self, host: HostId, reports: tuple[JobReport, ...], now: float) -> None:
        """A host tells how its jobs fare."""
        told = {report.job.channel: report for report in reports}
        for channel, report in told.items():
            entry = self._entries.get(channel)
            if entry is not None and now < self._settle_at and entry.may_stay(report):
                entry.host = host
            if entry is None or entry.host != host:
                self._changed.add(host)  # it does not know yet that the job is not its own
            else:
                self._on_report(entry, report, now)
        for channel, entry in self._entries.items():
            if entry.host == host and channel not in told:
                self._changed.add(host)

    def _on_report(self, entry: _Entry, report: JobReport, now: float) -> None:
        entry.state, entry.reason, entry.progress = report.state, report.reason, report.progress
        if report.state == "running":
            entry.tries = 0
        elif report.state == "failed":
            entry.tries += 1
            assert entry.host is not None, "only a host that has it is heard"
            entry.avoid[entry.host] = now + AVOID_S
            if entry.at == AUTO and entry.tries < TRIES_MAX:
                entry.state = "waiting"
            self._take_away(entry)
        elif entry.over:
            self._take_away(entry)

    def note_missed(self, host: HostId, channel: ChannelName, now: float) -> None:
        """A host asked for a channel that nobody announces."""
        self._missed[channel, host] = now
        for key in [key for key, at in self._missed.items() if now - at > MISSED_S]:
            del self._missed[key]
        while len(self._missed) > MISSED_MAX:
            del self._missed[next(iter(self._missed))]

    def missing(self, channel: ChannelName, now: float) -> list[HostId]:
        """Who asked for a channel in vain lately."""
        return [host for (wished, host), at in self._missed.items() if wished == channel and now - at <= MISSED_S]

    def forget(self, host: HostId) -> None:
        """A host is gone; its jobs go to others."""
        self._changed.discard(host)
        for entry in self._entries.values():
            if entry.host == host:
                entry.host, entry.state, entry.reason = None, "waiting", f"host {host} is gone"

    def waiting(self, now: float) -> list[Job]:
        """Jobs that want a host now; jobs that nobody asks for any more are ended first."""
        for channel, entry in list(self._entries.items()):
            if entry.lease_until < now:
                del self._entries[channel]
                self._touch(entry)
        if now < self._settle_at:
            return []
        return [
            entry.job
            for entry in self._entries.values()
            if entry.host is None and entry.module and not entry.over and entry.retry_at <= now
        ]

    def place(self, job: Job, inputs: PlacementInputs, now: float) -> None:
        """Gives a job to the best host, if one will have it."""
        entry = self._entries[job.channel]
        entry.retry_at = now + RETRY_S
        hosts, entry.reason = self._candidates(entry, inputs)
        if not hosts:
            return
        busy = {host: self._instances(host) for host in hosts}
        shared = np.array([any(each.same_instance(job) for each in busy[host]) for host in hosts])
        room = np.array([len(_distinct(busy[host])) < inputs.slots.get(host, 0) for host in hosts])
        sends = np.array([inputs.spare.get(host, 0) > 0 for host in hosts])
        calm = np.array([entry.avoid.get(host, -np.inf) <= now for host in hosts])
        few = np.array([len(busy[host]) < JOBS_PER_HOST_MAX for host in hosts])
        open_sites = (shared | room) & sends & calm & few
        consumers = list(inputs.bounds_ms)[:SITES_MAX]
        sources = list(inputs.late_ms)[:SITES_MAX]
        known = list(dict.fromkeys([*hosts, *consumers, *sources]))
        matrix_ms = self._delay_table.matrix_ms(known)
        index = {host: number for number, host in enumerate(known)}
        rows = [index[host] for host in hosts]
        from_tree_ms = matrix_ms[np.ix_(rows, [index[host] for host in sources])]
        from_tree_ms = from_tree_ms + np.array([inputs.late_ms[host] for host in sources])
        input_ms = np.array(
            [inputs.late_ms.get(host, row.min()) for host, row in zip(hosts, from_tree_ms, strict=True)]
        )
        to_consumers_ms = matrix_ms[np.ix_(rows, [index[host] for host in consumers])]
        copies = np.array([
            (host not in inputs.late_ms) + (not shares) - (host in inputs.bounds_ms)
            for host, shares in zip(hosts, shared, strict=True)
        ])  # fmt: skip
        bounds_ms = np.array([inputs.bounds_ms[host] for host in consumers])
        ranked = rank_sites(input_ms, to_consumers_ms, bounds_ms, copies, open_sites)
        if not len(ranked):
            entry.reason = _none_open(hosts, room, sends)
            return
        entry.host, entry.state, entry.reason = hosts[int(ranked[0])], "starting", ""
        self._touch(entry)

    def of(self, host: HostId) -> tuple[Job, ...]:
        """What a host is to make."""
        return tuple(entry.job for entry in self._entries.values() if entry.host == host)

    def take_changed(self, now: float) -> set[HostId]:
        """Hosts that must be told anew what they make."""
        if now < self._settle_at:
            return set()
        changed, self._changed = self._changed, set()
        return changed

    def settled(self, now: float) -> bool:
        """Whether what is known here is all there is."""
        return now >= self._settle_at

    def status(self, channel: ChannelName) -> JobStatus:
        """How a job stands.

        Raises:
            DirectoryError: there is no such job.
        """
        entry = self._entries.get(channel)
        if entry is None:
            raise DirectoryError(f"nobody makes channel {channel!r}")
        return JobStatus(entry.host, entry.state, entry.reason, entry.progress, not entry.module)

    def modules(self) -> set[str]:
        """The modules that jobs need."""
        return {digest for entry in self._entries.values() for digest in (entry.job.extension, entry.coming)}

    def makes(self, host: HostId, channel: ChannelName) -> bool:
        """Whether a host has the job of making a channel."""
        entry = self._entries.get(channel)
        return entry is not None and entry.host == host

    def needs(self, host: HostId, channel: ChannelName) -> bool:
        """Whether a host needs a channel for a job."""
        return any(entry.host == host and entry.job.source == channel for entry in self._entries.values())

    # ------------------------------------------------------------------ inside

    def _candidates(self, entry: _Entry, inputs: PlacementInputs) -> tuple[list[HostId], str]:
        """Hosts that come into question, and why there are none."""
        if not inputs.late_ms:
            return [], f"channel {entry.job.source!r} is not announced"
        if entry.at == AUTO:
            willing = [host for host, slots in inputs.slots.items() if slots > 0][:SITES_MAX]
            return willing, "" if willing else "no host processes for others; start one with --process N"
        host = next(iter(inputs.late_ms)) if entry.at == PUBLISHER else HostId(entry.at)
        if host not in inputs.slots:
            return [], f"host {host} has not joined"
        if inputs.slots[host] <= 0:
            what = f", which publishes {entry.job.source}," if entry.at == PUBLISHER else ""
            return [], f"host {host}{what} does not process for others; start it with --process N"
        return [host], ""

    def _instances(self, host: HostId) -> list[Job]:
        return [entry.job for entry in self._entries.values() if entry.host == host]

    def _check_acyclic(self, job: Job) -> None:
        above: ChannelName | None = job.source
        for _ in range(len(self._entries) + 1):
            if above == job.channel:
                raise DirectoryError(f"channel {job.channel!r} would be made from itself")
            entry = self._entries.get(above) if above is not None else None
            above = None if entry is None else entry.job.source

    def _take_away(self, entry: _Entry) -> None:
        self._touch(entry)
        entry.host = None

    def _touch(self, entry: _Entry) -> None:
        if entry.host is not None:
            self._changed.add(entry.host)


def _distinct(jobs: list[Job]) -> list[Job]:
    """One job for each instance."""
    found: list[Job] = []
    for job in jobs:
        if not any(job.same_instance(other) for other in found):
            found.append(job)
    return found


def _none_open(hosts: list[HostId], room: Bools, sends: Bools) -> str:
    one = f"host {hosts[0]}" if len(hosts) == 1 else "every host that processes for others"
    if not room.any():
        return f"{one} runs as many extensions as it is willing to; see --process"
    if not sends.any():
        return f"{one} sends as many copies as it is willing to; see --fan-out"
    return f"{one} is full, or failed at it lately"
