"""Groups of a channel's media that are fetched again: a parent may die in the middle of one, or a host stand still."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

import moq

FILL_GROUPS_MAX, FILL_AT_ONCE, FILL_S, FILL_PAUSE_S = 1024, 128, 4.0, 0.15
"""Groups that are fetched again at most, how many at once, how long all of them may take, and the pause before one is
asked for again. A sound track has some 50 groups a second."""


async def fetch_groups(
    broadcast: Callable[[], moq.BroadcastConsumer], track: int, groups: Sequence[int], until_pts_us: int | None = None
) -> AsyncIterator[moq.MediaFrame]:
    """The frames of groups, in order, as far as they come in FILL_S.

    Args:
        broadcast: the channel's, as it is announced now.
        groups: numbers of groups, ascending.
        until_pts_us: a frame that has come already: its group ends there, for it may be under way still.
    """
    deadline = asyncio.get_running_loop().time() + FILL_S
    for first in range(0, len(groups), FILL_AT_ONCE):
        some = groups[first : first + FILL_AT_ONCE]
        fetching = (_fetch(broadcast, track, group, until_pts_us, deadline) for group in some)
        for frames in await asyncio.gather(*fetching):
            for raw in frames:
                if raw.payload and raw.timestamp_us != until_pts_us:
                    yield raw


async def _fetch(
    broadcast: Callable[[], moq.BroadcastConsumer], track: int, group: int, until_pts_us: int | None, deadline: float
) -> list[moq.MediaFrame]:
    """A route that is changing fails at first, and a new parent may not have the group yet: it is asked for again."""
    found: list[moq.MediaFrame] = []
    with suppress(TimeoutError):
        async with asyncio.timeout_at(deadline):
            while True:
                found.clear()
                try:
                    async with await broadcast().fetch_media_group(str(track), group, moq.Container.LEGACY()) as media:
                        async for raw in media:
                            found.append(raw)
                            if not raw.payload or raw.timestamp_us == until_pts_us:
                                break
                except moq.Error:
                    await asyncio.sleep(FILL_PAUSE_S)
                else:
                    break
    return found
