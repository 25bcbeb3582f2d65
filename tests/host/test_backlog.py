"""The backlog of an extension is bounded, and the remaining frames of a track can always be decoded."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from cubecast.frames import EncodedFrame
from cubecast.host.channel.reader import ReceivedFrame
from cubecast.host.derived.backlog import Backlog

VIDEO, AUDIO = 0, 1


def received(number: int, track: int, *, keyframe: bool) -> ReceivedFrame:
    frame = EncodedFrame(track, number * 1000, number * 1000, 1000, keyframe, bytes([number % 256]))
    return ReceivedFrame(frame, 0.0, number, 0.0)


@given(st.lists(st.tuples(st.sampled_from((VIDEO, AUDIO)), st.booleans()), max_size=200), st.integers(1, 30))
def test_it_never_holds_more_than_its_capacity_and_counts_every_frame(
    puts: list[tuple[int, bool]], capacity: int
) -> None:
    async def run() -> None:
        backlog = Backlog(capacity)
        for number, (track, keyframe) in enumerate(puts):
            backlog.put(received(number, track, keyframe=keyframe or track == AUDIO))
        backlog.end()
        left, over = await backlog.take()
        assert over
        assert len(left) <= capacity
        assert len(left) + backlog.dropped == len(puts)
        numbers = [item.frame.pts_us for item in left]
        assert numbers == sorted(numbers)

    asyncio.run(run())


@given(st.integers(1, 12), st.integers(2, 40), st.integers(1, 120))
def test_what_is_left_refers_to_nothing_that_is_gone(group: int, capacity: int, count: int) -> None:
    async def run() -> None:
        backlog = Backlog(capacity)
        for number in range(count):
            backlog.put(received(number, VIDEO, keyframe=number % group == 0))
        backlog.end()
        left = [item.frame.pts_us // 1000 for item in (await backlog.take())[0]]
        for number in left:
            assert all(before in left for before in range(number - number % group, number))

    asyncio.run(run())


def test_a_wake_up_brings_no_frames() -> None:
    async def run() -> None:
        backlog = Backlog()
        backlog.wake()
        assert await backlog.take() == ([], False)

    asyncio.run(run())
