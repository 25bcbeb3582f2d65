"""A host for as long as a block lasts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from cubecast.errors import CubecastError
from cubecast.host.config import HostConfig
from cubecast.host.derived.jobs import AssignedJobs
from cubecast.host.directory.client import DirectoryClient
from cubecast.host.runtime import HostRuntime
from cubecast.host.tasks import Tasks


@asynccontextmanager
async def open_host(config: HostConfig, notify: Callable[[str], None]) -> AsyncIterator[HostRuntime]:
    """Runs a host inside this block, with what it makes for others; it leaves the overlay at the end.

    Args:
        notify: told one line whenever the user should know something.

    Raises:
        CubecastError: the host could not start, or what the block raised.
    """
    client = DirectoryClient(config.supernode, config.token, notify)
    failure: CubecastError | None = None
    async with asyncio.TaskGroup() as group:
        tasks = Tasks(group)
        jobs = AssignedJobs(config.process, tasks, client.fetch_module)
        runtime = HostRuntime(config, client, tasks, notify, jobs)
        try:
            await runtime.start()
            tasks.create_task(jobs.run(runtime))
            yield runtime
        except CubecastError as error:
            failure = error  # raised below, outside the group, which would wrap it
        finally:
            await jobs.stop()
            await runtime.stop()
            await client.close()
    if failure is not None:
        raise failure
