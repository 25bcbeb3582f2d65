"""A derived channel: another one received, sent through an extension, and published as a channel of its own.

Frames keep their capture times, so what a subscriber of the derived channel measures is from end to end; what receiving
and making take is told to the engine, which counts it into every promise.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field

from cubecast.engine.protocol.job_records import JobProgress
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import Tree
from cubecast.errors import ExtensionRefused, first_error
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
from cubecast.types import ChannelName

TICK_S = 0.1
TELL_S = 0.5
"""The engine hears so often what the making takes."""
ALPHA, BETA = 1 / 8, 1 / 4
"""As RFC 6298."""


@dataclass(slots=True)
class ProcessingTime:
    """How long frames are in the making, smoothed as RFC 6298 does; ms."""

    mean_ms: float | None = None
    deviation_ms: float = 0.0

    def add(self, ms: float) -> None:
        """Takes one frame's in."""
        if self.mean_ms is None:
            self.mean_ms, self.deviation_ms = ms, ms / 2
        else:
            self.deviation_ms += BETA * (abs(self.mean_ms - ms) - self.deviation_ms)
            self.mean_ms += ALPHA * (ms - self.mean_ms)

    @property
    def spread_ms(self) -> float:
        """How much longer a late frame may take."""
        return 4 * self.deviation_ms


@dataclass(slots=True)
class _Output:
    """A channel that is made. Video that begins in the middle of a group of pictures waits for the next."""

    writer: ChannelWriter
    begun: set[int] = field(default_factory=set)

    def write(self, frame: EncodedFrame, captured_s: float, *, whole: bool) -> None:
        """Sends a frame on; `whole` where it needs none before it."""
        if whole or frame.track in self.begun:
            self.begun.add(frame.track)
            self.writer.write(frame, captured_s)


