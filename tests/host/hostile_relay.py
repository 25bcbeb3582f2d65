"""A relay between two origins that alters what it passes on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import NamedTuple

import moq

from cubecast.host.channel.records import Record, decode_record
from cubecast.host.channel.tracks import BROADCAST, FORMAT, TIMING


class Passed(NamedTuple):
    """A frame that the relay passes on: its track and group, its place in the group, and its payload."""

    track: str
    group: int
    place: int
    payload: bytes

    @property
    def record(self) -> Record | None:
        """The record that it is; None on other tracks."""
        return decode_record(self.payload) if self.track == TIMING else None


Tamper = Callable[[Passed], Iterable[bytes]]
"""What is sent in place of a frame."""


def honest(passed: Passed) -> Iterable[bytes]:
    """Passes a frame on as it is."""
    return (passed.payload,)


@asynccontextmanager
async def relay(
    source: moq.OriginProducer, to: moq.OriginProducer, tracks: int, tamper: Tamper, *, batches_end: bool = True
) -> AsyncIterator[None]:
    """Copies a channel from one origin to another while the block lasts; groups keep their numbers.

    Args:
        batches_end: whether the groups of the timing track end.
    """
    upstream = await source.consume().announced_broadcast(BROADCAST)
    downstream = to.create_broadcast(BROADCAST)
    names = (*map(str, range(tracks)), TIMING, FORMAT)
    producers = {name: downstream.publish_track(name) for name in names}

    async def copy_group(name: str, group: moq.GroupConsumer, copy: moq.GroupProducer) -> None:
        place = 0
        async for raw in group:
            for payload in tamper(Passed(name, group.sequence, place, raw.payload)):
                copy.write_frame(payload)
            place += 1
        if batches_end or name != TIMING:
            copy.finish()

    async def copy_track(name: str) -> None:
        consumer = await upstream.subscribe_track(name, moq.Subscription(max_age_us=60_000_000))
        async with asyncio.TaskGroup() as group_tasks:
            async for group in consumer.groups_as_arrived():
                copy = producers[name].create_group(group.sequence)
                group_tasks.create_task(copy_group(name, group, copy))

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(copy_track(name)) for name in names]
        downstream.announce()
        try:
            yield
        finally:
            for task in running:
                task.cancel()
            downstream.close()
