"""A channel of numbers, for tests that look for frames that are missing."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import cubecast
from cubecast.client.host import Host

PAUSE_S = 0.02
"""Time between two numbers, s."""


@contextlib.asynccontextmanager
async def numbers(host: Host) -> AsyncIterator[None]:
    """The channel `numbers` of a host while the block lasts: 0, 1, 2 and so on, as JSON."""

    async def write() -> None:
        for number in range(100_000):
            publication.write(json.dumps(number).encode())
            await asyncio.sleep(PAUSE_S)

    async with host.publish("numbers", [cubecast.data_track("json")]) as publication:
        writing = asyncio.create_task(write())
        try:
            yield
        finally:
            writing.cancel()
