"""The simulated super-node: a directory engine, its store, and the requests that hosts and owners of jobs send to it.

Requests arrive at once; answers and pushes take DIRECTORY_S. While it is stopped, and to hosts that a partition cuts off,
it does not answer. A restart begins with a new engine, restored from the store.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from cubecast.engine.directory import events as d
from cubecast.engine.directory.config import DirectoryConfig
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.directory.job_placement import AUTO
from cubecast.engine.host import events as ev
from cubecast.engine.protocol.job_records import Job, JobStatus
from cubecast.engine.protocol.records import ChannelRecord, HostRecord, Tree, Verdict
from cubecast.errors import DirectoryError
from cubecast.overlay.cube import Cube
from cubecast.simulation.shells.host import SimulatedHost, address_of, key_of
from cubecast.simulation.shells.network import SimulatedNetwork
from cubecast.simulation.shells.queue import EventQueue
from cubecast.simulation.shells.store import MemoryStore
from cubecast.tracing.writer import TraceWriter
from cubecast.types import ChannelName, HostId

DIRECTORY_S = 0.01
"""Time between a request and its answer, and between an effect and its push, s: chosen; far below a tick, as it is live."""
LEASE_TICK_S = 0.5
"""Time between two checks of leases, s; as in cubecast.supernode.service."""


@dataclass(frozen=True, slots=True)
class DirectorySetup:
    """How the directory engine is made; the same again after a restart.

    Attributes:
        cube: the shape the overlay begins with.
        seed: of its random numbers.
        config: tunables of the engine.
    """

    cube: Cube
    seed: int
    config: DirectoryConfig

    def engine(self, restarts: int) -> DirectoryEngine:
        """A new engine."""
        seed = [self.seed, 1, restarts] if restarts else [self.seed, 1]
        return DirectoryEngine(self.cube, np.random.default_rng(seed), self.config)


class SimulatedDirectory:
    """The super-node."""

    def __init__(
        self,
        setup: DirectorySetup,
        network: SimulatedNetwork,
        queue: EventQueue,
        handle: Callable[[HostId, ev.Event], None],
    ) -> None:
        """Running, with an empty store.

        Args:
            handle: gives a host an event.
        """
        self.engine = setup.engine(0)
        self.stopped = False
        self.restarts = 0
        self.writer: TraceWriter | None = None
        """Writes what the engine handles and decides to a file."""
        self.store = MemoryStore((setup.cube, 0))
        self.on_placed: Callable[[], None] = lambda: None
        """Called after every event by which a host got a new placement, and after a restart."""
        self._setup, self._network, self._queue, self._handle = setup, network, queue, handle
        self._modules: set[str] = set()
        """SHA-256 of the modules that owners have uploaded since the last start."""
        self._placing: set[HostId] = set()
        """Hosts to which a push of their placement is under way."""
        self._placed: dict[HostId, int] = {}
        """The version of the placement that was pushed to each host last since it connected."""
        self._queue.after(LEASE_TICK_S, self._lease_tick)

    # ------------------------------------------------------------------ start and stop

    def restore(self, hosts: Iterable[HostRecord]) -> None:
        """Begins with these hosts in the store, as after a restart."""
        for record in hosts:
            self.store.write(d.SaveHost(record))
        self._restore()

    def stop(self) -> None:
        """Stops: requests get no answer from now on; all that is not in the store is lost."""
        self.stopped = True

    def restart(self) -> None:
        """Starts again from the store."""
        self.stopped, self.restarts = False, self.restarts + 1
        self.engine = self._setup.engine(self.restarts)
        self._modules.clear()
        self._restore()
        self.on_placed()

    def _restore(self) -> None:
        channels: Iterable[ChannelRecord] = self.store.channels.values()
        self.engine.restore(self.store.shape, self.store.hosts.values(), channels, self._queue.now)

    def answers(self, here: SimulatedHost) -> bool:
        """Whether a host gets answers."""
        return not self.stopped and here.host not in self._network.island

    # ------------------------------------------------------------------ the engine

    def send(self, event: d.DirectoryEvent) -> list[d.DirectoryEffect]:
        """Gives the engine an event and performs its effects.

        Returns:
            The effects; answers among them are for the caller.

        Raises:
            DirectoryError: it refuses.
        """
        effects, placed = self.engine.handle(event, self._queue.now), False
        if self.writer is not None:
            self.writer.directory(self._queue.now, event, effects)
        for effect in effects:
            match effect:
                case d.PushPlacement(host):
                    placed = True
                    self._push_placement(host)
                case d.Advise(host, advice):
                    self._push(host, ev.Advised(advice))
                case d.AskProbes(host, others):
                    self._push(host, ev.ProbesWanted(others))
                case d.Assign(host, jobs):
                    self._queue.after(DIRECTORY_S, self._assign_now, host, jobs)
                case d.Answer() | d.AnswerRoutes():
                    pass
                case d.SaveShape() | d.SaveHost() | d.DeleteHost() | d.SaveChannel() | d.DeleteChannel():
                    self.store.write(effect)
                case unhandled:
                    assert_never(unhandled)
        if placed:
            self.on_placed()
        return effects

    def _push(self, host: HostId, event: ev.Event) -> None:
        self._queue.after(DIRECTORY_S, self._push_now, host, event)

    def _push_now(self, host: HostId, event: ev.Event) -> None:
        if host in self._network.hosts and self.answers(self._network.hosts[host]):
            self._handle(host, event)

    def _push_placement(self, host: HostId) -> None:
        if host not in self._placing:
            self._placing.add(host)
            self._queue.after(DIRECTORY_S, self._push_placement_now, host)

    def _push_placement_now(self, host: HostId) -> None:
        """Pushes a host's placement as it is now, unless it is the one that was pushed last."""
        self._placing.discard(host)
        here = self._network.hosts.get(host)
        if here is None or not self.answers(here) or host not in self.engine.members:
            return
        placement = self.engine.placement(host)
        if self._placed.get(host) != placement.version:
            self._placed[host] = placement.version
            self._handle(host, ev.Placed(placement))

    def _assign_now(self, host: HostId, jobs: tuple[Job, ...]) -> None:
        here = self._network.hosts.get(host)
        if here is not None and here.alive and self.answers(here):
            here.jobs.assign(jobs)

    def _lease_tick(self) -> None:
        if not self.stopped:
            self.send(d.LeaseTick())
        self._queue.after(LEASE_TICK_S, self._lease_tick)

    # ------------------------------------------------------------------ requests of hosts

    def report(self, here: SimulatedHost, event: d.DirectoryEvent) -> None:
        """Sends what needs no answer; a host that is unknown, or that is refused, joins again."""
        if not self.answers(here):
            return
        try:
            self.send(event)
        except DirectoryError:
            self.join(here, "")

    def join(self, here: SimulatedHost, seat: str) -> None:
        """Requests a place; `seat` is a label spelled in digits, or empty for any."""
        if self.answers(here):
            seen = here.host not in self._network.hidden
            address = address_of(here.number)
            self._placed.pop(here.host, None)
            self.send(d.HostJoined(here.host, address, "f" * 64, key_of(here.host), here.fan_out, seat, seen))

    def connect(self, here: SimulatedHost) -> None:
        """A host that is known already connects for pushes: it gets its placement, and its jobs if they are known."""
        here.connected_to = self.restarts
        if here.host in self.engine.members:
            self._placed.pop(here.host, None)
            self._push_placement(here.host)
            if self.engine.jobs.settled(self._queue.now):
                self._queue.after(DIRECTORY_S, self._assign_now, here.host, self.engine.jobs.of(here.host))

    def refresh(self, here: SimulatedHost) -> None:
        """Renews a host's lease and sends its reports."""
        if self.answers(here) and here.connected_to != self.restarts:
            self.connect(here)
        self.report(here, d.HostRefreshed(here.host))
        self.report(here, d.LinksReported(here.host, here.engine.links_ms()))
        suspects, here.suspects = here.suspects, set()
        for suspect in sorted(suspects):
            self.report(here, d.HostSuspected(suspect, here.host))
        if here.jobs.slots or here.jobs.running:  # else there is nothing to report: no slots is the engine's default
            self.report(here, d.JobsReported(here.host, here.jobs.slots, here.jobs.reports()))
        if here.announced and self.answers(here):
            for channel in sorted(here.announced.keys() - set(self.engine.channels_of(here.host))):
                self.announce(here, channel, here.announced[channel])

    def announce(self, here: SimulatedHost, channel: ChannelName, tree: Tree) -> str:
        """Announces a channel.

        Returns:
            Why it is refused; empty when it is accepted.
        """
        if not self.answers(here):
            return "the super-node does not answer"
        if channel in here.jobs.running and not self.engine.jobs.derives(here.host, channel):
            return f"this host's token does not allow publishing {channel}"
        try:
            self.send(d.ChannelAnnounced(here.host, channel, tree))
        except DirectoryError as error:
            return str(error)
        return ""

    def resolve(self, here: SimulatedHost, channel: ChannelName) -> None:
        """Answers where a channel is published."""
        if self.answers(here):
            self._queue.after(DIRECTORY_S, self._resolve, here, channel)

    def _resolve(self, here: SimulatedHost, channel: ChannelName) -> None:
        record = self.engine.channels.get(channel)
        if record is None:
            self.send(d.UnknownChannelRequested(here.host, channel))
            self._handle(here.host, ev.ChannelNotFound(channel, tuple(self.engine.channels)))
        else:
            proposals = self.engine.proposals(here.host, channel)
            self._handle(here.host, ev.ChannelResolved(record, proposals))

    def find_routes(self, here: SimulatedHost, channel: ChannelName, links_ms: Mapping[HostId, float]) -> None:
        """Answers which ways lead to a channel over hosts that need not carry it yet."""
        if self.answers(here):
            self._queue.after(DIRECTORY_S, self._find_routes, here, channel, links_ms)

    def _find_routes(self, here: SimulatedHost, channel: ChannelName, links_ms: Mapping[HostId, float]) -> None:
        found = ev.RoutesFound(channel, None)
        with suppress(DirectoryError):
            for effect in self.send(d.RoutesWanted(here.host, channel, links_ms)):
                if isinstance(effect, d.AnswerRoutes):
                    found = ev.RoutesFound(channel, effect.answer)
        self._handle(here.host, found)

    def relocate(self, here: SimulatedHost, channel: ChannelName, bound_ms: float) -> None:
        """Answers whether a host is moved nearer to a channel's publisher."""
        if self.answers(here):
            self._queue.after(DIRECTORY_S, self._relocate, here, channel, bound_ms)

    def _relocate(self, here: SimulatedHost, channel: ChannelName, bound_ms: float) -> None:
        verdict = Verdict.STAYS
        with suppress(DirectoryError):  # its lease has ended meanwhile: a live session then answers for the super-node
            for effect in self.send(d.RelocationWanted(here.host, channel, bound_ms)):
                if isinstance(effect, d.Answer):
                    verdict = effect.verdict
        self._handle(here.host, ev.Relocated(channel, verdict))

    # ------------------------------------------------------------------ requests of owners of jobs

    def want_job(self, job: Job) -> JobStatus | None:
        """Requests or renews a job at any host, and uploads its module if that is missing.

        Returns:
            Its state; None while the super-node is stopped.

        Raises:
            DirectoryError: the job is refused.
        """
        if self.stopped:
            return None
        self.send(d.JobWanted(job, AUTO, job.extension in self._modules))
        if self.engine.jobs.status(job.channel).module_wanted:
            self._modules.add(job.extension)
            self.send(d.JobWanted(job, AUTO, has_module=True))
        return self.engine.jobs.status(job.channel)

    def end_job(self, job: Job) -> None:
        """Ends a job of this owner."""
        if not self.stopped:
            self.send(d.JobEnded(job.channel, job.owner))

    def has_module(self, here: SimulatedHost, digest: str) -> bool:
        """Whether a host can fetch a module from here."""
        return self.answers(here) and digest in self._modules
