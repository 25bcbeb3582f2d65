"""A live host: passes events to its engine and performs the effects that the engine returns.

Every decision of the protocol is the engine's; the shell checks what peers may receive, since that needs the super-node's key.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import assert_never

import numpy as np

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT
from cubecast.engine.host.engine import HostEngine
from cubecast.engine.host.search.machine import IllegalMove
from cubecast.engine.host.snapshot import HostView
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import Placement, Tree
from cubecast.errors import DirectoryError, TokenError, UsageError
from cubecast.frames import TrackFormat
from cubecast.host.advertised import advertised_address
from cubecast.host.channel.reader import ChannelReader
from cubecast.host.channel.signing import ChannelSigner, Publication, PublisherKey
from cubecast.host.channel.tracks import ChannelWriter, CopyCount
from cubecast.host.channel.verification import Fault, Verification
from cubecast.host.config import HostConfig
from cubecast.host.directory.client import DirectoryClient
from cubecast.host.directory.job_reports import JobRunner
from cubecast.host.directory.session import DirectorySession
from cubecast.host.local.subscribers import LocalSubscribers
from cubecast.host.local.subscription import Subscription
from cubecast.host.media.dataplane import DataPlane
from cubecast.host.peer_rights import PeerRights
from cubecast.host.plane_events import PlaneEvents
from cubecast.host.tasks import Tasks
from cubecast.tokens.authority import Verifier
from cubecast.tracing.writer import TraceWriter
from cubecast.types import ChannelName

READY_S = 8.0
"""Longest time, s, that a subscriber waits for the links to its neighbours; then it searches over those that are up."""
HANDOVER_S = DEFAULT.leave_s + 1.0
"""Longest time, s, that a leaving host waits until its children have other parents: the engine's limit and a margin."""
LINGER_S = 10.0
"""Longest time, s, that a finished channel stays readable for children that have not received all of it."""
ENDED_S = LINGER_S + DEFAULT.drain_s
"""Time, s, after which nothing is left of a channel that has ended, so that its name can be published again."""


