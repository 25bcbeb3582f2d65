"""A host of the overlay: the interface for its user."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from cubecast.client.derivation import Derivation
from cubecast.client.event_stream import EventStream
from cubecast.client.events import Carrying, ChannelFailed, Event, HostStatus, Joined, Notice, ParentChanged, Waiting
from cubecast.client.publication import Content, Publication, check_content
from cubecast.client.ranges import checked_choice, checked_contract
from cubecast.client.recording import Output, Recording
from cubecast.client.settings import host_config
from cubecast.client.status import STATUS_S, host_status
from cubecast.client.subscription import Subscription
from cubecast.engine.host import effects as fx
from cubecast.engine.protocol.ranges import NUMBER_MAX
from cubecast.engine.protocol.records import FAN_OUT_DEFAULT, Tree
from cubecast.errors import ChannelUnknown, CubecastError, UsageError
from cubecast.host.config import HostConfig
from cubecast.host.open_host import open_host
from cubecast.host.runtime import HostRuntime
from cubecast.names import check_name
from cubecast.overlay.cube import Cube, format_label
from cubecast.overlay.routing import Policy
from cubecast.types import ChannelName, HostId

RETRY_S = 3.0
"""Interval, s, at which a channel that is not announced yet is requested again."""


class ChannelWork(Protocol):
    """A publication or recording that `Host.run_all` runs."""

    @property
    def channel(self) -> ChannelName:
        """Its channel."""

    async def run(self) -> None:
        """Runs to its end."""


class Host:
    """A host that has joined the overlay; made by `join`. It relays channels for others as long as it runs."""

    def __init__(self, runtime: HostRuntime, emit: Callable[[Event], None], stream: EventStream | None) -> None:
        self._runtime, self._emit, self._stream = runtime, emit, stream
        self._publications: list[Publication] = []

    @property
    def name(self) -> HostId:
        """Its name, unique in the overlay."""
        return self._runtime.config.name

    @property
    def address(self) -> str:
        """HOST:PORT (UDP) that other hosts dial."""
        return self._runtime.address

    def status(self) -> HostStatus:
        """Its links, and the channels that it carries."""
        return host_status(self._runtime)

    def clock(self) -> float:
        """Its clock: s since the Unix epoch when it started, and from then on without steps."""
        return self._runtime.clock()

    async def events(self) -> AsyncGenerator[Event]:
        """Everything that the host reports, from Joined on, until it leaves; for one reader.

        At most EVENTS_MAX events wait for the reader. If it is too slow the oldest are dropped, and an EventsDropped
        reports their number.

        Raises:
            UsageError: the host was joined with `on_event`, which gets the events.
        """
        if self._stream is None:
            raise UsageError("the events of this host go to on_event; join without it to iterate over them")
        async for event in self._stream.events():
            yield event

    def publish(
        self,
        channel: str,
        content: Content,
        *,
        tree: Tree = Tree.HYBRID,
        before_start: Callable[[], Awaitable[None]] | None = None,
    ) -> Publication:
        """Publishes a channel: `await host.publish(...)`, or `async with host.publish(...) as publication`.

        Args:
            channel: letters, digits, dots, dashes and underscores; unique in the overlay.
            content: a file, URL or pipe by its location, or a Source, sent in real time; or tracks, for frames that are
                sent with Publication.write.
            tree: how hosts choose their parents.
            before_start: awaited between the announcement and the first frame of a source.

        Raises:
            UsageError: an argument has no meaning. What else can go wrong is raised by Publication.start.
        """
        check_name("channel name", channel)
        check_content(channel, content)
        tree = checked_choice("tree", tree, Tree)
        publication = Publication(self._runtime, self._emit, ChannelName(channel), content, tree, before_start)
        self._publications = [each for each in self._publications if not each.closed] + [publication]
        return publication

    def subscribe(self, channel: str, bound_ms: float, *, rate_bps: float = 0.0, loss: float = 1.0) -> Subscription:
        """A subscription: iterate over its frames, or use it as an async context manager to learn the terms first.

        Args:
            channel: its name.
            bound_ms: greatest delay from capture to arrival, ms.
            rate_bps: least rate, bit/s; 0 for any.
            loss: greatest share of packets lost on the path, and of frames late or lost, 0..1; 1 for any.

        Raises:
            UsageError: an argument has no meaning. What else can go wrong is raised by Subscription.open.
        """
        check_name("channel name", channel)
        contract = checked_contract(channel, bound_ms, rate_bps, loss)
        return Subscription(self._runtime, self._emit, ChannelName(channel), contract)

    def record(self, subscription: Subscription, output: Output | str | Path) -> Recording:
        """A subscription whose frames go to a file or pipe: `await host.record(host.subscribe(...), "news.ts").run()`.

        Raises:
            MediaError: the output cannot be written.
        """
        return Recording(subscription, output if isinstance(output, Output) else Output(output), self._emit)

    async def process(self, derivation: Derivation) -> None:
        """Makes a derived channel here, until its source ends.

        Raises:
            SubscriptionError: the source cannot be received within its contract, or the stream broke.
            ExtensionRefused: the extension cannot start.
            ExtensionFailed: it failed, and its manifest says that the channel then ends.
            DirectoryError: the derived channel is refused.
        """
        await derivation.run(self._runtime, self._emit)

    async def run_all(self, works: Sequence[ChannelWork]) -> None:
        """Runs publications and recordings at the same time, each to its end.

        One that fails does not stop the others: a ChannelFailed reports it. A channel that is not announced yet is
        requested again every 3 s.
        """
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(self._run_one(work))

    async def report_status(self) -> None:
        """Reports a HostStatus every 0.5 s, and Carrying when the carried channels change, until cancelled."""
        before: dict[ChannelName, int] = {}
        while True:
            await asyncio.sleep(STATUS_S)
            status = self.status()
            children = {channel: len(each.children) for channel, each in status.channels.items()}
            if children != before:
                self._emit(Carrying(children))
            self._emit(status)
            before = children

    async def _run_one(self, work: ChannelWork) -> None:
        recording = work if isinstance(work, Recording) else None
        try:
            await self._until_announced(work.channel, work.run if recording is None else recording.attempt)
        except CubecastError as error:
            self._emit(ChannelFailed(work.channel, str(error)))
        finally:
            if recording is not None:
                recording.output.abandon()

    async def _until_announced(self, channel: ChannelName, attempt: Callable[[], Awaitable[None]]) -> None:
        """Tries again every RETRY_S while the channel is not announced."""
        waiting = False
        while True:
            try:
                return await attempt()
            except ChannelUnknown:
                if not waiting:
                    self._emit(Waiting(channel))
                waiting = True
                await asyncio.sleep(RETRY_S)

    async def end_publications(self) -> None:
        """Ends the publications that are still open."""
        await asyncio.gather(*(publication.abort() for publication in self._publications))


@asynccontextmanager
async def _joined(config: HostConfig, on_event: Callable[[Event], None] | None) -> AsyncIterator[Host]:
    stream = EventStream()
    emit = on_event or stream.put
    try:
        async with open_host(config, lambda line: emit(Notice(line))) as runtime:
            host = Host(runtime, emit, None if on_event else stream)
            emit(_joined_event(runtime))
            runtime.on_parent_changed = lambda change: emit(_parent_event(runtime, change))
            try:
                yield host
            finally:
                await host.end_publications()
    finally:
        stream.close()


def _joined_event(runtime: HostRuntime) -> Joined:
    placement = runtime.placement
    cube = Cube(placement.radix, placement.dimensions)
    return Joined(runtime.config.name, placement.seat, format_label(cube, placement.seat), str(cube), runtime.address)


def _parent_event(runtime: HostRuntime, change: fx.ParentChanged) -> ParentChanged:
    return ParentChanged(runtime.clock(), change.channel, change.before, change.after, change.reason)


def join(
    supernode: str | None = None,
    token: str | Path | None = None,
    *,
    name: str = "",
    listen: str = "0.0.0.0:0",
    advertise: str = "",
    source_address: str = "",
    label: str = "",
    fan_out: int = FAN_OUT_DEFAULT,
    uplink_bps: float = NUMBER_MAX,
    reserve: Mapping[str, int] | None = None,
    policy: Policy = Policy.GREEDY,
    seed: int = 0,
    process: int = 0,
    key: str | Path | None = None,
    trace: str | Path | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> AbstractAsyncContextManager[Host]:
    """Joins the overlay as a host for the duration of the block: `async with cubecast.join() as host`.

    Args:
        supernode: URL of the super-node; None takes CUBECAST_SUPERNODE, and without that one on this machine.
        token: a join token, @FILE or a path; None takes CUBECAST_TOKEN, and without that the token that a super-node on
            this machine has left.
        name: unique in the overlay; by default the machine's name and a random number.
        listen: HOST:PORT of the data plane, UDP; with port 0 the system chooses a free one.
        advertise: HOST:PORT that others dial, if it is not the address listened on.
        source_address: HOST that outgoing sessions come from; empty leaves the choice to the system.
        label: requested seat in the cube, digits; empty accepts any.
        fan_out: maximum number of copies that this host sends, over all channels.
        uplink_bps: maximum rate of all copies together, bit/s.
        reserve: number of copies that are reserved for a channel, by channel.
        policy: how the next hop towards a publisher is chosen.
        seed: seed of the random policy.
        process: maximum number of extensions that this host runs for others at a time.
        key: PEM file of the host's private key, made if it does not exist. A name belongs to its key; by default each name has
            a key of its own on this machine.
        trace: file to which what the engine handles and decides is appended, for `cubecast trace explain`.
        on_event: called with every event; without it they can be read from Host.events.

    Raises:
        UsageError: an argument has no meaning; raised by the call itself.
        AddressError: the port cannot be bound; this and the rest are raised when the block is entered.
        DirectoryError: the super-node refuses the host or does not answer.
        TokenError: the token is not accepted.
    """
    config = host_config(
        supernode,
        token,
        name=name,
        listen=listen,
        advertise=advertise,
        source_address=source_address,
        label=label,
        fan_out=fan_out,
        uplink_bps=uplink_bps,
        reserve=reserve,
        policy=policy,
        seed=seed,
        process=process,
        key=key,
        trace=trace,
    )
    return _joined(config, on_event)
