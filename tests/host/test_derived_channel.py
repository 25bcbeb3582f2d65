"""A derived channel whose task is cancelled while its extension is in a call, or whose frames are refused."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from cubecast.engine.protocol.path import Contract
from cubecast.errors import ExtensionFailed, MediaError
from cubecast.frames import EncodedFrame, Kind, TrackFormat
from cubecast.host.channel.reader import ReceivedFrame
from cubecast.host.derived.channel import DerivedChannel
from cubecast.host.runtime import HostRuntime
from cubecast.sandbox.abi import EventKind, Failure, Manifest
from cubecast.sandbox.frame_exchange import Batch
from cubecast.sandbox.loading import Extension, load
from cubecast.types import ChannelName
from tests.conditions import eventually
from tests.sandbox.modules import TRACKS, frames, module, wat

LOOP = "(loop $on (br $on)) (i32.const 0)"


class Writer:
    """Keeps the frames of a derived channel, and refuses one of them."""

    def __init__(self, refused: int | None = None) -> None:
        self.written: list[EncodedFrame] = []
        self.attempts, self.refused = 0, refused

    def write(self, frame: EncodedFrame, _captured_s: float) -> None:
        self.attempts += 1
        if self.attempts == self.refused:
            raise MediaError("the frame is refused")
        self.written.append(frame)


class Source:
    """A subscription that delivers the same frames for ever."""

    tracks = TRACKS

    def __init__(self) -> None:
        self.delivered = 0
        self.released = False

    async def open(self) -> None:
        """It is open."""

    async def frames(self) -> AsyncIterator[ReceivedFrame]:
        while True:
            for frame in frames(5):
                self.delivered += 1
                yield ReceivedFrame(frame, 0.0, self.delivered, 0.0)
            await asyncio.sleep(0)

    def release(self) -> None:
        self.released = True


class Host:
    """Accepts everything."""

    def __init__(self, refused: int | None = None) -> None:
        self.source, self.finished, self.writer = Source(), 0, Writer(refused)

    async def subscribe(self, *_: object) -> Source:
        return self.source

    async def publish(self, *_: object) -> Writer:
        return self.writer

    async def finish(self, *_: object) -> None:
        self.finished += 1

    def processed(self, *_: object) -> None:
        """The processing time is not used."""

    def clock(self) -> float:
        return 0.0


@pytest.mark.parametrize("_attempt", range(3))
async def test_the_instance_is_closed_only_after_the_call_that_a_cancelled_task_leaves_behind(
    tmp_path: Path, _attempt: int
) -> None:
    """Closing it in the middle of a call ended the process with SIGSEGV."""
    file = tmp_path / "loop.wasm"
    file.write_bytes(module(wat(LOOP)))
    derived = DerivedChannel(ChannelName("in"), ChannelName("out"), load(str(file)), {}, Contract(1000.0))
    host, begun = Host(), asyncio.Event()
    task = asyncio.ensure_future(derived.run(cast(HostRuntime, host), lambda *_: begun.set()))
    await begun.wait()
    await eventually(lambda: host.source.delivered > 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert host.finished == 1
    assert host.source.released


class Stuck:
    """An instance that does not return from its first call before it is let go."""

    tracks: tuple[TrackFormat, ...] = TRACKS

    def __init__(self) -> None:
        self.called, self.let_go, self.closed = threading.Event(), threading.Event(), threading.Event()

    def process(self, _frames: Sequence[EncodedFrame]) -> Batch:
        self.called.set()
        assert self.let_go.wait(20), "the event loop was blocked"
        return Batch([], [])

    def on_event(self, _kind: EventKind, _time_us: int, _value: float) -> list[EncodedFrame]:
        return []

    def memory_bytes(self) -> int:
        return 0

    def close(self) -> None:
        self.closed.set()


async def test_the_event_loop_runs_while_a_cancelled_task_waits_for_the_last_call() -> None:
    stuck = Stuck()
    extension = Extension(Manifest(name="stuck"), lambda *_: stuck)
    derived = DerivedChannel(ChannelName("in"), ChannelName("out"), extension, {}, Contract(1000.0))
    task = asyncio.ensure_future(derived.run(cast(HostRuntime, Host()), lambda *_: None))
    await eventually(stuck.called.is_set)
    task.cancel()
    await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    assert not stuck.closed.is_set(), "it is closed only after the call"
    stuck.let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stuck.closed.is_set()


def passing(folder: Path, failure: Failure) -> DerivedChannel:
    """A derived channel whose extension forwards every frame."""
    file = folder / "pass.wasm"
    file.write_bytes(module(wat(), Manifest(name="pass", memory_mib=4, deadline_ms=1000, failure=failure)))
    return DerivedChannel(ChannelName("in"), ChannelName("out"), load(str(file)), {}, Contract(1000.0))


async def test_a_refused_frame_is_counted_and_its_track_continues_with_the_next_keyframe(tmp_path: Path) -> None:
    derived, host = passing(tmp_path, Failure.BYPASS), Host(refused=3)
    task = asyncio.ensure_future(derived.run(cast(HostRuntime, host), lambda *_: None))
    await eventually(lambda: task.done() or len(host.writer.written) > 20)
    progress = derived.progress()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (progress.failures, progress.dropped, progress.last_failure) == (1, 1, "the frame is refused")
    video = [frame for frame in host.writer.written[2:] if TRACKS[frame.track].kind is Kind.VIDEO]
    assert video[0].keyframe


async def test_a_refused_frame_ends_the_channel_if_its_extension_says_so(tmp_path: Path) -> None:
    derived, host = passing(tmp_path, Failure.STOP), Host(refused=3)
    with pytest.raises(ExtensionFailed, match="the frame is refused"):
        await derived.run(cast(HostRuntime, host), lambda *_: None)
    assert host.finished == 1
