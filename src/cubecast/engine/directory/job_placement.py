"""Chooses the host of a job, by the hosts' free capacity and the delays to the derived channel's consumers."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cubecast.engine.directory.config import JobsConfig
from cubecast.engine.directory.delay_table import DelayTable
from cubecast.engine.protocol.job_records import Job
from cubecast.overlay.operators import rank_sites
from cubecast.types import Bools, HostId, Ints

PUBLISHER = "publisher"
"""Place of a job, besides the name of a host: at the publisher of its source."""
AUTO = "auto"
"""Place of a job, besides the name of a host: anywhere, as the directory chooses."""


@dataclass(frozen=True, slots=True)
class PlacementInputs:
    """The state of the hosts that a choice depends on.

    Attributes:
        slots: extensions each host is willing to run for others.
        spare: further copies each may send.
        source_ms: promised delay of the source at the hosts that receive it, its publisher first; empty while the source is
            not announced.
        bounds_ms: the consumers' bounds; infinite where they are not known.
    """

    slots: Mapping[HostId, int]
    spare: Mapping[HostId, int]
    source_ms: Mapping[HostId, float]
    bounds_ms: Mapping[HostId, float]


@dataclass(frozen=True, slots=True)
class _Sites:
    """Possible hosts of a job; arrays of shape (hosts,).

    Attributes:
        shared: whether an instance that runs there can derive the channel too.
        has_slot: whether the host may start one more instance.
        can_send: whether the host may send one more copy.
        is_open: whether the job may go there.
    """

    hosts: list[HostId]
    shared: Bools
    has_slot: Bools
    can_send: Bools
    is_open: Bools


class JobPlacement:
    """Chooses hosts over the reported delays."""

    def __init__(self, delay_table: DelayTable, config: JobsConfig) -> None:
        self._delay_table = delay_table
        self._config = config

    def choose(
        self,
        job: Job,
        at: str,
        inputs: PlacementInputs,
        jobs_of: Mapping[HostId, list[Job]],
        avoided: set[HostId],
    ) -> tuple[HostId | None, str]:
        """The best host for a job; None with the reason, one line, when there is none.

        Args:
            at: a host, PUBLISHER or AUTO.
            jobs_of: the jobs of each host that has any.
            avoided: hosts at which the job failed lately.
        """
        hosts, reason = self._candidates(job, at, inputs)
        if not hosts:
            return None, reason
        sites = self._sites(job, hosts, inputs, jobs_of, avoided)
        ranked = self._ranked(sites, inputs)
        if not len(ranked):
            return None, self._none_open(sites)
        return hosts[int(ranked[0])], ""

    def _candidates(self, job: Job, at: str, inputs: PlacementInputs) -> tuple[list[HostId], str]:
        """The hosts that are willing to run the job, and the reason when there are none."""
        if not inputs.source_ms:
            return [], f"channel {job.source!r} is not announced"
        if at == AUTO:
            willing = [host for host, slots in inputs.slots.items() if slots > 0][: self._config.sites_max]
            return willing, "" if willing else "no host processes for others; start one with --process N"
        host = next(iter(inputs.source_ms)) if at == PUBLISHER else HostId(at)
        if host not in inputs.slots:
            return [], f"host {host} has not joined"
        if inputs.slots[host] <= 0:
            clause = f", which publishes {job.source}," if at == PUBLISHER else ""
            return [], f"host {host}{clause} does not process for others; start it with --process N"
        return [host], ""

    def _sites(
        self,
        job: Job,
        hosts: list[HostId],
        inputs: PlacementInputs,
        jobs_of: Mapping[HostId, list[Job]],
        avoided: set[HostId],
    ) -> _Sites:
        jobs = [jobs_of.get(host, []) for host in hosts]
        shared = np.array([any(each.same_instance(job) for each in running) for running in jobs])
        has_slot = np.array(
            [_instances(running) < inputs.slots.get(host, 0) for host, running in zip(hosts, jobs, strict=True)]
        )
        can_send = np.array([inputs.spare.get(host, 0) > 0 for host in hosts])
        allowed = np.array([host not in avoided for host in hosts])
        below_limit = np.array([len(running) < self._config.jobs_per_host_max for running in jobs])
        is_open = (shared | has_slot) & can_send & allowed & below_limit
        return _Sites(hosts, shared, has_slot, can_send, is_open)

    def _ranked(self, sites: _Sites, inputs: PlacementInputs) -> Ints:
        """The open sites, best first, as indices."""
        hosts = sites.hosts
        consumers = list(inputs.bounds_ms)[: self._config.sites_max]
        sources = list(inputs.source_ms)[: self._config.sites_max]
        known = list(dict.fromkeys([*hosts, *consumers, *sources]))
        matrix_ms = self._delay_table.matrix_ms(known)
        index = {host: number for number, host in enumerate(known)}
        rows = [index[host] for host in hosts]
        from_tree_ms = matrix_ms[np.ix_(rows, [index[host] for host in sources])]
        from_tree_ms = from_tree_ms + np.array([inputs.source_ms[host] for host in sources])
        input_ms = np.array(
            [inputs.source_ms.get(host, row.min()) for host, row in zip(hosts, from_tree_ms, strict=True)]
        )
        to_consumers_ms = matrix_ms[np.ix_(rows, [index[host] for host in consumers])]
        copies = np.array(
            [
                (host not in inputs.source_ms) + (not shared) - (host in inputs.bounds_ms)
                for host, shared in zip(hosts, sites.shared, strict=True)
            ]
        )
        bounds_ms = np.array([inputs.bounds_ms[host] for host in consumers])
        return rank_sites(input_ms, to_consumers_ms, bounds_ms, copies, sites.is_open)

    def _none_open(self, sites: _Sites) -> str:
        """The reason why no site is open."""
        subject = f"host {sites.hosts[0]}" if len(sites.hosts) == 1 else "every host that processes for others"
        if not sites.has_slot.any():
            return f"{subject} runs as many extensions as it is willing to; see --process"
        if not sites.can_send.any():
            return f"{subject} sends as many copies as it is willing to; see --fan-out"
        return f"{subject} has no capacity left, or failed at this job less than {self._config.avoid_s:.0f} s ago"


def _instances(jobs: list[Job]) -> int:
    """How many instances run a host's jobs."""
    distinct: list[Job] = []
    for job in jobs:
        if not any(job.same_instance(other) for other in distinct):
            distinct.append(job)
    return len(distinct)
