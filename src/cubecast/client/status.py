"""The state of a running host, read at intervals."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

from cubecast.client.events import ChannelStatus, HostStatus
from cubecast.host.runtime import HostRuntime

STATUS_S = 0.5
"""Interval, s, at which the state of a host and its channels is reported."""


def host_status(runtime: HostRuntime) -> HostStatus:
    """The state of a host now."""
    view = runtime.view()
    return HostStatus(
        copies=sum(count.relayed for count in runtime.copies().values()),
        ready=runtime.ready(),
        shape=f"{runtime.placement.radix}^{runtime.placement.dimensions}",
        links={link.host: link.one_way_ms for link in view.links if link.up},
        channels={branch.channel: ChannelStatus(branch.upstream, branch.children) for branch in view.branches},
        control_frames=runtime.control_frames,
        malformed_messages=runtime.malformed_messages,
        illegal_moves=runtime.illegal_moves,
    )


@asynccontextmanager
async def while_running(*work: Callable[[], Coroutine[object, object, None]]) -> AsyncIterator[None]:
    """Runs background work, such as `host.report_status`, until the block ends; then an error of the work is raised."""
    tasks = [asyncio.create_task(each()) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
