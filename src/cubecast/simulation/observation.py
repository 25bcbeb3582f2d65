"""What is measured and checked during a run: the digest of its events, who is served, and the invariants."""

import hashlib
from collections.abc import Callable
from operator import attrgetter

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.simulation.invariants import Parents, broken_at, broken_labels, lacks_decision, lost_without_notice
from cubecast.simulation.job_invariants import CHECK_S, JobInvariants
from cubecast.simulation.shells.host import SimulatedHost
from cubecast.simulation.simulated_run import SimulatedRun
from cubecast.types import HostId

SAMPLE_S = 5.0
"""Time between two samples of who is served, s: short against a run of minutes, and long against the cost of a sample, which
visits every subscriber's path."""
NOTICED_TICKS = 60
"""Ticks, besides those of a repair, within which a subscriber whose stream was cut receives it again or is notified that it
ended: a margin, of which noticing the loss may take 20 (TreeConfig.stale_ticks)."""
SETTLED_S = 15.0
"""Age from which a subscription counts in the success ratio, s: a first search, and asking again once it was refused
(AGAIN_S), are not counted as failures."""

_HOST_OF: dict[type, Callable[[fx.Effect], object]] = {
    **dict.fromkeys((fx.Send, fx.HangUp, fx.Rouse, fx.Evict, fx.StopPull, fx.Suspect), attrgetter("host")),
    **dict.fromkeys((fx.Dial, fx.Pull, fx.Push, fx.Prepare), attrgetter("record.host")),
    fx.ParentChanged: attrgetter("after"),
}
"""Gives the host that an effect concerns, by the type of the effect, for those that concern one."""


class Observation:
    """Observes one run."""

    def __init__(self, run: SimulatedRun, job_invariants: JobInvariants) -> None:
        """Begins to trace every event and to check the invariants after it."""
        self.served_shares: list[float] = []
        """Share of the subscribers that were served, at each sample."""
        self.job_invariants = job_invariants
        self._run = run
        self._digest = hashlib.blake2b(digest_size=16)
        self._parents: Parents = {}
        self._dead_since: dict[HostId, float] = {}
        """Subscribers that were admitted and receive nothing, and since when."""
        overlay = run.overlay
        overlay.trace, overlay.check, overlay.supernode.on_placed = self._trace, self._check, self._check_labels
        if job_invariants.owners:
            overlay.queue.after(CHECK_S, self._check_jobs)

    @property
    def patience_s(self) -> float:
        """Longest time for which a stream may be dead without notice, s; the tunables of the run count."""
        config = self._run.overlay.config
        return config.repair_s + NOTICED_TICKS * config.tick_s

    def start_sampling(self) -> None:
        """Samples who is served, from now on."""
        self._run.overlay.queue.after(SAMPLE_S, self._sample)

    @property
    def digest(self) -> str:
        """Digest of the trace, hex: every event of every host, and which hosts its effects concern."""
        return self._digest.hexdigest()

    def _trace(self, here: SimulatedHost, event: ev.Event, effects: list[fx.Effect]) -> None:
        names = " ".join([f"{type(effect).__name__} {_host_of(effect)}" for effect in effects])
        self._digest.update(f"{self._run.overlay.now:.6f} {here.host} {type(event).__name__} {names}\n".encode())

    def _check(self, here: SimulatedHost) -> None:
        for line in broken_at(self._run.overlay, here, self._parents):
            self._run.record_broken(line)

    def _check_labels(self) -> None:
        for line in broken_labels(self._run.overlay.directory):
            self._run.record_broken(line)

    def _check_jobs(self) -> None:
        for line in self.job_invariants.check():
            self._run.record_broken(line)
        self._run.overlay.queue.after(CHECK_S, self._check_jobs)

    def _sample(self) -> None:
        overlay, subscriptions = self._run.overlay, self._run.subscriptions
        due = [h for h in self._run.living_subscribers() if overlay.now - subscriptions[h].since >= SETTLED_S]
        served = 0
        for host in due:
            subscriber = subscriptions[host].subscriber
            metrics = overlay.hosts[host].engine.metrics(subscriber.channel)
            kept = metrics is not None and metrics.least_bound_ms <= subscriber.contract.bound_ms
            served += kept and overlay.flows(host, subscriber.channel)
        if due:
            self.served_shares.append(served / len(due))
        self.check_subscribers()
        overlay.queue.after(SAMPLE_S, self._sample)

    def check_subscribers(self) -> None:
        """Checks that every subscriber has its decision, or a search under way, and learns when its stream died."""
        overlay, patience_s = self._run.overlay, self.patience_s
        for host, subscription in self._run.subscriptions.items():
            here = overlay.hosts[host]
            if not here.alive or host in self._run.leaving:
                continue
            if lacks_decision(here, subscription.subscriber):
                self._run.record_broken(f"{host}: its subscriber has no decision, and no search is under way")
            if not lost_without_notice(overlay, here, subscription.subscriber):
                self._dead_since.pop(host, None)
                continue
            dead_s = overlay.now - self._dead_since.setdefault(host, overlay.now)
            if dead_s > patience_s:
                self._run.record_broken(f"{host}: its stream has been dead for {dead_s:.0f} s without notice")
                del self._dead_since[host]  # reported once per patience_s


def _host_of(effect: fx.Effect) -> object:
    find = _HOST_OF.get(type(effect))
    return find(effect) if find is not None else ""
