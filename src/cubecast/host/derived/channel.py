"""A derived channel: a source channel is received, processed by an extension, and published as another channel.

Frames keep their capture times, so a subscriber of the derived channel measures the end-to-end latency. The processing
time is reported to the engine, which adds it to every promised delay.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field

from cubecast.engine.protocol.job_records import JobProgress
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import Tree
from cubecast.errors import ExtensionFailed, ExtensionRefused, MediaError, first_error
from cubecast.frames import US, EncodedFrame, Kind
from cubecast.host.channel.reader import ReceivedFrame
from cubecast.host.channel.tracks import ChannelWriter
from cubecast.host.derived.backlog import Backlog
from cubecast.host.derived.host_events import HostEvents
from cubecast.host.local.subscription import Subscription
from cubecast.host.runtime import HostRuntime
from cubecast.processing.pipeline import Pipeline
from cubecast.sandbox.loading import Extension
from cubecast.sandbox.supervision import ExtensionStats
from cubecast.sandbox.wasm.engine import deadlines
from cubecast.texts import one_line
from cubecast.types import ChannelName

TICK_S = 0.1
"""Period at which host events are checked, s; it is that of the timer event."""
REPORT_S = 0.5
"""Interval at which the processing time is reported to the engine, s."""
ALPHA = 1 / 8
"""Weight of a new value in the smoothed mean (RFC 6298)."""
BETA = 1 / 4
"""Weight of a new value in the smoothed mean deviation (RFC 6298)."""


@dataclass(slots=True)
class ProcessingTime:
    """Processing time of frames, ms: mean and mean deviation, smoothed as in RFC 6298."""

    mean_ms: float | None = None
    deviation_ms: float = 0.0

    def add(self, ms: float) -> None:
        """Adds the processing time of one frame."""
        if self.mean_ms is None:
            self.mean_ms, self.deviation_ms = ms, ms / 2
        else:
            self.deviation_ms += BETA * (abs(self.mean_ms - ms) - self.deviation_ms)
            self.mean_ms += ALPHA * (ms - self.mean_ms)

    @property
    def spread_ms(self) -> float:
        """How much longer than the mean a slow frame may take, ms: four deviations, as in RFC 6298."""
        return 4 * self.deviation_ms


@dataclass(slots=True)
class _Output:
    """A channel to which the result is published. Video begins with a keyframe."""

    writer: ChannelWriter
    begun: set[int] = field(default_factory=set)
    """Tracks of which a frame was sent, and none was refused since the last independent one."""

    def write(self, frame: EncodedFrame, captured_s: float, *, independent: bool) -> None:
        """Sends a frame; `independent` if it can be decoded without an earlier one.

        Raises:
            MediaError: the frame is refused; its track continues with the next independent frame.
        """
        if independent or frame.track in self.begun:
            self.begun.discard(frame.track)
            self.writer.write(frame, captured_s)
            self.begun.add(frame.track)


class DerivedChannel:
    """Derives one or more channels from a source; `run` it on a host until the source ends."""

    def __init__(
        self,
        source: ChannelName,
        channel: ChannelName,
        extension: Extension,
        config: Mapping[str, str],
        contract: Contract,
        tree: Tree = Tree.HYBRID,
    ) -> None:
        self.source, self.channel = source, channel
        self.processing_time = ProcessingTime()
        self.upgrades = 0
        """Number of times that another version of the extension took over."""
        self._extension, self._config = extension, dict(config)
        self._contract, self._tree = contract, tree
        self._backlog = Backlog()
        self._pipeline: Pipeline | None = None
        self._successor: Pipeline | None = None
        """A new version that takes over at the next keyframe."""
        self._host_events: HostEvents | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._subscription: Subscription | None = None
        self._outputs: dict[ChannelName, _Output] = {}
        self._video: frozenset[int] = frozenset()
        """Video tracks of the source."""
        self._last_us: dict[int, int] = {}
        """Decoding time of the last frame sent, by track."""
        self._floor_us: dict[int, int] = {}
        """Decoding time of the last frame that the previous version sent, by track."""
        self._offset_s: dict[int, float] = {}
        """Capture time minus presentation time, by track."""
        self._input_delay_ms = 0.0
        """Smoothed delay between capture of a frame and its arrival here."""

    def progress(self) -> JobProgress:
        """Counts and times of the extension so far."""
        stats = ExtensionStats() if self._pipeline is None else self._pipeline.running.stats
        return JobProgress(
            stats.frames_in,
            stats.frames_out,
            stats.failures,
            one_line(stats.last_failure),
            stats.bypassed,
            stats.dropped,
            self._backlog.dropped,
            0 if self._pipeline is None else self._pipeline.running.upcalls.dropped,
            self.upgrades,
            self.processing_time.mean_ms,
            1e6 * stats.busy_s / stats.frames_in if stats.frames_in else None,
        )

    @property
    def ending(self) -> bool:
        """Whether the source has ended; its last frames may still be on their way."""
        return self._backlog.ended

    async def run(self, host: HostRuntime, announced: Callable[[Subscription, Pipeline], None]) -> None:
        """Receives, processes and publishes until the source ends.

        Args:
            announced: called when the derived channel can be subscribed to.

        Raises:
            SubscriptionError: no path keeps the contract for the source, or the stream broke.
            ExtensionRefused, ExtensionFailed: the extension cannot start, or failed and its manifest ends the channel.
            DirectoryError: the super-node refuses the derived channel.
        """
        self._subscription = subscription = await host.subscribe(self.source, self._contract)
        try:
            await subscription.open()
            self._video = frozenset(n for n, track in enumerate(subscription.tracks) if track.kind is Kind.VIDEO)
            async with self._own_thread():
                self._pipeline = await self._make(self._extension)
                try:
                    await self.add(host, self.channel, self._tree)
                    announced(subscription, self._pipeline)
                    await self._work(host, subscription)
                except BaseExceptionGroup as group:
                    raise first_error(group) from group
                finally:
                    await asyncio.gather(*(self.remove(host, channel) for channel in list(self._outputs)))
        finally:
            subscription.release()

    @asynccontextmanager
    async def _own_thread(self) -> AsyncIterator[None]:
        """Context in which the extension has its thread, with deadlines.

        Its end waits for a call that a cancelled task has left behind, but never on the event loop: if it is cancelled
        once more, the thread ends by itself. Deadlines end last, since without them a call might never return.
        """
        enforced = ExitStack()
        enforced.enter_context(deadlines())
        self._thread = thread = ThreadPoolExecutor(1, f"extension-{self.channel}")

        def close() -> None:
            with enforced:
                for pipeline in (self._pipeline, self._successor):
                    if pipeline is not None:
                        pipeline.close()

        try:
            yield
        finally:
            closed = thread.submit(close)
            thread.shutdown(wait=False)
            await asyncio.shield(asyncio.wrap_future(closed))

    async def add(self, host: HostRuntime, channel: ChannelName, tree: Tree) -> None:
        """Publishes the result as one more channel; its video begins with the next keyframe.

        Raises:
            DirectoryError, TokenError: the super-node refuses the channel.
            MediaError, UsageError: as HostRuntime.publish.
        """
        writer = await host.publish(channel, self._started_pipeline().tracks, tree, self.source)
        self._outputs[channel] = _Output(writer)

    async def remove(self, host: HostRuntime, channel: ChannelName) -> None:
        """Ends one of the derived channels; an unknown one is ignored."""
        output = self._outputs.pop(channel, None)
        if output is not None:
            await host.finish(channel, output.writer)

    async def upgrade(self, extension: Extension) -> None:
        """Replaces the extension by another version at the next keyframe; no frame is lost.

        The new version starts without the state of the old one, which continues until then.

        Raises:
            ExtensionRefused: it does not accept tracks or settings, or emits other tracks, which needs another channel.
            ExtensionFailed: it failed while it started.
        """
        if self._pipeline is None:
            self._extension = extension
            return
        successor = await self._make(extension)
        if successor.tracks != self._pipeline.tracks:
            self._close(successor)
            raise ExtensionRefused(
                f"{extension.manifest.name} {extension.manifest.version} emits other tracks than the version that runs; "
                "publish its result under another name"
            )
        if self._successor is not None:
            self._close(self._successor)
        self._successor = successor
        self._backlog.wake()

    def _close(self, pipeline: Pipeline) -> None:
        """Closes a pipeline on the extension's thread, which may still be in a call of it."""
        assert self._thread is not None, "run() has made it"
        self._thread.submit(pipeline.close)

    async def _make(self, extension: Extension) -> Pipeline:
        assert self._subscription is not None, "run() subscribes first"
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, Pipeline, extension, self._subscription.tracks, self._config, time.perf_counter
        )

    async def _work(self, host: HostRuntime, subscription: Subscription) -> None:
        loop, pipeline = asyncio.get_running_loop(), self._started_pipeline()
        self._host_events = self._observe(host, pipeline)

        async def receive() -> None:
            async with aclosing(subscription.frames()) as frames:
                async for item in frames:
                    self._backlog.put(item)
            self._backlog.end()

        async def tick() -> None:
            reported_s = loop.time()
            while True:
                await asyncio.sleep(TICK_S)
                if self._host_events is not None:
                    self._host_events.check()
                if len(self._started_pipeline().running.upcalls):
                    self._backlog.wake()
                if self.processing_time.mean_ms is not None and loop.time() - reported_s >= REPORT_S:
                    reported_s = loop.time()
                    for channel in self._outputs:
                        host.processed(channel, self.processing_time.mean_ms, self.processing_time.spread_ms)

        async with asyncio.TaskGroup() as group:
            background = [group.create_task(receive()), group.create_task(tick())]
            try:
                ended = False
                while not ended:
                    batch, ended = await self._backlog.take()
                    self._record_input(batch)
                    await self._push(host, [received.frame for received in batch])
                self._write(host, await loop.run_in_executor(self._thread, self._started_pipeline().finish))
            finally:
                for task in background:
                    task.cancel()

    async def _push(self, host: HostRuntime, frames: Sequence[EncodedFrame]) -> None:
        """Processes frames and publishes the result; a successor takes over at the first frame at which it may."""
        run, pipeline, successor = asyncio.get_running_loop().run_in_executor, self._started_pipeline(), self._successor
        boundary = None if successor is None else self._boundary(frames)
        if successor is None or boundary is None:
            self._write(host, await run(self._thread, pipeline.push, frames))
            return
        self._write(host, await run(self._thread, pipeline.push, frames[:boundary]))
        self._write(host, await run(self._thread, pipeline.finish))
        successor.running.stats = pipeline.running.stats
        if self._successor is successor:
            self._successor = None
        self._pipeline = successor
        self._host_events = self._observe(host, successor)
        self._floor_us = dict(self._last_us)
        self.upgrades += 1
        await run(self._thread, pipeline.close)
        self._write(host, await run(self._thread, successor.push, frames[boundary:]))

    def _started_pipeline(self) -> Pipeline:
        assert self._pipeline is not None, "run() makes it"
        return self._pipeline

    def _observe(self, host: HostRuntime, pipeline: Pipeline) -> HostEvents:
        upcalls = pipeline.running.upcalls
        return HostEvents(host, self.source, lambda: list(self._outputs), upcalls.kinds, upcalls.post)

    def _boundary(self, frames: Sequence[EncodedFrame]) -> int | None:
        """Index of the first frame at which another version may start: a video keyframe; without video any frame."""
        for number, frame in enumerate(frames):
            if not self._video or (frame.track in self._video and frame.keyframe):
                return number
        return None

    def _record_input(self, batch: Sequence[ReceivedFrame]) -> None:
        """Measures the offset between capture and presentation times, and the delay of the input."""
        for received in batch:
            self._offset_s[received.frame.track] = received.captured_s - received.frame.pts_us / US
            delay_ms = (received.arrived_s - received.captured_s) * 1000
            self._input_delay_ms += ALPHA * (delay_ms - self._input_delay_ms) if self._input_delay_ms else delay_ms
            beyond_bound_ms = delay_ms - self._contract.bound_ms
            if self._host_events is not None:
                self._host_events.frame_arrived(received.frame.pts_us, len(received.frame.payload), beyond_bound_ms)

    def _write(self, host: HostRuntime, frames: Sequence[EncodedFrame]) -> None:
        if not self._offset_s:
            return  # no capture time has been received yet
        tracks, newest_s = self._started_pipeline().tracks, max(self._offset_s.values())
        for frame in frames:
            if frame.dts_us <= self._floor_us.get(frame.track, frame.dts_us - 1):
                continue  # the previous version sent it already: both encoders emit around the boundary
            self._last_us[frame.track] = frame.dts_us
            captured_s = frame.pts_us / US + self._offset_s.get(frame.track, newest_s)
            independent = frame.keyframe or tracks[frame.track].kind is not Kind.VIDEO
            for output in self._outputs.values():
                try:
                    output.write(frame, captured_s, independent=independent)
                except MediaError as error:
                    self._started_pipeline().running.frame_refused(ExtensionFailed("output", str(error)))
            self.processing_time.add(max(0.0, (host.clock() - captured_s) * 1000 - self._input_delay_ms))
