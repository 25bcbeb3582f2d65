"""The invariants of jobs, checked once per second of simulated time.

- Every wanted job runs, if a host is willing and able to run it; so a job whose host crashed moves. A host where the job
  has just failed is not able: the directory leaves it out for JobsConfig.avoid_s.
- A job runs at one host at a time.

Each may be broken for a while, until hosts and the super-node have learnt of the change; that time does not begin before
faults that keep them from learning of it have ended.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from cubecast.simulation.overlay import SimulatedOverlay
from cubecast.simulation.owners import JobOwner
from cubecast.simulation.shells.host import SimulatedHost
from cubecast.types import ChannelName, HostId

CHECK_S = 1.0
"""Time between two checks, s."""
LEARN_S = 15.0
"""Time within which hosts learn of a job and report it, s: three refreshes (2 s each), and nine for hosts that failed at
it."""


@dataclass(slots=True)
class JobInvariants:
    """Checks the jobs of one overlay."""

    overlay: SimulatedOverlay
    owners: list[JobOwner]
    leaving: set[HostId]
    """Hosts that are about to leave: they need not run anything."""
    running_shares: list[float] = field(default_factory=list)
    """Share of the wanted jobs that ran, at each check."""
    _idle_since: dict[ChannelName, float] = field(default_factory=dict)
    _twice_since: dict[ChannelName, float] = field(default_factory=dict)
    _assigned: dict[ChannelName, HostId] = field(default_factory=dict)
    """The living host that had a job at the last check."""
    _failures: dict[tuple[ChannelName, HostId], int] = field(default_factory=dict)
    """Failures of a job at a host, as counted at the last check."""
    _failed_at: dict[tuple[ChannelName, HostId], float] = field(default_factory=dict)
    """When the last of them was seen."""

    @property
    def start_s(self) -> float:
        """Longest time until a job runs at another host, s, with the tunables of the run.

        A lease, two retries of the directory, what hosts need to learn of it, and the search for the source and its repair.
        """
        host, directory = self.overlay.config, self.overlay.directory_config
        found_s = host.search.search_ticks * host.tick_s + host.repair_s
        return directory.lease.lease_s + 2 * directory.jobs.retry_after_s + LEARN_S + found_s

    @property
    def twice_s(self) -> float:
        """Longest time until a host learns that its job has moved, s: its lease ends, and it reports its jobs again."""
        return 3 * self.overlay.directory_config.lease.lease_s

    def check(self) -> list[str]:
        """The invariants that are broken now, one line each."""
        wanted = [owner for owner in self.owners if owner.since <= self.overlay.now]
        ran = [bool(self._hosts_running(owner.job.channel)) for owner in wanted]
        if ran:
            self.running_shares.append(sum(ran) / len(ran))
        return [line for owner in wanted for line in (*self._idle(owner), *self._twice(owner))]

    def _idle(self, owner: JobOwner) -> Iterator[str]:
        channel, now = owner.job.channel, self.overlay.now
        self._note_failures(channel)
        hampered, able = self._hampered(channel), self._able(channel)
        if hampered or not able or self._hosts_running(channel):
            self._idle_since[channel] = now
        idle_s = now - self._idle_since.setdefault(channel, now)
        if idle_s > self.start_s:
            why = f"; it failed: {owner.failures[-1]}" if owner.failures else ""
            yield f"job {channel}: runs nowhere for {idle_s:.0f} s, hosts are willing{why}"
            self._idle_since[channel] = now

    def _twice(self, owner: JobOwner) -> Iterator[str]:
        channel, now = owner.job.channel, self.overlay.now
        hosts = self._hosts_running(channel)
        if len(hosts) < 2 or self._faulty():
            self._twice_since[channel] = now
        twice_s = now - self._twice_since.setdefault(channel, now)
        if twice_s > self.twice_s:
            yield f"job {channel}: runs at {' and '.join(hosts)} for {twice_s:.0f} s"
            self._twice_since[channel] = now

    def _hosts_running(self, channel: ChannelName) -> list[HostId]:
        return [
            host
            for host, here in self.overlay.hosts.items()
            if here.alive and here.jobs.source_of(channel) is not None and host not in self.overlay.island
        ]

    def _faulty(self) -> bool:
        """Whether a fault prevents hosts and the super-node from learning of each other."""
        return self.overlay.supernode.stopped or bool(self.overlay.island)

    def _hampered(self, channel: ChannelName) -> bool:
        """Whether there is such a fault, or the host that had the job died since the last check."""
        before = self._assigned.pop(channel, None)
        for host, here in self.overlay.hosts.items():
            if here.alive and host not in self.leaving and self.overlay.directory.jobs.derives(host, channel):
                self._assigned[channel] = host
        died = before is not None and (not self.overlay.hosts[before].alive or before in self.leaving)
        return died or self._faulty()

    def _able(self, channel: ChannelName) -> bool:
        """Whether a living host could run the job."""
        return any(self._host_able(here, channel) for here in self.overlay.hosts.values())

    def _note_failures(self, channel: ChannelName) -> None:
        for host, here in self.overlay.hosts.items():
            count = here.jobs.failures[channel]
            if count > self._failures.get((channel, host), 0):
                self._failures[channel, host], self._failed_at[channel, host] = count, self.overlay.now

    @property
    def _avoided_s(self) -> float:
        return self.overlay.directory_config.jobs.avoid_s + CHECK_S

    def _host_able(self, here: SimulatedHost, channel: ChannelName) -> bool:
        if not here.alive or here.stalled or here.host in self.leaving:
            return False
        if self.overlay.directory.jobs.derives(here.host, channel):
            return True
        failed_at = self._failed_at.get((channel, here.host))
        if failed_at is not None and self.overlay.now - failed_at <= self._avoided_s:
            return False
        copies = sum(len(branch.below.children) for branch in here.engine.branches())
        free = len(self.overlay.directory.jobs.of(here.host)) < here.jobs.slots
        return free and copies < here.fan_out
