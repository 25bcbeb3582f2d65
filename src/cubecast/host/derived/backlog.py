"""Frames that wait for an extension. There is a limit: beyond it whole groups of pictures go, the oldest first."""

import asyncio
from collections import deque

from cubecast.host.channel.reader import ReceivedFrame

WAITING_MAX = 256


class Backlog:
    """One extension's input; everything on the event loop."""

    def __init__(self, room: int = WAITING_MAX) -> None:
        self.dropped = 0
        """Frames, because the extension did not keep up."""
        self._room = room
        self._waiting: deque[ReceivedFrame] = deque()
        self._skipping: set[int] = set()
        """Tracks of which nothing is of use before the next keyframe."""
        self._news = asyncio.Event()
        self.over = False
        """No more will come."""

    def put(self, item: ReceivedFrame) -> None:
        """Takes a frame in."""
        frame = item.frame
        if frame.keyframe:
            self._skipping.discard(frame.track)
        if len(self._waiting) >= self._room:
            self._make_room(frame.track if frame.keyframe else None)
        if frame.track in self._skipping:
            self.dropped += 1
            return
        self._waiting.append(item)
        self._news.set()

    def end(self) -> None:
        """No more will come."""
        self.over = True
        self._news.set()

    def wake(self) -> None:
        """There is something else to do: `take` returns, with or without frames."""
        self._news.set()

    async def take(self) -> tuple[list[ReceivedFrame], bool]:
        """Everything that waits, in one go, and whether that is all there will be."""
        await self._news.wait()
        self._news.clear()
        frames = list(self._waiting)
        self._waiting.clear()
        return frames, self.over

    def _make_room(self, begins: int | None) -> None:
        """Drops the oldest frame and all of its track that refer to it; `begins` is a track of which a keyframe comes."""
        track = self._waiting[0].frame.track
        kept: deque[ReceivedFrame] = deque()
        useless = True
        for number, item in enumerate(self._waiting):
            useless = useless and not (number and item.frame.track == track and item.frame.keyframe)
            if useless and item.frame.track == track:
                self.dropped += 1
            else:
                kept.append(item)
        if useless and track != begins:
            self._skipping.add(track)
        self._waiting = kept
