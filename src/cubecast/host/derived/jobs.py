"""Jobs: derived channels that the super-node assigns to this host. Fetches, runs, upgrades and ends their extensions."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from cubecast.engine.protocol.job_records import Job, JobProgress, JobReport
from cubecast.engine.protocol.path import Contract
from cubecast.errors import CubecastError, DirectoryError, ExtensionRefused
from cubecast.host.derived.channel import DerivedChannel
from cubecast.host.runtime import HostRuntime
from cubecast.host.tasks import Tasks
from cubecast.sandbox.loading import Extension, aside, sandboxed
from cubecast.texts import one_line
from cubecast.types import ChannelName

STOP_S = 12.0
"""Maximum time to send the last frames of a derived channel, when the host ends or its name is used again, s."""


@dataclass(eq=False, slots=True)
class _Instance:
    """One running extension, which serves one or more jobs."""

    jobs: dict[ChannelName, Job]
    processing: DerivedChannel | None = None
    """None until its module is loaded."""
    loaded: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when `processing` is known, or it has ended."""
    announced: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when its first channel is published, or it has ended."""
    task: asyncio.Task[None] | None = None
    upgrade: asyncio.Task[None] | None = None
    """Loads another version of the module."""

    def cancel(self) -> None:
        """Ends its tasks, and a compiler that runs for it."""
        for task in (self.task, self.upgrade):
            if task is not None:
                task.cancel()


@dataclass(slots=True)
class _JobState:
    """Progress of a job; `state` and `reason` as in JobReport."""

    job: Job
    state: str = "starting"
    reason: str = ""
    progress: JobProgress = field(default_factory=JobProgress)


class AssignedJobs:
    """The jobs of a host: `want` sets them, `reports` describes their progress."""

    def __init__(self, slots: int, tasks: Tasks, fetch: Callable[[str], Awaitable[bytes]]) -> None:
        """Starts with no job.

        Args:
            slots: maximum number of extensions that this host runs for others at a time.
            fetch: fetches the module with this SHA-256, hex.
        """
        self.slots = slots
        self.changed: Callable[[], None] = lambda: None
        """Called when there is something new to report."""
        self._tasks = tasks
        self._fetch = fetch
        self._wanted: dict[ChannelName, Job] = {}
        self._states: dict[ChannelName, _JobState] = {}
        self._instances: list[_Instance] = []
        self._ending: dict[ChannelName, asyncio.Task[None]] = {}
        """Tasks that send the last frames of a channel; until they end its name is in use."""
        self._jobs_changed = asyncio.Event()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """By owner: its modules are compiled one after the other. In all, `slots` are compiled at a time, each in a process
        of its own, so no owner waits for another's."""

    def want(self, jobs: tuple[Job, ...]) -> None:
        """Replaces the jobs of this host; those that are missing end."""
        self._wanted = {job.channel: job for job in jobs}
        self._jobs_changed.set()

    def reports(self) -> tuple[JobReport, ...]:
        """Progress of all jobs."""
        for instance in self._instances:
            self._record_progress(instance)
        return tuple(JobReport(each.job, each.state, each.reason, each.progress) for each in self._states.values())

    async def run(self, host: HostRuntime) -> None:
        """Starts, upgrades and ends jobs as `want` says, until cancelled."""
        while True:
            await self._jobs_changed.wait()
            self._jobs_changed.clear()
            await self._reconcile(host)

    async def stop(self) -> None:
        """Ends all jobs. Those whose source has ended may send their last frames, for up to STOP_S."""
        self._wanted = {}
        tasks = []
        for instance in self._instances:
            if instance.task is not None:
                tasks.append(instance.task)
                if instance.processing is None or not instance.processing.ending:
                    instance.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_S)

    async def _reconcile(self, host: HostRuntime) -> None:
        for channel, state in list(self._states.items()):
            wanted = self._wanted.get(channel)
            if wanted is None or wanted.owner != state.job.owner:
                self._end_job(host, channel)
        for channel, job in list(self._wanted.items()):
            current = self._states.get(channel)
            try:
                if current is None:
                    self._states[channel] = _JobState(job)
                    self._begin(host, job)
                elif current.job != job and current.state in ("starting", "running"):
                    self._begin_upgrade(current, job)
            except Exception as error:  # noqa: BLE001  an error in one job must not end the host or other jobs
                self._failed(channel, error)
            self.changed()

    def _end_job(self, host: HostRuntime, channel: ChannelName) -> None:
        del self._states[channel]
        for instance in self._instances:
            if instance.jobs.pop(channel, None) is None or instance.task is None:
                continue
            if not instance.jobs:
                self._ending[channel] = instance.task
                instance.cancel()
            elif instance.processing is not None:
                self._ending[channel] = self._tasks.create_task(instance.processing.remove(host, channel))
            else:
                continue
            self._ending[channel].add_done_callback(lambda task: self._ended(channel, task))

    def _ended(self, channel: ChannelName, task: asyncio.Task[None]) -> None:
        if self._ending.get(channel) is task:
            del self._ending[channel]

    def _begin(self, host: HostRuntime, job: Job) -> None:
        """Starts an instance for a job, unless one that runs can serve it too."""
        for instance in self._instances:
            if any(other.same_instance(job) for other in instance.jobs.values()):
                instance.jobs[job.channel] = job
                self._tasks.create_task(self._share(host, instance, job))
                return
        if sum(each.task not in self._ending.values() for each in self._instances) >= self.slots:
            raise DirectoryError(f"this host already runs {self.slots} extension(s) for others, its maximum")
        instance = _Instance({job.channel: job})
        self._instances.append(instance)
        instance.task = self._tasks.create_task(self._work(host, instance, job))

    async def _work(self, host: HostRuntime, instance: _Instance, job: Job) -> None:
        def announced(*_: object) -> None:
            instance.announced.set()
            self._set_state(list(instance.jobs), "running")

        try:
            extension = await self._extension(job)
            job = next(
                iter(instance.jobs.values())
            )  # the first one may have ended meanwhile, and others share the instance
            instance.processing = processing = DerivedChannel(
                job.source, job.channel, extension, job.config, Contract(job.bound_ms, job.rate_bps, job.loss), job.tree
            )
            instance.loaded.set()
            await self._wait_until_free(list(instance.jobs))
            await processing.run(host, announced)
        except Exception as error:  # noqa: BLE001  an error in one job must not end the host or other jobs
            for channel in list(instance.jobs):
                self._failed(channel, error)
        else:
            self._set_state(list(instance.jobs), "finished")
        finally:
            self._record_progress(instance)
            self._instances.remove(instance)
            if instance.upgrade is not None:
                instance.upgrade.cancel()
            instance.loaded.set()
            instance.announced.set()
            self.changed()

    async def _wait_until_free(self, channels: list[ChannelName]) -> None:
        """Waits until no task here still sends the last frames of a channel of the same name, for at most STOP_S."""
        ending = [self._ending[channel] for channel in channels if channel in self._ending]
        if ending:
            await asyncio.wait(ending, timeout=STOP_S)

    def _record_progress(self, instance: _Instance) -> None:
        if instance.processing is None:
            return
        for channel in instance.jobs.keys() & self._states.keys():
            self._states[channel].progress = instance.processing.progress()

    async def _share(self, host: HostRuntime, instance: _Instance, job: Job) -> None:
        """Publishes the result of a running instance for one more job."""
        await instance.announced.wait()
        await self._wait_until_free([job.channel])
        processing = instance.processing
        if processing is None or instance not in self._instances or self._wanted.get(job.channel) != job:
            return
        if job.channel == processing.channel:
            return  # it is published already, because the job that it shared with ended while the module was loaded
        try:
            await processing.add(host, job.channel, job.tree)
            if self._wanted.get(job.channel) == job:
                self._set_state([job.channel], "running")
            else:  # it was ended while the channel was being announced
                await processing.remove(host, job.channel)
        except CubecastError as error:
            instance.jobs.pop(job.channel, None)
            self._failed(job.channel, error)
        self.changed()

    def _begin_upgrade(self, state: _JobState, job: Job) -> None:
        """Begins to replace a job's extension by a new version; an older upgrade that still loads is given up."""
        instance = next((each for each in self._instances if job.channel in each.jobs), None)
        if instance is None:
            return
        state.job = job
        if instance.upgrade is not None:
            instance.upgrade.cancel()
        instance.upgrade = self._tasks.create_task(self._upgrade(instance, state, job))

    async def _upgrade(self, instance: _Instance, state: _JobState, job: Job) -> None:
        """Replaces a job's extension; if the new version is refused the old one continues and the report says why."""
        await instance.loaded.wait()
        if instance.processing is None or job.channel not in instance.jobs:
            return
        try:
            if others := sorted(instance.jobs.keys() - {job.channel}):
                raise ExtensionRefused(
                    f"{job.channel} shares its extension with {', '.join(others)}; use another channel name for the new version"
                )
            await instance.processing.upgrade(await self._extension(job))
        except CubecastError as error:
            state.reason = one_line(f"{error}; the previous version continues")
        except Exception as error:  # noqa: BLE001  an error in one job must not end the host or other jobs
            self._failed(job.channel, error)
        else:
            state.reason = ""
            instance.jobs[job.channel] = job
        self.changed()

    async def _extension(self, job: Job) -> Extension:
        """Fetches and loads a job's module; if this is cancelled the compiler is killed."""
        module = await self._fetch(job.extension)
        turn = self._turns.setdefault(job.owner, asyncio.Lock())
        async with turn:
            return await aside(lambda compilation: sandboxed(job.extension[:12], module, compilation=compilation))

    def _set_state(self, channels: list[ChannelName], state: str) -> None:
        for channel in channels:
            if channel in self._states:
                self._states[channel].state = state
        self.changed()

    def _failed(self, channel: ChannelName, error: Exception) -> None:
        state = self._states.get(channel)
        if state is not None:
            state.state = "refused" if isinstance(error, ExtensionRefused) else "failed"
            known = isinstance(error, CubecastError)
            state.reason = one_line(str(error) if known else f"internal error: {type(error).__name__}: {error}")
        with suppress(StopIteration):
            next(each for each in self._instances if channel in each.jobs).jobs.pop(channel)
