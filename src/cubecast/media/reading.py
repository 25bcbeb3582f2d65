"""Reads a source in a thread of its own, so that a pipe that says nothing holds up nobody else.

The thread is a daemon: a read that never returns must not keep the process from ending.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress

from cubecast.errors import CubecastError
from cubecast.media.frames import EncodedFrame
from cubecast.media.sources import MediaSource

AHEAD_FRAMES = 64
"""Frames read before they are asked for."""
STOP_S = 0.5
POLL_S = 0.1

Item = EncodedFrame | CubecastError | None


class SourceReader:
    """Frames of one source, read ahead in a thread. `stop` at the end closes the source."""

    def __init__(self, source: MediaSource) -> None:
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._ahead: queue.Queue[Item] = queue.Queue(AHEAD_FRAMES)
        self._arrived = asyncio.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"read {source.name}", daemon=True)

    async def frames(self) -> AsyncGenerator[EncodedFrame]:
        """Every frame of the source.

        Raises:
            MediaError: the source broke in the middle.
        """
        self._thread.start()
        while True:
            try:
                item = self._ahead.get_nowait()
            except queue.Empty:
                self._arrived.clear()
                if self._ahead.empty():
                    await self._arrived.wait()
                continue
            if item is None:
                return
            if isinstance(item, CubecastError):
                raise item
            yield item

    def stop(self) -> None:
        """Ends the thread and closes the source; one that is stuck in a read is left to the end of the process."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)
        if not self._thread.is_alive():
            self._source.close()

    def _read(self) -> None:
        end: Item = None
        try:
            for frame in self._source.frames():
                if not self._put(frame):
                    return
        except CubecastError as error:
            end = error
        self._put(end)

    def _put(self, item: Item) -> bool:
        """Waits for room; False when the reader is stopping."""
        while not self._stopping.is_set():
            with suppress(queue.Full):
                self._ahead.put(item, timeout=POLL_S)
                with suppress(RuntimeError):  # the loop has ended meanwhile
                    self._loop.call_soon_threadsafe(self._arrived.set)
                return True
        return False
