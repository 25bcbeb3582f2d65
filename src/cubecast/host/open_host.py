"""Runs a host for the duration of an `async with` block."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager

from cubecast.descriptors import raise_descriptor_limit
from cubecast.errors import LocalError
from cubecast.host.config import HostConfig
from cubecast.host.derived.jobs import AssignedJobs
from cubecast.host.directory.client import DirectoryClient
from cubecast.host.runtime import HostRuntime
from cubecast.host.tasks import Tasks
from cubecast.keys import held_key
from cubecast.sandbox.loading import check_module_cache
from cubecast.tokens.identity import Identity
from cubecast.tracing.writer import TraceWriter


@asynccontextmanager
async def open_host(config: HostConfig, notify: Callable[[str], None]) -> AsyncIterator[HostRuntime]:
    """Runs a host, with the jobs that the super-node assigns to it; it leaves the overlay when the block ends.

    Args:
        notify: called with one line whenever there is something that the user should know.

    Raises:
        CubecastError: the host could not start, or its trace cannot be written; errors raised in the block pass through.
    """
    if config.process:
        check_module_cache()
    raise_descriptor_limit(notify)
    trace = None if config.trace is None else TraceWriter(config.trace)
    failure: Exception | None = None
    with identity(config) as own:
        client = DirectoryClient(config.supernode, config.token, notify, own)
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


@contextmanager
def identity(config: HostConfig) -> Iterator[Identity]:
    """The key pair that the host has inside this block.

    Raises:
        LocalError: the key file that was asked for cannot be used.
    """
    if config.key is None:
        yield Identity()
        return
    with ExitStack() as stack:
        key = None
        try:
            key = stack.enter_context(held_key(config.key))
        except LocalError:
            if config.own_key:
                raise
        yield Identity(key)
