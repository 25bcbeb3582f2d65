"""A live host: reports what happens to its engine, and performs what the engine says. It decides nothing itself."""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

import numpy as np

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT
from cubecast.engine.host.engine import HostEngine
from cubecast.engine.host.snapshot import HostView
from cubecast.engine.protocol import messages
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import Placement, Tree
from cubecast.errors import (
    AddressError,
    CubecastError,
    MessageError,
    TokenError,
    UsageError,
)
from cubecast.frames import TrackFormat
from cubecast.host.channel.reader import ChannelReader
from cubecast.host.channel.tracks import ChannelWriter, CopyCount
from cubecast.host.config import HostConfig
from cubecast.host.directory.client import DirectoryClient, supernode_url
from cubecast.host.directory.session import DirectorySession, JobRunner
from cubecast.host.local.subscribers import LocalSubscribers
from cubecast.host.local.subscription import Subscription
from cubecast.host.media.dataplane import DataPlane
from cubecast.host.media.links import LEFT
from cubecast.host.tasks import Tasks
from cubecast.tokens import Verifier
from cubecast.types import ChannelName, HostId

READY_S = 8.0
"""A subscriber waits this long for its neighbours' links before it searches with those it has."""
HANDOVER_S = DEFAULT.leave_s + 1.0
LINGER_S = 10.0
"""A publisher that has finished stays this long for children that have not."""
ENDED_S = LINGER_S + DEFAULT.drain_s
"""After so long nothing is left of a channel that has ended."""
UNREACHED_MAX = 1024
UNREACHED_TOLD = 3
"""Failed dials in a row after which the user is told."""