class HostRuntime:
    """One running host; made by `open_host` (cubecast.host.open_host)."""

    def __init__(
        self,
        config: HostConfig,
        client: DirectoryClient,
        tasks: Tasks,
        notify: Callable[[str], None],
        work: JobRunner,
        trace: TraceWriter | None = None,
    ) -> None:
        self._trace = trace
        self.config = config
        self._tasks = tasks
        self.notify = notify
        """Reports one line to the user."""
        self._engine = HostEngine(
            config.name,
            config.policy,
            config.fan_out,
            np.random.default_rng(config.seed),
            uplink_bps=config.uplink_bps,
            reserve=config.reserve,
            on_illegal_move=self._illegal_move,
        )
        self.illegal_moves = 0
        """Faults of the engine that a search survived, or that ended it; each was reported to the user in a line."""
        source = f"{config.source}:0" if config.source else ""
        self._key = client.identity.key
        self._rights = PeerRights(config.name, client.identity, client.clock)
        self._events = PlaneEvents(self._engine, self._rights, self._handle, notify)
        self._plane = DataPlane(config.listen, source, config.name, self._rights, self._events, tasks)
        self._address = ""
        self._started = (time.time(), time.monotonic())
        self._directory_session = DirectorySession(
            config,
            client,
            tasks,
            notify,
            self._handle,
            self._engine.links_ms,
            work,
            lambda right: self._events.right_ended(right, self._plane),
            lambda error: self._local_subscribers.end(str(error)),
        )
        self._local_subscribers = LocalSubscribers(
            config.name, self._handle, self._engine.metrics, self._directory_session.failure
        )
        self._writers: dict[ChannelName, ChannelWriter] = {}
        self._background: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._left = asyncio.Event()
        self.on_parent_changed: Callable[[fx.ParentChanged], None] = lambda _: None
        """Called whenever a channel gets another parent."""

    def _illegal_move(self, fault: IllegalMove) -> None:
        self.illegal_moves += 1
        self.notify(f"internal fault, please report it: {fault}; the host goes on")

    # ------------------------------------------------------------------ for the client and derived channels

    @property
    def malformed_messages(self) -> int:
        """Frames of messages from other hosts that could not be accepted and were dropped."""
        return self._events.malformed_messages

    def clock(self) -> float:
        """This host's clock: s since the Unix epoch at start, never stepping back."""
        wall, monotonic = self._started
        return wall + time.monotonic() - monotonic

    def view(self) -> HostView:
        """A snapshot of the engine's state."""
        return self._engine.view()

    @property
    def placement(self) -> Placement:
        """This host's position in the cube, as the super-node last sent it."""
        placement = self._engine.placement
        assert placement is not None, "start() has joined"
        return placement

    @property
    def address(self) -> str:
        """HOST:PORT (UDP) that other hosts dial."""
        return self._address

    def ready(self) -> bool:
        """Whether every neighbour's link is up and measured."""
        return self._engine.ready()

    def readers(self, channel: ChannelName) -> int:
        """Number of readers that this host feeds a channel to: children and local subscribers."""
        children = sum(len(branch.children) for branch in self.view().branches if branch.channel == channel)
        return children + self._local_subscribers.count(channel)

    def upstream_ms(self, channel: ChannelName) -> float | None:
        """One-way delay, ms, of the link to a channel's parent; None where it is not measured."""
        view = self.view()
        upstream = next((branch.upstream for branch in view.branches if branch.channel == channel), None)
        return next((link.one_way_ms for link in view.links if link.host == upstream), None)

    def send_rates_bps(self, channel: ChannelName) -> list[float]:
        """Rates, bit/s, that congestion control allows to each child of a channel, where known."""
        return self._plane.channels.send_rates_bps(channel)

    @property
    def control_frames(self) -> int:
        """Frames of control messages sent so far, over all links."""
        return self._plane.links.frames_sent

    def copies(self) -> dict[ChannelName, CopyCount]:
        """Frames that crossed between Rust and Python, by channel."""
        return self._plane.channels.copies

    async def publish(
        self,
        channel: ChannelName,
        tracks: Sequence[TrackFormat],
        tree: Tree = Tree.HYBRID,
        source: ChannelName | None = None,
    ) -> ChannelWriter:
        """Announces a channel and returns the writer for its frames.

        If a channel of the same name has just ended here, or has lost its publisher, waits up to ENDED_S until it is gone.

        Args:
            source: the channel that this one is derived from and that this host receives; None if it is not derived.

        Raises:
            DirectoryError: the super-node refuses the channel.
            TokenError: the token does not allow it.
            MediaError: a track cannot be carried.
            UsageError: this host carries the channel already.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(ENDED_S):
                while self._engine.is_ending(channel):
                    self._changed.clear()
                    await self._changed.wait()
        if any(branch.channel == channel for branch in self.view().branches):
            raise UsageError(f"this host carries {channel} already; publish under another name")
        origin, copies = self._plane.channels.origin(channel), self._plane.channels.copy_count(channel)
        self._handle(ev.PublishRequested(channel, tree, source))
        try:
            record = await self._directory_session.announced(channel)
            signer = ChannelSigner(self._key, Publication(channel, record.publication))
            writer = ChannelWriter(origin, tracks, copies, signer)
        except BaseException:  # a cancelled caller too; PublishFinished withdraws what may have been announced already
            self._directory_session.forget(channel)
            self._handle(ev.PublishFinished(channel))
            self._plane.drop_channel(channel)
            raise
        self._writers[channel] = writer
        return writer

    def processed(self, channel: ChannelName, delay_ms: float, spread_ms: float) -> None:
        """Reports the processing time of a derived channel, which its promised delays include."""
        self._handle(ev.ProcessingMeasured(channel, delay_ms, spread_ms))

    async def finish(self, channel: ChannelName, writer: ChannelWriter) -> None:
        """Ends a published channel; waits up to LINGER_S until its children have received all of it."""
        writer.finish()
        self._writers.pop(channel, None)
        self._directory_session.forget(channel)
        self._handle(ev.PublishFinished(channel))
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while self.readers(channel):
                    self._changed.clear()
                    await self._changed.wait()
        writer.close()
        self._plane.drop_channel(channel)

    async def subscribe(self, channel: ChannelName, contract: Contract) -> Subscription:
        """Finds a path that keeps the contract, and joins the channel over it.

        Raises:
            ChannelUnknown: no host announces the channel.
            BoundRefused: no path keeps the contract; it carries a counter-offer.
            TokenError: the token does not allow it.
            DirectoryError: the super-node does not answer, or names no key of the publisher.
        """
        if not self._rights.may_subscribe(channel):
            raise TokenError(f"this token does not allow subscribing to {channel!r}")
        await self._ready()
        local, terms = await self._local_subscribers.admit(channel, contract)

        def release() -> None:
            self._local_subscribers.release(channel, local)

        try:
            verification = Verification(
                await self._publisher_key(channel),
                lambda newer_than: self._publisher_key(channel, newer_than),
                lambda fault: self._media_rejected(channel, fault),
            )
        except BaseException:
            release()
            raise
        copies = self._plane.channels.copy_count(channel)
        origin = self._plane.channels.origin(channel)
        reader = ChannelReader(origin, contract.bound_ms, copies, self.clock, verification)
        return Subscription(terms, reader, self._tasks, local, self.clock, release)

    async def _publisher_key(self, channel: ChannelName, newer_than: int = -1) -> PublisherKey:
        record = await self._directory_session.record(channel, newer_than)
        try:
            return PublisherKey(Publication(channel, record.publication), record.key)
        except ValueError as error:
            raise DirectoryError(f"the super-node names no public key for {channel}: {error}") from error

    def _media_rejected(self, channel: ChannelName, fault: Fault) -> None:
        parent = self._engine.upstream(channel)
        if parent is not None:
            self._handle(ev.MediaRejected(channel, parent, fault))

    async def _ready(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                while not self._engine.ready():
                    self._changed.clear()
                    await self._changed.wait()

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Listens, joins, and starts the background tasks.

        Raises:
            AddressError: the port cannot be bound.
            DirectoryError: the super-node refuses or does not answer.
            TokenError: the join token is not accepted.
        """
        bound = await self._plane.listen()
        self._address = await asyncio.to_thread(advertised_address, self.config, bound)  # a name may take seconds
        self._plane.open()
        answer = await self._directory_session.join(self._address, self._plane.fingerprint)
        self._rights.trust(Verifier(answer.public_key), self._plane.fingerprint)
        self._plane.trusted.set()
        self._background = [self._tasks.create_task(self._tick()), *self._directory_session.start()]

    async def stop(self) -> None:
        """Leaves the overlay: waits for children to find other parents, says goodbye, closes every session."""
        self._handle(ev.LeaveRequested())
        if self._background:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._left.wait(), HANDOVER_S)
        for task in self._background:
            task.cancel()
        await asyncio.sleep(0)
        await self._directory_session.leave()
        await self._plane.close()
        self._tasks.cancel_all()

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        due, late_ms = loop.time(), 0.0
        while True:
            children_ms = self._plane.channels.child_rtt_ms()
            for host, stats in self._plane.links.stats(self._engine.to_sample()).items():
                rtt_ms = children_ms.get(host, stats.rtt_ms)
                if rtt_ms is not None:
                    self._handle(ev.LinkSampled(host, rtt_ms, stats.packets_lost, stats.packets_sent))
            for (channel, upstream), stats in self._plane.parent_sessions.stats().items():
                self._handle(ev.MediaSampled(channel, upstream, stats.bytes_received))
            for channel, writer in self._writers.items():
                self._handle(ev.MediaSampled(channel, self.config.name, writer.bytes_written))
            self._local_subscribers.report_compliance()
            self._handle(ev.Tick(late_ms))
            scheduled = due + DEFAULT.tick_s
            due = max(scheduled, loop.time())
            await asyncio.sleep(due - loop.time())
            late_ms = 1000 * (loop.time() - scheduled)

    # ------------------------------------------------------------------ the engine's effects

    def _handle(self, *events: ev.Event) -> None:
        for event in events:
            self._apply(event)
        self._plane.links.flush()
        self._changed.set()

    def _apply(self, event: ev.Event) -> None:
        now = self.clock()
        effects = self._engine.handle(event, now)
        if self._trace is not None:
            self._trace.host(now, self._engine, event, effects)
        for effect in effects:
            self._perform(effect)

    def _perform(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Send(host, message):
                self._plane.links.send(host, self._rights.signed(message))
            case fx.Dial(record):
                self._plane.links.dial(record)
            case fx.HangUp(host):
                self._plane.links.hang_up(host)
            case fx.Resolve(channel):
                self._directory_session.resolve(channel)
            case fx.FindRoutes(channel, links_ms):
                self._directory_session.find_routes(channel, links_ms)
            case fx.Relocate(channel, bound_ms):
                self._directory_session.relocate(channel, bound_ms)
            case fx.Announce(channel, tree):
                self._directory_session.announce(channel, tree)
            case fx.Withdraw(channel):
                self._directory_session.withdraw(channel)
            case fx.Pull(channel, record, former_feeds):
                self._plane.parent_sessions.pull(channel, record, bridged=not former_feeds)
            case fx.Push(channel, record):
                self._plane.channels.push(channel, record)
            case fx.Prepare(channel, record):
                self._plane.standbys.prepare(channel, record)
            case fx.Rouse(channel, host):
                self._plane.standbys.start_media(channel, host)
            case fx.Evict(channel, host):
                self._plane.channels.evict(channel, host)
            case fx.StopPull(channel, host):
                if host is None:
                    self._plane.drop_channel(channel)
                else:
                    self._plane.stop_pull(channel, host)
            case fx.ParentChanged():
                self.on_parent_changed(effect)
            case fx.Suspect(host):
                self._directory_session.suspect(host)
            case fx.Report(record):
                self._directory_session.report(record)
            case fx.Leave():
                self._left.set()
            case fx.Admitted() | fx.Refused() | fx.NotFound() | fx.StreamEnded():
                self._local_subscribers.decided(effect)
            case _:
                assert_never(effect)
