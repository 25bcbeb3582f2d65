"""Opens and reads a source in its own thread, so that a pipe without data does not block the event loop.

The thread is a daemon: a read that never returns does not keep the process from ending.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from cubecast.errors import CubecastError, MediaError
from cubecast.frames import EncodedFrame
from cubecast.media.sources import MediaSource

AHEAD_FRAMES = 64
"""Maximum number of frames that are read ahead of the consumer."""
STOP_S = 0.5
"""Maximum time that `stop` waits for the thread, s."""
POLL_S = 0.1
"""Interval at which the thread checks for `stop` while the queue is full, s."""

Item = EncodedFrame | CubecastError | None
"""A frame, the error that ended reading, or None at the end of the source."""


class SourceReader:
    """Reads the frames of one source in a thread. Call `open`, then `frames`, and finally `stop`."""

    def __init__(self, location: str, loop: bool = False) -> None:
        """Creates a reader without opening the source; the arguments are those of `MediaSource`."""
        self._location, self._repeat = location, loop
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[MediaSource] = self._loop.create_future()
        self._ahead: queue.Queue[Item] = queue.Queue(AHEAD_FRAMES)
        self._arrived = asyncio.Event()
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"read {location}", daemon=True)

    async def open(self) -> MediaSource:
        """Opens and probes the source.

        Raises:
            MediaError: it cannot be opened, or contains neither video nor audio.
        """
        self._thread.start()
        return await self._opened

    async def frames(self) -> AsyncGenerator[EncodedFrame]:
        """All frames of the source, in decoding order.

        Raises:
            MediaError: reading failed.
        """
        self._wanted.set()
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
        """Ends the thread, which closes the source; a thread blocked in a read ends with the process."""
        self._stopping.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def _run(self) -> None:
        """Runs in the thread; every exception is passed to the event loop as a `CubecastError`."""
        try:
            with MediaSource(self._location, self._repeat) as source:
                self._call_in_loop(lambda: _set_result(self._opened, source))
                self._wanted.wait()
                for frame in source.frames():
                    if not self._put(frame):
                        return
            self._put(None)
        except Exception as error:  # noqa: BLE001  a thread has no caller to raise to
            known = error if isinstance(error, CubecastError) else None
            failure = known or MediaError(f"reading {self._location} failed: {type(error).__name__}: {error}")
            self._call_in_loop(lambda: _set_error(self._opened, failure))
            self._put(failure)

    def _put(self, item: Item) -> bool:
        """Queues an item, waiting while the queue is full; false if the reader was stopped."""
        while not self._stopping.is_set():
            with suppress(queue.Full):
                self._ahead.put(item, timeout=POLL_S)
                self._call_in_loop(self._arrived.set)
                return True
        return False

    def _call_in_loop(self, action: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(action)


def _set_result(opened: asyncio.Future[MediaSource], source: MediaSource) -> None:
    if not opened.done():
        opened.set_result(source)


def _set_error(opened: asyncio.Future[MediaSource], error: CubecastError) -> None:
    if not opened.done():
        opened.set_exception(error)
