"""Channels that this host makes for others, as the super-node says: extensions are fetched, run, upgraded and ended here."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from cubecast.engine.protocol.job_records import Job, JobProgress, JobReport
from cubecast.engine.protocol.path import Contract
from cubecast.errors import CubecastError, DirectoryError, ExtensionRefused
from cubecast.host.derived.channel import DerivedChannel
from cubecast.host.runtime import HostRuntime
from cubecast.host.tasks import Tasks
from cubecast.sandbox.loading import Extension, sandboxed
from cubecast.types import ChannelName

STOP_S = 12.0
"""At the end of the host those that make channels may take so long to hand their last frames on."""


@dataclass(eq=False, slots=True)
class _Instance:
    """One extension at work, for one or several jobs."""

    processing: DerivedChannel
    jobs: dict[ChannelName, Job] = field(default_factory=dict)
    announced: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class _Standing:
    """How a job fares."""

    job: Job
    state: str = "starting"
    reason: str = ""
    progress: JobProgress = field(default_factory=JobProgress)


class AssignedJobs:
    """What a host makes for others: `want` says what, `reports` tells how it fares."""

    def __init__(self, slots: int, tasks: Tasks, fetch: Callable[[str], Awaitable[bytes]]) -> None:
        """Nothing yet.

        Args:
            slots: extensions at a time that this host is willing to run.
            fetch: the module with a SHA-256.
        """
        self.slots = slots
        self.changed: Callable[[], None] = lambda: None
        """Told when there is something new to report."""
        self._tasks = tasks
        self._fetch = fetch
        self._wanted: dict[ChannelName, Job] = {}
        self._standing: dict[ChannelName, _Standing] = {}
        self._instances: list[_Instance] = []
        self._ending: dict[ChannelName, asyncio.Task[None]] = {}
        """Those that hand their last frames on: until then the channel's name is taken."""
        self._news = asyncio.Event()

    def want(self, jobs: tuple[Job, ...]) -> None:
        """Everything that this host is to make from now on."""
        self._wanted = {job.channel: job for job in jobs}
        self._news.set()

    def reports(self) -> tuple[JobReport, ...]:
        """How the jobs fare."""
        for instance in self._instances:
            self._note(instance)
        return tuple(JobReport(each.job, each.state, each.reason, each.progress) for each in self._standing.values())

    async def run(self, host: HostRuntime) -> None:
        """Does what is wanted, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self._reconcile(host)

    async def stop(self) -> None:
        """Ends everything; what is at its end already comes to it."""
        self._wanted = {}
        tasks = []
        for instance in self._instances:
            if instance.task is not None:
                tasks.append(instance.task)
                if not instance.processing.ending:
                    instance.task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_S)

    # ------------------------------------------------------------------ inside

    async def _reconcile(self, host: HostRuntime) -> None:
        for channel, standing in list(self._standing.items()):
            wanted = self._wanted.get(channel)
            if wanted is None or wanted.owner != standing.job.owner:
                self._end(host, channel)
        for channel, job in list(self._wanted.items()):
            known = self._standing.get(channel)
            try:
                if known is None:
                    self._standing[channel] = _Standing(job)
                    await self._begin(host, job)
                elif known.job != job and known.state in ("starting", "running"):
                    await self._upgrade(known, job)
            except Exception as error:  # noqa: BLE001  whatever is wrong with one job, the host and the others go on
                self._failed(channel, error)
            self.changed()

    def _end(self, host: HostRuntime, channel: ChannelName) -> None:
        del self._standing[channel]
        for instance in self._instances:
            if instance.jobs.pop(channel, None) is None or instance.task is None:
                continue
            if instance.jobs:
                self._ending[channel] = self._tasks.create_task(instance.processing.remove(host, channel))
            else:
                self._ending[channel] = instance.task
                instance.task.cancel()
            self._ending[channel].add_done_callback(lambda task: self._ended(channel, task))

    def _ended(self, channel: ChannelName, task: asyncio.Task[None]) -> None:
        if self._ending.get(channel) is task:
            del self._ending[channel]

    async def _begin(self, host: HostRuntime, job: Job) -> None:
        """Starts an instance for a job, or lets one that runs serve it too."""
        for instance in self._instances:
            if any(other.same_instance(job) for other in instance.jobs.values()):
                instance.jobs[job.channel] = job
                self._tasks.create_task(self._join(host, instance, job))
                return
        if sum(each.task not in self._ending.values() for each in self._instances) >= self.slots:
            raise DirectoryError(f"this host runs {self.slots} extension(s) for others already")
        extension = await self._extension(job)
        processing = DerivedChannel(
            job.source, job.channel, extension, job.config, Contract(job.bound_ms, job.rate_bps, job.loss), job.tree
        )
        instance = _Instance(processing, {job.channel: job})
        self._instances.append(instance)
        instance.task = self._tasks.create_task(self._work(host, instance))

    async def _work(self, host: HostRuntime, instance: _Instance) -> None:
        def announced(*_: object) -> None:
            instance.announced.set()
            self._stand(list(instance.jobs), "running")

        try:
            await self._free(list(instance.jobs))
            await instance.processing.run(host, announced)
        except Exception as error:  # noqa: BLE001  whatever is wrong with one job, the host and the others go on
            for channel in list(instance.jobs):
                self._failed(channel, error)
        else:
            self._stand(list(instance.jobs), "finished")
        finally:
            self._note(instance)
            self._instances.remove(instance)
            instance.announced.set()
            self.changed()

    async def _free(self, channels: list[ChannelName]) -> None:
        """Waits until nobody here hands on the last frames of a channel of the same name."""
        older = [self._ending[channel] for channel in channels if channel in self._ending]
        if older:
            await asyncio.wait(older, timeout=STOP_S)

    def _note(self, instance: _Instance) -> None:
        for channel in instance.jobs.keys() & self._standing.keys():
            self._standing[channel].progress = instance.processing.progress()

    async def _join(self, host: HostRuntime, instance: _Instance, job: Job) -> None:
        await instance.announced.wait()
        await self._free([job.channel])
        if instance not in self._instances or self._wanted.get(job.channel) != job:
            return
        try:
            await instance.processing.add(host, job.channel, job.tree)
            self._stand([job.channel], "running")
        except CubecastError as error:
            instance.jobs.pop(job.channel, None)
            self._failed(job.channel, error)
        self.changed()

    async def _upgrade(self, known: _Standing, job: Job) -> None:
        """The owner has a new version. One that is refused changes nothing; the owner is told."""
        instance = next((each for each in self._instances if job.channel in each.jobs), None)
        if instance is None:
            return
        known.job = job
        try:
            if others := sorted(instance.jobs.keys() - {job.channel}):
                raise ExtensionRefused(
                    f"{job.channel} shares its extension with {', '.join(others)}; make the new version's channel under "
                    "another name"
                )
            await instance.processing.upgrade(await self._extension(job))
        except CubecastError as error:
            known.reason = f"{error}; the version before works on"
        else:
            known.reason = ""
            instance.jobs[job.channel] = job

    async def _extension(self, job: Job) -> Extension:
        module = await self._fetch(job.extension)
        return await asyncio.to_thread(sandboxed, job.extension[:12], module)

    def _stand(self, channels: list[ChannelName], state: str) -> None:
        for channel in channels:
            if channel in self._standing:
                self._standing[channel].state = state
        self.changed()

    def _failed(self, channel: ChannelName, error: Exception) -> None:
        standing = self._standing.get(channel)
        if standing is not None:
            standing.state = "refused" if isinstance(error, ExtensionRefused) else "failed"
            known = isinstance(error, CubecastError)
            standing.reason = str(error) if known else f"internal error: {type(error).__name__}: {error}"
        with suppress(StopIteration):
            next(each for each in self._instances if channel in each.jobs).jobs.pop(channel)
