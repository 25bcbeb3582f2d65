"""Fetches groups of media that were missed: a parent may die while it sends one, or this host may stall."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

import moq

FILL_GROUPS_MAX = 1024
"""Maximum number of groups fetched for one gap: 20 s of a sound track, which has some 50 groups a second."""
FILL_AT_ONCE = 128
"""Maximum number of groups fetched at the same time; more would compete with the media that is still arriving."""
FILL_S = 4.0
"""Time limit for all groups of one gap, s; the reader delivers no newer frame of the track in this time."""
FILL_PAUSE_S = 0.15
"""Pause before a group that failed is requested again, s: a route that changes is back within two of them."""


async def fetch_groups(
    broadcast: Callable[[], moq.BroadcastConsumer], track: int, groups: Sequence[int], until_pts_us: int | None = None
) -> AsyncIterator[moq.MediaFrame]:
    """The frames of groups, in order; those that do not arrive within FILL_S are left out.

    Args:
        broadcast: the channel's, as it is announced now.
        groups: numbers of groups, ascending.
        until_pts_us: a frame that has arrived already; its group is read up to there, since the rest may still arrive.
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
    """Requests a group until it arrives: requests fail while a route changes, and a new parent may not have it yet."""
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
