"""The jobs of a simulated host: derived channels that the super-node assigns to it.

Same rules as cubecast.host.derived.jobs. A job subscribes to its source; once media arrives it publishes the derived
channel and reports its processing time to the engine; it stops when the super-node takes it away. An extension takes no
simulated time but that processing time.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.engine import HostEngine
from cubecast.engine.protocol.job_records import Job, JobProgress, JobReport
from cubecast.engine.protocol.path import Contract
from cubecast.simulation.shells.subscribers import LocalSubscriber, LocalSubscribers
from cubecast.types import ChannelName

SPREAD_SHARE = 0.25
"""Spread of the processing time, as a share of it: chosen, not measured. Any that is not 0 shows whether it is passed on."""


class JobServices(Protocol):
    """What the jobs of a host need from its shell."""

    def handle(self, event: ev.Event) -> None:
        """Gives the host's engine an event and performs its effects."""

    def flows(self, channel: ChannelName) -> bool:
        """Whether the channel's media reaches the host."""

    def has_module(self, digest: str) -> bool:
        """Whether the super-node answers and has the module with this SHA-256."""

    def announce_refused(self, channel: ChannelName) -> str:
        """Why the super-node refused the channel; empty when it accepted it."""


@dataclass(slots=True)
class ProcessingOffer:
    """A host's offer to process for others.

    Attributes:
        slots: extensions that it runs at a time.
        draw_ms: gives the processing time of a new job, ms.
    """

    slots: int = 0
    draw_ms: Callable[[], float] = lambda: 0.0


@dataclass(slots=True)
class RunningJob:
    """A job at its host; `state` as in JobReport."""

    job: Job
    subscriber: LocalSubscriber
    processing_ms: float
    state: str = "starting"
    reason: str = ""

    @property
    def active(self) -> bool:
        """Whether it has neither ended nor failed."""
        return self.state in ("starting", "running")


class HostJobs:
    """The jobs of one host: `assign` says which, `step` performs them, `reports` is what the super-node is sent."""

    def __init__(
        self, offer: ProcessingOffer, engine: HostEngine, subscribers: LocalSubscribers, services: JobServices
    ) -> None:
        self.slots = offer.slots
        self.running: dict[ChannelName, RunningJob] = {}
        """Every assigned job, by its derived channel; one that failed stays until the super-node takes it away."""
        self.failures: Counter[ChannelName] = Counter()
        """Number of failures of each derived channel's job here."""
        self._draw_ms = offer.draw_ms
        self._engine, self._subscribers, self._services = engine, subscribers, services
        self._wanted: dict[ChannelName, Job] = {}

    def assign(self, jobs: tuple[Job, ...]) -> None:
        """Sets all jobs that the host has from now on; takes effect with the next step."""
        self._wanted = {job.channel: job for job in jobs}

    def reports(self) -> tuple[JobReport, ...]:
        """The state of every job."""
        return tuple(
            JobReport(each.job, each.state, each.reason, JobProgress(processing_ms=each.processing_ms))
            for each in self.running.values()
        )

    def source_of(self, channel: ChannelName) -> ChannelName | None:
        """The source of a derived channel that is published here; None for any other channel."""
        made = self.running.get(channel)
        return made.job.source if made is not None and made.state == "running" else None

    def step(self) -> None:
        """Ends the jobs that were taken away, starts new ones, and continues those that run. Once per tick."""
        for channel, made in list(self.running.items()):
            wanted = self._wanted.get(channel)
            if wanted is None or wanted.owner != made.job.owner:
                self._stop(made)
                del self.running[channel]
        for channel, job in self._wanted.items():
            known = self.running.get(channel)
            if known is None:
                self.running[channel] = self._start(job)
            elif known.job != job and known.active:
                known.job = job  # a new version of the extension: it takes over at once
        for made in list(self.running.values()):
            if made.active:
                self._continue(made)

    def _start(self, job: Job) -> RunningJob:
        contract = Contract(job.bound_ms, job.rate_bps, job.loss)
        made = RunningJob(job, LocalSubscriber(job.source, contract), self._draw_ms())
        others = [each.job for each in self.running.values() if each.active]
        distinct = sum(not any(job.same_instance(before) for before in others[:i]) for i, job in enumerate(others))
        if not any(job.same_instance(other) for other in others):
            if distinct >= self.slots:
                return self._failed(made, f"this host runs {self.slots} extension(s) for others already")
            if not self._services.has_module(job.extension):
                return self._failed(made, "the super-node does not have this module")
        self._subscribers.ask(made.subscriber)
        return made

    def _continue(self, made: RunningJob) -> None:
        outcome = made.subscriber.outcomes[-1] if made.subscriber.outcomes else None
        match outcome:
            case None:
                return
            case fx.Admitted():
                if made.state == "starting" and self._services.flows(made.job.source):
                    self._publish(made)
            case fx.StreamEnded(finished=True):
                self._stop(made)
                made.state = "finished"
            case fx.StreamEnded(reason=reason) | fx.Refused(reason=reason):
                self._failed(made, f"{made.job.source}: {reason}")
            case fx.NotFound(channel):
                self._failed(made, f"channel {channel} is not announced")

    def _publish(self, made: RunningJob) -> None:
        channel = made.job.channel
        if self._engine.placement is None or self._engine.is_ending(channel):
            return  # tried again with the next tick: an earlier channel of this name has not ended here yet
        if self._engine.metrics(channel) is not None:
            self._failed(made, f"this host carries {channel} already; publish under another name")
            return
        self._services.handle(ev.PublishRequested(channel, made.job.tree, made.job.source))
        made.state = "running"
        if refusal := self._services.announce_refused(channel):
            self._failed(made, refusal)
            return
        spread_ms = SPREAD_SHARE * made.processing_ms
        self._services.handle(ev.ProcessingMeasured(channel, made.processing_ms, spread_ms))

    def _failed(self, made: RunningJob, reason: str) -> RunningJob:
        self._stop(made)
        made.state, made.reason = "failed", reason
        self.failures[made.job.channel] += 1
        return made

    def _stop(self, made: RunningJob) -> None:
        if made.state == "running":
            self._services.handle(ev.PublishFinished(made.job.channel))
        self._subscribers.release(made.subscriber)
