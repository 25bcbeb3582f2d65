"""The queue between a host and the reader of its events."""

import asyncio

from cubecast.client.event_stream import EVENTS_MAX, EventStream
from cubecast.client.events import Event, EventsDropped, Notice


async def read_all(stream: EventStream) -> list[Event]:
    return [event async for event in stream.events()]


async def test_events_come_in_order_also_to_a_reader_that_waits() -> None:
    stream = EventStream()
    reading = asyncio.create_task(read_all(stream))
    await asyncio.sleep(0)
    stream.put(Notice("a"))
    await asyncio.sleep(0)
    stream.put(Notice("b"))
    stream.close()
    assert await reading == [Notice("a"), Notice("b")]


async def test_the_oldest_are_dropped_and_counted() -> None:
    stream = EventStream()
    for number in range(EVENTS_MAX + 3):
        stream.put(Notice(str(number)))
    stream.close()
    events = await read_all(stream)
    assert events[0] == EventsDropped(3)
    assert events[1:] == [Notice(str(number)) for number in range(3, EVENTS_MAX + 3)]
