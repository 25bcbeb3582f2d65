"""Frames that wait for an extension, in bounded number: beyond the limit the oldest groups of pictures are dropped whole."""

import asyncio
from collections import deque

from cubecast.host.channel.reader import ReceivedFrame

WAITING_MAX = 256
"""Maximum number of frames that wait for an extension; it bounds the delay that a slow extension adds."""


class Backlog:
    """Input queue of one extension; used on the event loop only."""

    def __init__(self, capacity: int = WAITING_MAX) -> None:
        self.dropped = 0
        """Frames dropped because the extension did not keep up."""
        self._capacity = capacity
        self._waiting: deque[ReceivedFrame] = deque()
        self._skipping: set[int] = set()
        """Tracks whose frames cannot be decoded before the next keyframe."""
        self._wakeup = asyncio.Event()
        self.ended = False
        """Whether no more frames will come."""

    def put(self, item: ReceivedFrame) -> None:
        """Adds a frame; it or older ones are dropped if the queue is full."""
        frame = item.frame
        if frame.keyframe:
            self._skipping.discard(frame.track)
        if len(self._waiting) >= self._capacity:
            self._drop_oldest_group(frame.track if frame.keyframe else None)
        if frame.track in self._skipping:
            self.dropped += 1
            return
        self._waiting.append(item)
        self._wakeup.set()

    def end(self) -> None:
        """Marks the end of the input."""
        self.ended = True
        self._wakeup.set()

    def wake(self) -> None:
        """Makes `take` return even if no frame waits, because its caller has something else to do."""
        self._wakeup.set()

    async def take(self) -> tuple[list[ReceivedFrame], bool]:
        """Waits for frames, the end or `wake`; removes and returns all waiting frames, and whether the input has ended."""
        await self._wakeup.wait()
        self._wakeup.clear()
        frames = list(self._waiting)
        self._waiting.clear()
        return frames, self.ended

    def _drop_oldest_group(self, arriving: int | None) -> None:
        """Drops the oldest frame and those of its track that depend on it.

        Args:
            arriving: track of which a keyframe is about to be added, if one is.
        """
        track = self._waiting[0].frame.track
        kept: deque[ReceivedFrame] = deque()
        dropping = True
        for number, item in enumerate(self._waiting):
            dropping = dropping and not (number and item.frame.track == track and item.frame.keyframe)
            if dropping and item.frame.track == track:
                self.dropped += 1
            else:
                kept.append(item)
        if dropping and track != arriving:
            self._skipping.add(track)
        self._waiting = kept
