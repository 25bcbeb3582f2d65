"""A derived channel: another one received, sent through an extension, and published as a channel of its own.

Frames keep their capture times, so what a subscriber of the derived channel measures is from end to end; what receiving
and making take is told to the engine, which counts it into every promise.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass

from cubecast.engine.reach import Contract
from cubecast.engine.records import Tree
from cubecast.frames import US, EncodedFrame
from cubecast.host.pipeline import Pipeline
from cubecast.host.reader import ReceivedFrame
from cubecast.host.runtime import HostRuntime
from cubecast.host.subscription import Subscription
from cubecast.host.tracks import ChannelWriter
from cubecast.sandbox.abi import EventKind
from cubecast.sandbox.loading import Extension
from cubecast.sandbox.machine import deadlines
from cubecast.sandbox.supervision import Account
from cubecast.sandbox.upcalls import Upcall
from cubecast.types import ChannelName

WAITING_MAX = 256
"""Frames that wait for the extension; beyond that the oldest video waits no longer and is dropped."""
TIMER_S = 0.1
TELL_S = 0.5
"""The engine hears so often what the making takes."""
ALPHA, BETA = 1 / 8, 1 / 4
"""As RFC 6298."""


@dataclass(slots=True)
class MakingTime:
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


class Processing:
    """Makes one channel from another: `run` on a host, until the source ends."""

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
        self.making = MakingTime()
        self.overrun = 0
        """Frames that were dropped because the extension did not keep up."""
        self._extension, self._config = extension, dict(config)
        self._contract, self._tree = contract, tree
        self._pipeline: Pipeline | None = None
        self._offset_s: dict[int, float] = {}
        """Capture time minus presentation time, by track."""
        self._input_delay_ms = 0.0

    @property
    def account(self) -> Account:
        """What the extension has done so far."""
        return Account() if self._pipeline is None else self._pipeline.running.account

    async def run(self, host: HostRuntime, announced: Callable[[Subscription, Pipeline], None]) -> None:
        """Receives, processes and publishes until the source ends.

        Args:
            announced: told when the derived channel can be subscribed to.

        Raises:
            SubscriptionError: the source cannot be had within its contract, or breaks.
            ExtensionRefused, ExtensionFailed: the extension cannot begin, or fails and wants the channel to end.
            DirectoryError: the derived channel is refused.
        """
        subscription = await host.subscribe(self.source, self._contract)
        try:
            await subscription.open()
            await self._make(host, subscription, announced)
        finally:
            host.unsubscribe(self.source)

    async def _make(
        self, host: HostRuntime, subscription: Subscription, announced: Callable[[Subscription, Pipeline], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        with deadlines(), ThreadPoolExecutor(1, f"extension-{self.channel}") as thread:
            self._pipeline = pipeline = await loop.run_in_executor(
                thread, Pipeline, self._extension, subscription.tracks, self._config, time.perf_counter
            )
            try:
                writer = await host.publish(self.channel, pipeline.tracks, self._tree, self.source)
                announced(subscription, pipeline)
                try:
                    await self._work(host, subscription, pipeline, writer, thread)
                finally:
                    await host.finish(self.channel, writer)
            finally:
                pipeline.close()

    async def _work(
        self,
        host: HostRuntime,
        subscription: Subscription,
        pipeline: Pipeline,
        writer: ChannelWriter,
        thread: ThreadPoolExecutor,
    ) -> None:
        waiting: asyncio.Queue[ReceivedFrame | Upcall | None] = asyncio.Queue(WAITING_MAX)
        loop = asyncio.get_running_loop()

        async def receive() -> None:
            async with aclosing(subscription.frames()) as frames:
                async for item in frames:
                    if waiting.full():
                        waiting.get_nowait()
                        self.overrun += 1
                    waiting.put_nowait(item)
            await waiting.put(None)

        async def tick() -> None:
            number, told = 0, loop.time()
            while True:
                await asyncio.sleep(TIMER_S)
                number += 1
                if EventKind.TIMER in self._extension.manifest.event_kinds() and not waiting.full():
                    waiting.put_nowait(Upcall(EventKind.TIMER, 0, number))
                if self.making.mean_ms is not None and loop.time() - told >= TELL_S:
                    told = loop.time()
                    host.processed(self.channel, self.making.mean_ms, self.making.spread_ms)

        async with asyncio.TaskGroup() as group:
            background = [group.create_task(receive()), group.create_task(tick())]
            try:
                while (item := await waiting.get()) is not None:
                    batch, upcalls, over = self._taken(item, waiting)
                    made: list[EncodedFrame] = []
                    for upcall in upcalls:
                        made += await loop.run_in_executor(thread, pipeline.tell, upcall)
                    if batch:
                        self._note(batch)
                        frames = [received.frame for received in batch]
                        made += await loop.run_in_executor(thread, pipeline.push, frames)
                    self._write(host, writer, made)
                    if over:
                        break
                self._write(host, writer, await loop.run_in_executor(thread, pipeline.finish))
            finally:
                for task in background:
                    task.cancel()

    def _taken(
        self, first: ReceivedFrame | Upcall, waiting: "asyncio.Queue[ReceivedFrame | Upcall | None]"
    ) -> tuple[list[ReceivedFrame], list[Upcall], bool]:
        """Everything that waits, in one go: frames, events, and whether it is the end."""
        frames: list[ReceivedFrame] = []
        upcalls: list[Upcall] = []
        item: ReceivedFrame | Upcall | None = first
        while True:
            match item:
                case ReceivedFrame():
                    frames.append(item)
                case Upcall():
                    upcalls.append(item)
                case None:
                    return frames, upcalls, True
            if waiting.empty():
                return frames, upcalls, False
            item = waiting.get_nowait()

    def _note(self, batch: Sequence[ReceivedFrame]) -> None:
        """Learns how capture and presentation times go together, and how late the input is."""
        for received in batch:
            if received.captured_s is not None:
                self._offset_s[received.frame.track] = received.captured_s - received.frame.pts_us / US
                late_ms = (received.arrived_s - received.captured_s) * 1000
                self._input_delay_ms += ALPHA * (late_ms - self._input_delay_ms) if self._input_delay_ms else late_ms

    def _write(self, host: HostRuntime, writer: ChannelWriter, frames: Sequence[EncodedFrame]) -> None:
        if not self._offset_s:
            return  # nothing has told when anything was captured
        newest_s = max(self._offset_s.values())
        for frame in frames:
            captured_s = frame.pts_us / US + self._offset_s.get(frame.track, newest_s)
            writer.write(frame, captured_s)
            self.making.add(max(0.0, (host.clock() - captured_s) * 1000 - self._input_delay_ms))