class DerivedChannel:
    """Makes channels from another: `run` on a host, until the source ends."""

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
        self.making = ProcessingTime()
        self.upgrades = 0
        self._extension, self._config = extension, dict(config)
        self._contract, self._tree = contract, tree
        self._backlog = Backlog()
        self._pipeline: Pipeline | None = None
        self._successor: Pipeline | None = None
        self._happenings: HostEvents | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._subscription: Subscription | None = None
        self._outputs: dict[ChannelName, _Output] = {}
        self._video: frozenset[int] = frozenset()
        """Tracks of the source with pictures."""
        self._last_us: dict[int, int] = {}
        self._floor_us: dict[int, int] = {}
        """Decoding times by track: of the last frame, and of the last one of the version before."""
        self._offset_s: dict[int, float] = {}
        """Capture time minus presentation time, by track."""
        self._input_delay_ms = 0.0

    def progress(self) -> JobProgress:
        """What the extension has done so far."""
        compliance = ExtensionStats() if self._pipeline is None else self._pipeline.running.stats
        return JobProgress(
            compliance.frames_in,
            compliance.frames_out,
            compliance.failures,
            compliance.last_failure,
            compliance.bypassed,
            compliance.dropped,
            self._backlog.dropped,
            0 if self._pipeline is None else self._pipeline.running.upcalls.dropped,
            self.upgrades,
            self.making.mean_ms,
            1e6 * compliance.busy_s / compliance.frames_in if compliance.frames_in else None,
        )

    @property
    def ending(self) -> bool:
        """Whether the source has ended: what is left of it is on its way."""
        return self._backlog.over

    async def run(self, host: HostRuntime, announced: Callable[[Subscription, Pipeline], None]) -> None:
        """Receives, processes and publishes until the source ends.

        Args:
            announced: told when the derived channel can be subscribed to.

        Raises:
            SubscriptionError: the source cannot be had within its contract, or breaks.
            ExtensionRefused, ExtensionFailed: the extension cannot begin, or fails and wants the channel to end.
            DirectoryError: the derived channel is refused.
        """
        self._subscription = subscription = await host.subscribe(self.source, self._contract)
        try:
            await subscription.open()
            self._video = frozenset(n for n, track in enumerate(subscription.tracks) if track.kind is Kind.VIDEO)
            with deadlines(), ThreadPoolExecutor(1, f"extension-{self.channel}") as thread:
                self._thread = thread
                self._pipeline = await self._make(self._extension)
                try:
                    await self.add(host, self.channel, self._tree)
                    announced(subscription, self._pipeline)
                    await self._work(host, subscription)
                except BaseExceptionGroup as group:
                    raise first_error(group) from group
                finally:
                    await asyncio.gather(*(self.remove(host, channel) for channel in list(self._outputs)))
                    for pipeline in (self._pipeline, self._successor):
                        if pipeline is not None:
                            pipeline.close()
        finally:
            subscription.release()

    async def add(self, host: HostRuntime, channel: ChannelName, tree: Tree) -> None:
        """Publishes what is made under one more name; pictures begin with the next keyframe.

        Raises:
            DirectoryError, TokenError: the channel is refused.
            MediaError, UsageError: as HostRuntime.publish.
        """
        writer = await host.publish(channel, self._begun().tracks, tree, self.source)
        self._outputs[channel] = _Output(writer)

    async def remove(self, host: HostRuntime, channel: ChannelName) -> None:
        """Ends one of the channels that are made; without it, nothing happens."""
        output = self._outputs.pop(channel, None)
        if output is not None:
            await host.finish(channel, output.writer)

    async def upgrade(self, extension: Extension) -> None:
        """Goes on with another version of the extension, from the next group of pictures on; no frame is lost.

        Its state begins anew. Until it has begun, the version before works on.

        Raises:
            ExtensionRefused: it cannot begin, or makes other tracks: that is another channel.
            ExtensionFailed: it failed while it began.
        """
        if self._pipeline is None:
            self._extension = extension
            return
        made = await self._make(extension)
        if made.tracks != self._pipeline.tracks:
            made.close()
            raise ExtensionRefused(
                f"{extension.manifest.name} {extension.manifest.version} makes other tracks than the version at work; "
                "publish what it makes under another name"
            )
        if self._successor is not None:
            self._successor.close()
        self._successor = made
        self._backlog.wake()

    async def _make(self, extension: Extension) -> Pipeline:
        assert self._subscription is not None, "run() has subscribed"
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, Pipeline, extension, self._subscription.tracks, self._config, time.perf_counter
        )

    async def _work(self, host: HostRuntime, subscription: Subscription) -> None:
        loop, pipeline = asyncio.get_running_loop(), self._begun()
        self._happenings = self._watch(host, pipeline)

        async def receive() -> None:
            async with aclosing(subscription.frames()) as frames:
                async for item in frames:
                    self._backlog.put(item)
            self._backlog.end()

        async def tick() -> None:
            told = loop.time()
            while True:
                await asyncio.sleep(TICK_S)
                if self._happenings is not None:
                    self._happenings.look()
                if len(self._begun().running.upcalls):
                    self._backlog.wake()
                if self.making.mean_ms is not None and loop.time() - told >= TELL_S:
                    told = loop.time()
                    for channel in self._outputs:
                        host.processed(channel, self.making.mean_ms, self.making.spread_ms)

        async with asyncio.TaskGroup() as group:
            background = [group.create_task(receive()), group.create_task(tick())]
            try:
                over = False
                while not over:
                    batch, over = await self._backlog.take()
                    self._note(batch)
                    await self._push(host, [received.frame for received in batch])
                self._write(host, await loop.run_in_executor(self._thread, self._begun().finish))
            finally:
                for task in background:
                    task.cancel()

    async def _push(self, host: HostRuntime, frames: Sequence[EncodedFrame]) -> None:
        """Through the extension and out; where a successor may begin, it does."""
        run, pipeline, successor = asyncio.get_running_loop().run_in_executor, self._begun(), self._successor
        begins = None if successor is None else self._boundary(frames)
        if successor is None or begins is None:
            self._write(host, await run(self._thread, pipeline.push, frames))
            return
        self._write(host, await run(self._thread, pipeline.push, frames[:begins]))
        self._write(host, await run(self._thread, pipeline.finish))
        successor.running.stats = pipeline.running.stats
        if self._successor is successor:
            self._successor = None
        self._pipeline = successor
        self._happenings = self._watch(host, successor)
        self._floor_us = dict(self._last_us)
        self.upgrades += 1
        await run(self._thread, pipeline.close)
        self._write(host, await run(self._thread, successor.push, frames[begins:]))

    def _begun(self) -> Pipeline:
        assert self._pipeline is not None, "run() has made it"
        return self._pipeline

    def _watch(self, host: HostRuntime, pipeline: Pipeline) -> HostEvents:
        upcalls = pipeline.running.upcalls
        return HostEvents(host, self.source, lambda: list(self._outputs), upcalls.kinds, upcalls.post)

    def _boundary(self, frames: Sequence[EncodedFrame]) -> int | None:
        """The first frame that needs none before it: a keyframe of a picture; of sound any is."""
        for number, frame in enumerate(frames):
            if not self._video or (frame.track in self._video and frame.keyframe):
                return number
        return None

    def _note(self, batch: Sequence[ReceivedFrame]) -> None:
        """Learns how capture and presentation times go together, and how late the input is."""
        for received in batch:
            late_ms = 0.0
            if received.captured_s is not None:
                self._offset_s[received.frame.track] = received.captured_s - received.frame.pts_us / US
                late_ms = (received.arrived_s - received.captured_s) * 1000
                self._input_delay_ms += ALPHA * (late_ms - self._input_delay_ms) if self._input_delay_ms else late_ms
            over_ms = late_ms - self._contract.bound_ms
            if self._happenings is not None:
                self._happenings.came(received.frame.pts_us, len(received.frame.payload), over_ms)

    def _write(self, host: HostRuntime, frames: Sequence[EncodedFrame]) -> None:
        if not self._offset_s:
            return  # nothing has told when anything was captured
        tracks, newest_s = self._begun().tracks, max(self._offset_s.values())
        for frame in frames:
            if frame.dts_us <= self._floor_us.get(frame.track, frame.dts_us - 1):
                continue  # the version before has said it: encoders overlap
            self._last_us[frame.track] = frame.dts_us
            captured_s = frame.pts_us / US + self._offset_s.get(frame.track, newest_s)
            whole = frame.keyframe or tracks[frame.track].kind is not Kind.VIDEO
            for output in self._outputs.values():
                output.write(frame, captured_s, whole=whole)
            self.making.add(max(0.0, (host.clock() - captured_s) * 1000 - self._input_delay_ms))
