"""Opens and reads a source in a thread of its own, so that a pipe that says nothing holds up nobody else.

The thread is a daemon: a read that never returns must not keep the process from ending.
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
"""Frames read before they are asked for."""
STOP_S = 0.5
POLL_S = 0.1

Item = EncodedFrame | CubecastError | None


class SourceReader:
    """Frames of one source, read ahead in a thread. `open`, then `frames`, and `stop` at the end."""

    def __init__(self, location: str, loop: bool = False) -> None:
        """A reader that has opened nothing yet; arguments as MediaSource takes them."""
        self._location, self._again = location, loop
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
            MediaError: it cannot be opened, or holds neither video nor audio.
        """
        self._thread.start()
        return await self._opened

    async def frames(self) -> AsyncGenerator[EncodedFrame]:
        """Every frame of the source.

        Raises:
            MediaError: the source broke in the middle.
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
        """Ends the thread, which closes the source; one stuck in a read is left to the end of the process."""
        self._stopping.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def _run(self) -> None:
        """The thread: whatever happens in it reaches the loop as an error of ours."""
        try:
            with MediaSource(self._location, self._again) as source:
                self._tell(lambda: _settle(self._opened, source))
                self._wanted.wait()
                for frame in source.frames():
                    if not self._put(frame):
                        return
            self._put(None)
        except Exception as error:  # noqa: BLE001  a thread has no caller to raise to
            known = error if isinstance(error, CubecastError) else None
            failure = known or MediaError(f"{self._location} broke while it was read: {type(error).__name__}: {error}")
            self._tell(lambda: _fail(self._opened, failure))
            self._put(failure)

    def _put(self, item: Item) -> bool:
        """Waits for room; False when the reader is stopping."""
        while not self._stopping.is_set():
            with suppress(queue.Full):
                self._ahead.put(item, timeout=POLL_S)
                self._tell(self._arrived.set)
                return True
        return False

    def _tell(self, action: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(action)


def _settle(opened: asyncio.Future[MediaSource], source: MediaSource) -> None:
    if not opened.done():
        opened.set_result(source)


def _fail(opened: asyncio.Future[MediaSource], error: CubecastError) -> None:
    if not opened.done():
        opened.set_exception(error)