class HostRuntime:
    """One running host; made by `running` (cubecast.host.open_host)."""

    def __init__(
        self,
        config: HostConfig,
        client: DirectoryClient,
        tasks: Tasks,
        notify: Callable[[str], None],
        work: JobRunner,
    ) -> None:
        self.config = config
        self._tasks = tasks
        self.notify = notify
        """Tells the user one line."""
        self._engine = HostEngine(
            config.name,
            config.policy,
            config.fan_out,
            np.random.default_rng(config.seed),
            uplink_bps=config.uplink_bps,
            reserve=config.reserve,
        )
        source = f"{config.source}:0" if config.source else ""
        self._plane = DataPlane(config.listen, source, config.name, client.identity, self, tasks)
        self._verifier: Verifier | None = None
        self._address = ""
        self._started = (time.time(), time.monotonic())
        self._directory_session = DirectorySession(
            config, client, tasks, notify, self._handle, self._engine.links_ms, work
        )
        self._local_subscribers = LocalSubscribers(self._handle, self._engine.metrics, self._directory_session.failure)
        self._writers: dict[ChannelName, ChannelWriter] = {}
        self._unreached: dict[HostId, int] = {}
        self._background: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._left = asyncio.Event()
        self.refused_messages = 0
        self.on_parent_changed: Callable[[fx.ParentChanged], None] = lambda _: None
        """Told whenever a channel gets another parent."""

    # ------------------------------------------------------------------ for the command line

    def clock(self) -> float:
        """This host's clock: s since the Unix epoch at start, never stepping back."""
        wall, monotonic = self._started
        return wall + time.monotonic() - monotonic

    def view(self) -> HostView:
        """A picture of the engine."""
        return self._engine.view()

    @property
    def placement(self) -> Placement:
        """This host's place, as the super-node last told it."""
        placement = self._engine.placement
        assert placement is not None, "start() has joined"
        return placement

    @property
    def address(self) -> str:
        """Where others dial this host."""
        return self._address

    def ready(self) -> bool:
        """Whether every neighbour's link is up and measured."""
        return self._engine.ready()

    def readers(self, channel: ChannelName) -> int:
        """Who is fed a channel from here: children, and a local subscriber."""
        children = sum(len(branch.children) for branch in self.view().branches if branch.channel == channel)
        return children + self._local_subscribers.count(channel)

    def upstream_ms(self, channel: ChannelName) -> float | None:
        """One-way delay of the link a channel comes over; None where none is measured."""
        view = self.view()
        upstream = next((branch.upstream for branch in view.branches if branch.channel == channel), None)
        return next((link.one_way_ms for link in view.links if link.host == upstream), None)

    def send_rates_bps(self, channel: ChannelName) -> list[float]:
        """What congestion control lets each child of a channel have, as far as it knows."""
        return self._plane.channels.send_rates_bps(channel)

    def copies(self) -> dict[ChannelName, CopyCount]:
        """Frames that crossed into Python, by channel."""
        return self._plane.channels.copies

    async def publish(
        self,
        channel: ChannelName,
        tracks: Sequence[TrackFormat],
        tree: Tree = Tree.HYBRID,
        source: ChannelName | None = None,
    ) -> ChannelWriter:
        """Announces a channel; frames go to the writer. One of the same name that has just ended here is waited for.

        Args:
            source: a channel this host receives, which this one is made from.

        Raises:
            DirectoryError: the super-node refuses the channel.
            TokenError: the token does not allow it.
            MediaError: a track cannot be carried.
            UsageError: this host carries the channel already.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(ENDED_S):
                while self._engine.ends(channel):
                    self._changed.clear()
                    await self._changed.wait()
        if any(branch.channel == channel for branch in self.view().branches):
            raise UsageError(f"this host carries {channel} already; publish under another name")
        writer = ChannelWriter(self._plane.channels.origin(channel), tracks, self._plane.channels.copy_count(channel))
        self._handle(ev.PublishRequested(channel, tree, source))
        try:
            await self._directory_session.announced(channel)
        except CubecastError:
            self._directory_session.forget(channel)
            writer.finish()
            writer.close()
            self._handle(ev.PublishFinished(channel))
            self._plane.drop_channel(channel)
            raise
        self._writers[channel] = writer
        return writer

    def processed(self, channel: ChannelName, delay_ms: float, spread_ms: float) -> None:
        """What making a derived channel takes: promises count it in."""
        self._handle(ev.ProcessingMeasured(channel, delay_ms, spread_ms))

    async def finish(self, channel: ChannelName, writer: ChannelWriter) -> None:
        """Ends a published channel and waits for the children to have it all."""
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
        """Finds a path that keeps the contract and joins it.

        Raises:
            ChannelUnknown: nobody announces the channel.
            BoundRefused: no path keeps the contract; it carries a counter-offer.
            TokenError: the token does not allow it.
            DirectoryError: the super-node does not answer.
        """
        await self._ready()
        local, terms = await self._local_subscribers.admit(channel, contract)
        copies = self._plane.channels.copy_count(channel)
        reader = ChannelReader(self._plane.channels.origin(channel), contract.bound_ms, copies, self.clock)
        return Subscription(
            terms, reader, self._tasks, local, self.clock, lambda: self._local_subscribers.release(channel, local)
        )

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
        self._address = self.config.advertise or _reachable(self.config, bound)
        answer = await self._directory_session.join(self._address, self._plane.fingerprint)
        self._verifier = Verifier(bytes.fromhex(answer.public_key))
        self._plane.open_for(self._verifier)
        self._background = [self._tasks.create_task(self._tick()), *self._directory_session.start()]

    async def stop(self) -> None:
        """Leaves the overlay: waits for children to find other parents, tells everyone, closes every session."""
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
            for host, stats in self._plane.links.stats(self._engine.to_sample()).items():
                if stats.rtt_ms is not None:
                    self._handle(ev.LinkSampled(host, stats.rtt_ms, stats.packets_lost, stats.packets_sent))
            for (channel, upstream), stats in self._plane.parent_sessions.stats().items():
                self._handle(ev.MediaSampled(channel, upstream, stats.bytes_received))
            for channel, writer in self._writers.items():
                self._handle(ev.MediaSampled(channel, self.config.name, writer.bytes_written))
            self._local_subscribers.tell()
            self._handle(ev.Tick(late_ms))
            wanted = due + DEFAULT.tick_s
            due = max(wanted, loop.time())
            await asyncio.sleep(due - loop.time())
            late_ms = 1000 * (loop.time() - wanted)

    # ------------------------------------------------------------------ the engine's effects

    def _handle(self, event: ev.Event) -> None:
        for effect in self._engine.handle(event, self.clock()):
            self._perform(effect)
        self._changed.set()

    def _perform(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Send(host, message):
                self._plane.links.send(host, messages.encode(message))
            case fx.Dial(record):
                self._plane.links.dial(record)
            case fx.HangUp(host):
                self._plane.links.hang_up(host)
            case fx.Resolve(channel):
                self._directory_session.resolve(channel)
            case fx.Relocate(channel, bound_ms):
                self._directory_session.relocate(channel, bound_ms)
            case fx.Announce(channel, tree):
                self._directory_session.announce(channel, tree)
            case fx.Withdraw(channel):
                self._directory_session.withdraw(channel)
            case fx.Pull(channel, record, fed):
                self._plane.parent_sessions.pull(channel, record, bridged=not fed)
            case fx.Push(channel, record):
                self._plane.channels.push(channel, record)
            case fx.Prepare(channel, record):
                self._plane.standbys.prepare(channel, record)
            case fx.Rouse(channel, host):
                self._plane.standbys.rouse(channel, host)
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

    # ------------------------------------------------------------------ what the data plane tells (Hooks)

    def link_up(self, host: HostId) -> None:
        """See Hooks."""
        self._unreached.pop(host, None)
        self._handle(ev.LinkUp(host))

    def link_down(self, host: HostId, reason: str) -> None:
        """See Hooks."""
        if reason != LEFT and len(self._unreached) < UNREACHED_MAX:
            self._unreached[host] = self._unreached.get(host, 0) + 1
            if self._unreached[host] == UNREACHED_TOLD:
                self.notify(f"cannot reach neighbour {host}: {reason}; check that its UDP port is open; trying on")
        self._handle(ev.LinkDown(host, reason))

    def message(self, host: HostId, payload: bytes) -> None:
        """See Hooks."""
        try:
            message = messages.decode(payload)
        except MessageError:
            self.refused_messages += 1  # the peer's mistake: drop it and go on
            return
        if (
            isinstance(message, messages.PathRequest | messages.Attach | messages.StandbyRequest)
            and self._verifier is not None
        ):
            try:
                subscriber = self._verifier.grant(message.grant, message.channel)
                if (subscriber, host) != (*message.trail[:1], *message.trail[-1:]):
                    raise TokenError("the grant is another subscriber's")
            except TokenError as error:
                refusal: messages.Message = messages.StandbyStatus(message.channel, ready=False)
                if not isinstance(message, messages.StandbyRequest):
                    refusal = messages.PathRefusal(message.ask, message.channel, str(error), 0)
                self._plane.links.send(host, messages.encode(refusal))
                return
        self._handle(ev.Received(host, message))

    def may_pull(self, channel: ChannelName, host: HostId) -> bool:
        """See Hooks."""
        return self._engine.may_pull(channel, host)

    def pulled(self, channel: ChannelName, host: HostId) -> None:
        """See Hooks."""
        self._handle(ev.Pulled(channel, host))

    def prepared(self, channel: ChannelName, host: HostId) -> None:
        """See Hooks."""
        self._handle(ev.Prepared(channel, host))

    def pull_failed(self, channel: ChannelName, host: HostId, reason: str) -> None:
        """See Hooks."""
        self._handle(ev.PullFailed(channel, host, reason))


def _reachable(config: HostConfig, bound: str) -> str:
    """The address peers should dial: the bound one, or this machine's on the way to the super-node."""
    host, _, port = bound.rpartition(":")
    if host not in ("0.0.0.0", "[::]", "::"):  # noqa: S104  compared, not bound
        return bound
    target = urlsplit(supernode_url(config.supernode)).hostname or "127.0.0.1"
    try:
        info = socket.getaddrinfo(target, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(info[0], socket.SOCK_DGRAM) as probe:
            probe.connect(info[4])
            name = str(probe.getsockname()[0])
    except OSError as error:
        raise AddressError(
            f"cannot tell this machine's address towards {target}: {error.strerror}; give it with --advertise"
        ) from error
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
