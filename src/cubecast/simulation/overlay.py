"""A simulated overlay: host engines and a directory engine joined by a simulated network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from cubecast.engine.directory.config import DIRECTORY_DEFAULTS, DirectoryConfig
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT, EngineConfig
from cubecast.engine.host.engine import HostEngine
from cubecast.engine.protocol.ranges import NUMBER_MAX
from cubecast.overlay.cube import Cube
from cubecast.overlay.routing import Policy
from cubecast.simulation.shells.directory import DirectorySetup, SimulatedDirectory
from cubecast.simulation.shells.host import SimulatedHost
from cubecast.simulation.shells.host_shell import HostShell
from cubecast.simulation.shells.jobs import HostJobs, ProcessingOffer
from cubecast.simulation.shells.media import MediaSessions
from cubecast.simulation.shells.network import SimulatedNetwork
from cubecast.simulation.shells.queue import EventQueue
from cubecast.simulation.shells.subscribers import LocalSubscribers
from cubecast.tracing.writer import TraceWriter
from cubecast.types import ChannelName, Floats, HostId

NO_PROCESSING = ProcessingOffer()
"""Of a host that runs no extension for others: no slots."""


@dataclass(frozen=True, slots=True)
class _JobServices:
    """See JobServices."""

    overlay: "SimulatedOverlay"
    host: HostId

    def handle(self, event: ev.Event) -> None:
        self.overlay.handle(self.host, event)

    def flows(self, channel: ChannelName) -> bool:
        return self.overlay.flows(self.host, channel)

    def has_module(self, digest: str) -> bool:
        return self.overlay.supernode.has_module(self.overlay.hosts[self.host], digest)

    def announce_refused(self, channel: ChannelName) -> str:
        return self.overlay.shell.announce_refused(self.host, channel)


class SimulatedOverlay:
    """Hosts, the super-node and the network between them."""

    def __init__(
        self,
        delay_ms: Floats,
        cube: Cube,
        policy: Policy = Policy.GREEDY,
        seed: int = 0,
        config: EngineConfig = DEFAULT,
        directory_config: DirectoryConfig = DIRECTORY_DEFAULTS,
        *,
        wire: bool = True,
    ) -> None:
        """No host has joined yet.

        Args:
            delay_ms: shape (n, n), one-way delays between the places that hosts may have.
            seed: of seats, policies, losses and the moments of ticks.
            config: tunables of the hosts' engines; with longer ticks, everything counted in ticks takes longer.
            wire: whether messages are encoded and decoded on the way, as between real hosts.
            directory_config: tunables of the directory's engine.
        """
        self.config, self.tick_s, self.policy, self.seed = config, config.tick_s, policy, seed
        self.directory_config = directory_config
        self._rng = np.random.default_rng([seed, 2])
        self.queue = EventQueue()
        self.network = SimulatedNetwork(delay_ms, self.queue, self._rng, self._deliver, wire=wire)
        self.hosts = self.network.hosts
        self.media = MediaSessions(self.network, self.queue, self._deliver)
        setup = DirectorySetup(cube, seed, directory_config)
        self.supernode = SimulatedDirectory(setup, self.network, self.queue, self._deliver)
        self.shell = HostShell(self.network, self.media, self.supernode, self.queue, self._deliver, config.tick_s)
        self.engine_events = 0
        """Number of events that host engines have handled."""
        self.check: Callable[[SimulatedHost], None] | None = None
        """Called after every event that a host has handled."""
        self.writer: TraceWriter | None = None
        """Writes what all hosts handle and decide to a file."""
        self.trace: Callable[[SimulatedHost, ev.Event, list[fx.Effect]], None] | None = None
        """Called with every event that a host has handled, and its effects."""

    # ------------------------------------------------------------------ state

    @property
    def now(self) -> float:
        """Simulated time, s."""
        return self.queue.now

    @property
    def directory(self) -> DirectoryEngine:
        """The engine of the super-node; another one after a restart."""
        return self.supernode.engine

    @property
    def hidden(self) -> set[HostId]:
        """See SimulatedNetwork."""
        return self.network.hidden

    @hidden.setter
    def hidden(self, hosts: set[HostId]) -> None:
        self.network.hidden = hosts

    @property
    def island(self) -> set[HostId]:
        """See SimulatedNetwork."""
        return self.network.island

    @island.setter
    def island(self, hosts: set[HostId]) -> None:
        self.network.island = hosts

    @property
    def loss(self) -> float:
        """See SimulatedNetwork."""
        return self.network.loss

    @loss.setter
    def loss(self, share: float) -> None:
        self.network.loss = share

    @property
    def delay_ms(self) -> Floats:
        """See SimulatedNetwork."""
        return self.network.delay_ms

    @delay_ms.setter
    def delay_ms(self, delay_ms: Floats) -> None:
        self.network.delay_ms = delay_ms

    @property
    def messages(self) -> int:
        """Number of messages that hosts have sent."""
        return self.network.messages

    def delay_s(self, a: HostId, b: HostId) -> float:
        """One-way delay, s."""
        return self.network.delay_s(a, b)

    def flows(self, host: HostId, channel: ChannelName) -> bool:
        """Whether a channel's media reaches a host."""
        return self.media.flows(host, channel)

    # ------------------------------------------------------------------ hosts

    def run(self, seconds: float) -> None:
        """Advances simulated time."""
        self.queue.run(seconds)

    def join(
        self,
        host: HostId,
        index: int,
        fan_out: int = 8,
        seat: str = "",
        uplink_bps: float = NUMBER_MAX,
        reserve: Mapping[ChannelName, int] = MappingProxyType({}),
        processing: ProcessingOffer = NO_PROCESSING,
    ) -> SimulatedHost:
        """Starts a host, at a row of the delay matrix; one that the super-node was restored with has its seat already.

        Args:
            fan_out, uplink_bps, reserve: as the engine takes them.
            seat: the label it asks for, spelled in digits; empty for any.
            processing: its offer to process for others.
        """
        rng = np.random.default_rng([self.seed, 3, index])
        engine = HostEngine(host, self.policy, fan_out, rng, self.config, uplink_bps, reserve)
        services = _JobServices(self, host)
        subscribers = LocalSubscribers(engine, self.queue, services.handle)
        jobs = HostJobs(processing, engine, subscribers, services)
        here = self.hosts[host] = SimulatedHost(host, len(self.hosts), index, fan_out, engine, subscribers, jobs)
        here.connected_to = self.supernode.restarts
        if host in self.directory.members:
            self.supernode.connect(here)
        else:
            self.supernode.join(here, seat)
        self.shell.start(here, self._rng)
        return here

    def crash(self, host: HostId) -> None:
        """Crashes a host, as kill -9 does: it sends nothing any more."""
        self.hosts[host].alive = False

    def leave(self, host: HostId) -> None:
        """The host begins to leave; it stops when its children have other parents."""
        self.handle(host, ev.LeaveRequested())

    def stall(self, host: HostId) -> None:
        """Stalls a host, as SIGSTOP does."""
        self.hosts[host].stalled = True

    def resume(self, host: HostId) -> None:
        """Resumes a stalled host, as SIGCONT does: events that arrived meanwhile are handled now."""
        here = self.hosts[host]
        here.stalled = False
        waiting, here.frozen = here.frozen, []
        for event in waiting:
            self.handle(host, event)

    def handle(self, host: HostId, event: ev.Event) -> None:
        """Gives a host an event and performs the effects; a dead host gets none, a stalled one later."""
        here = self.hosts[host]
        if not here.alive:
            return
        if here.stalled:
            here.frozen.append(event)
            return
        self.engine_events += 1
        effects = here.engine.handle(event, self.queue.now)
        if self.writer is not None:
            self.writer.host(self.queue.now, here.engine, event, effects)
        if self.trace is not None:
            self.trace(here, event, effects)
        for effect in effects:
            self.shell.perform(here, effect)
        if self.check is not None:
            self.check(here)

    def _deliver(self, host: HostId, event: ev.Event) -> None:
        """Calls `handle` as it is now, so that a test can replace it after the shells were made."""
        self.handle(host, event)
