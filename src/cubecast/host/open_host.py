"""Runs a host for the duration of an `async with` block."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from cubecast.descriptors import raise_descriptor_limit
from cubecast.host.config import HostConfig
from cubecast.host.derived.jobs import AssignedJobs
from cubecast.host.directory.client import DirectoryClient
from cubecast.host.runtime import HostRuntime
from cubecast.host.tasks import Tasks
from cubecast.tracing.writer import TraceWriter


@asynccontextmanager
async def open_host(config: HostConfig, notify: Callable[[str], None]) -> AsyncIterator[HostRuntime]:
    """Runs a host, with the jobs that the super-node assigns to it; it leaves the overlay when the block ends.

    Args:
        notify: called with one line whenever there is something that the user should know.

    Raises:
        CubecastError: the host could not start, or its trace cannot be written; errors raised in the block pass through.
    """
    raise_descriptor_limit(notify)
    trace = None if config.trace is None else TraceWriter(config.trace)
    client = DirectoryClient(config.supernode, config.token, notify)
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        tasks = Tasks(group)
        jobs = AssignedJobs(config.process, tasks, client.fetch_module)
        runtime = HostRuntime(config, client, tasks, notify, jobs, trace)
        try:
            await runtime.start()
            tasks.create_task(jobs.run(runtime))
            yield runtime
        except Exception as error:  # noqa: BLE001  raised again below
            failure = error  # raised below, outside the group, which would wrap it
        finally:
            await jobs.stop()
            await runtime.stop()
            await client.close()
            if trace is not None:
                trace.close()
    if failure is not None:
        raise failure
