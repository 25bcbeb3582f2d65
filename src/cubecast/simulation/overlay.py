"""A simulated overlay: host engines and a directory engine over a matrix of delays.

Messages take their link's one-way delay, in order; some get lost, all do across a partition or to a dead host. A media
session opens after a few round trips when the parent confirmed it, and media flows where a chain of open sessions leads
to the publisher. The shell decides nothing: it does what the effects say, as cubecast.host does with sockets.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from cubecast.engine.directory.config import DIRECTORY_DEFAULTS, DirectoryConfig
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.directory.events import (
    Advise,
    Answer,
    AskProbes,
    ChannelAnnounced,
    ChannelWithdrawn,
    DirectoryEvent,
    HostJoined,
    HostLeft,
    HostRefreshed,
    HostSuspected,
    LeaseTick,
    LinksReported,
    PushPlacement,
    RelocationWanted,
    SubscriptionReported,
)
from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT, EngineConfig
from cubecast.engine.host.engine import HostEngine
from cubecast.engine.protocol.messages import Message, decode, encode
from cubecast.engine.protocol.path import NUMBER_MAX
from cubecast.engine.protocol.records import Verdict
from cubecast.errors import DirectoryError
from cubecast.overlay.cube import Cube
from cubecast.overlay.routing import Policy
from cubecast.simulation.queue import EventQueue
from cubecast.types import ChannelName, Floats, HostId

DIRECTORY_S = 0.01
REFRESH_S = 2.0
LEASE_TICK_S = 0.5
DIAL_ROUND_TRIPS = 3
"""A QUIC and MoQ handshake (docs/decisions/0010)."""
DIAL_S_MIN = 0.005
BRIDGE_S = 0.01
"""A standby is bridged in so long."""
DIAL_FAILS_S = 3.0
FRAME_BYTES = 1000
PACKETS = 100
"""A session sends so many between two looks at its statistics."""

Outcome = fx.Admitted | fx.Refused | fx.NotFound | fx.StreamEnded


@dataclass(slots=True)
class SimulatedHost:
    """One host: its engine and what its shell would hold."""

    host: HostId
    number: int
    index: int
    """Its place in the matrix of delays."""
    fan_out: int
    engine: HostEngine
    alive: bool = True
    stalled: bool = False
    """As SIGSTOP: nothing goes in or out, no tick goes by."""
    sessions: dict[ChannelName, dict[HostId, bool]] = field(default_factory=dict)
    """Media sessions by channel and parent; whether they are open."""
    prepared: set[tuple[ChannelName, HostId]] = field(default_factory=set)
    """Standbys that are open."""
    bytes: dict[ChannelName, int] = field(default_factory=dict)
    dialled: set[HostId] = field(default_factory=set)
    packets: dict[HostId, tuple[int, int]] = field(default_factory=dict)
    """Packets lost and sent, by session."""
    suspects: set[HostId] = field(default_factory=set)
    changes: int = 0
    """Changes of parents."""
    outcomes: list[Outcome] = field(default_factory=list)
    frozen: list[ev.Event] = field(default_factory=list)
    """What arrived while it was stalled."""


def address_of(number: int) -> str:
    """The address of a host, by its number."""
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:4443"


class SimulatedOverlay:
    """Hosts, the directory and the network between them."""

    def __init__(
        self,
        delay_ms: Floats,
        cube: Cube,
        policy: Policy = Policy.GREEDY,
        seed: int = 0,
        config: EngineConfig = DEFAULT,
        *,
        wire: bool = True,
        directory_config: DirectoryConfig = DIRECTORY_DEFAULTS,
    ) -> None:
        """No host has joined yet.

        Args:
            delay_ms: shape (n, n), one-way delays between the places hosts may have.
            seed: of seats, policies and luck.
            config: tunables of the hosts' engines.
            directory_config: as DirectoryEngine takes it.
            wire: whether messages are encoded and decoded on the way, as between real hosts.
        """
        self.config, self.tick_s = config, config.tick_s
        self._wire = wire
        self.delay_ms = delay_ms
        self.policy = policy
        self.queue = EventQueue()
        self.seed = seed
        self.directory = DirectoryEngine(cube, np.random.default_rng([seed, 1]), directory_config)
        self.hosts: dict[HostId, SimulatedHost] = {}
        self.directory_away = False
        self.loss = 0.0
        """Share of messages between hosts that never arrive."""
        self.hidden: set[HostId] = set()
        """Hosts that can dial and not be dialled; known before they join."""
        self.island: set[HostId] = set()
        """Cut off from everyone else, the directory included."""
        self.messages = 0
        self.engine_events = 0
        self.check: Callable[[SimulatedHost], None] | None = None
        """Called after every event a host has handled."""
        self.check_directory: Callable[[], None] | None = None
        """Called after every event by which the directory has placed somebody."""
        self.trace: Callable[[SimulatedHost, ev.Event, list[fx.Effect]], None] | None = None
        """Told of every event a host has handled, and of what it said."""
        self._luck = np.random.default_rng([seed, 2])
        self.queue.after(LEASE_TICK_S, self._lease_tick)

    # ------------------------------------------------------------------ what happens to it

    @property
    def now(self) -> float:
        """Simulated time, s."""
        return self.queue.now

    def run(self, seconds: float) -> None:
        """Lets time go by."""
        self.queue.run(seconds)

    def join(
        self,
        host: HostId,
        index: int,
        fan_out: int = 8,
        seat: str = "",
        uplink_bps: float = NUMBER_MAX,
        reserve: Mapping[ChannelName, int] = MappingProxyType({}),
    ) -> SimulatedHost:
        """A host comes, at a place of the delay matrix; one that the directory was restored with has its seat."""
        rng = np.random.default_rng([self.seed, 3, index])
        engine = HostEngine(host, self.policy, fan_out, rng, self.config, uplink_bps, reserve)
        joined = self.hosts[host] = SimulatedHost(host, len(self.hosts), index, fan_out, engine)
        if host in self.directory.members:
            self.queue.after(DIRECTORY_S, self._pushed, host, ev.Placed(self.directory.placement(host)))
        else:
            self._join_directory(joined, seat)
        offset = float(self._luck.random())
        self.queue.after(self.tick_s * (1 + offset), self._tick, joined)
        self.queue.after(REFRESH_S * offset, self._refresh, joined)
        return joined

    def crash(self, host: HostId) -> None:
        """As kill -9: no word, no more messages."""
        self.hosts[host].alive = False

    def leave(self, host: HostId) -> None:
        """The host wants to go; it does when its children have other parents."""
        self.handle(host, ev.LeaveRequested())

    def stall(self, host: HostId) -> None:
        """As SIGSTOP."""
        self.hosts[host].stalled = True

    def go_on(self, host: HostId) -> None:
        """As SIGCONT: what waited in its sockets arrives."""
        here = self.hosts[host]
        here.stalled = False
        waiting, here.frozen = here.frozen, []
        for event in waiting:
            self.handle(host, event)

    def handle(self, host: HostId, event: ev.Event) -> None:
        """Gives a host an event and performs what it says."""
        here = self.hosts[host]
        if not here.alive:
            return
        if here.stalled:
            here.frozen.append(event)
            return
        self.engine_events += 1
        effects = here.engine.handle(event, self.queue.now)
        if self.trace is not None:
            self.trace(here, event, effects)
        for effect in effects:
            self._perform(here, effect)
        if self.check is not None:
            self.check(here)

    def tell_directory(self, event: DirectoryEvent) -> Verdict:
        """Gives the directory an event; pushes arrive a little later.

        Returns:
            What becomes of a wish to be moved.

        Raises:
            DirectoryError: it refuses.
        """
        verdict, placed = Verdict.STAYS, False
        for effect in self.directory.handle(event, self.queue.now):
            match effect:
                case PushPlacement(host, placement):
                    placed = True
                    self.queue.after(DIRECTORY_S, self._pushed, host, ev.Placed(placement))
                case Advise(host, advice):
                    self.queue.after(DIRECTORY_S, self._pushed, host, ev.Advised(advice))
                case AskProbes(host, others):
                    self.queue.after(DIRECTORY_S, self._pushed, host, ev.ProbesWanted(others))
                case Answer(said):
                    verdict = said
                case _:
                    pass
        if placed and self.check_directory is not None:
            self.check_directory()
        return verdict

    # ------------------------------------------------------------------ what can be seen of it

    def flows(self, host: HostId, channel: ChannelName) -> bool:
        """Whether media reaches a host: a chain of open sessions to a living publisher."""
        for _ in range(len(self.hosts)):
            here = self.hosts[host]
            if not here.alive or here.stalled:
                return False
            if here.engine.publishes(channel):
                return True
            upstream = next(
                (up for up, is_open in here.sessions.get(channel, {}).items() if is_open and self._carries(host, up)),
                None,
            )
            if upstream is None:
                return False
            host = upstream
        return False

    def _carries(self, a: HostId, b: HostId) -> bool:
        there = self.hosts[b]
        return there.alive and not there.stalled and self.reachable(a, b)

    def reachable(self, a: HostId, b: HostId) -> bool:
        """Whether datagrams go between two hosts."""
        return (a in self.island) == (b in self.island)

    def delay_s(self, a: HostId, b: HostId) -> float:
        """One-way delay."""
        return float(self.delay_ms[self.hosts[a].index, self.hosts[b].index]) / 1000

    # ------------------------------------------------------------------ effects

    def _perform(self, here: SimulatedHost, effect: fx.Effect) -> None:
        match effect:
            case fx.Send(to, message):
                self._send(here, to, message)
            case fx.Dial(record):
                self._dial(here, record.host)
            case fx.HangUp(host):
                self._hang_up(here, host)
            case fx.Pull(channel, record, fed):
                here.sessions.setdefault(channel, {}).setdefault(record.host, False)
                ready = (channel, record.host) in here.prepared and not fed
                here.prepared.discard((channel, record.host))
                opens_s = BRIDGE_S if ready else self._handshake_s(here.host, record.host)
                self.queue.after(opens_s, self._open_session, here, channel, record.host)
            case fx.Prepare(channel, record):
                self.queue.after(self._handshake_s(here.host, record.host), self._prepared, here, channel, record.host)
            case fx.Push() | fx.Rouse():
                pass  # what they prepare takes no time of its own here
            case fx.StopPull(channel, host):
                here.prepared -= {key for key in here.prepared if key[0] == channel and host in (None, key[1])}
                sessions = here.sessions.get(channel, {})
                if host is None:
                    sessions.clear()
                else:
                    sessions.pop(host, None)
            case fx.Evict(channel, host):
                if host in self.hosts:
                    self.queue.after(self.delay_s(here.host, host), self._session_closed, host, channel, here.host)
            case fx.Resolve(channel):
                if self._directory_answers(here):
                    self.queue.after(DIRECTORY_S, self._resolve, here, channel)
            case fx.Relocate(channel, bound_ms):
                if self._directory_answers(here):
                    self.queue.after(DIRECTORY_S, self._relocate, here, channel, bound_ms)
            case fx.Announce(channel, tree):
                self._tell(here, ChannelAnnounced(here.host, channel, tree))
            case fx.Withdraw(channel):
                self._tell(here, ChannelWithdrawn(here.host, channel))
            case fx.ParentChanged():
                here.changes += 1
            case fx.Suspect(host):
                here.suspects.add(host)
            case fx.Report(record):
                self._tell(here, SubscriptionReported(record))
            case fx.Admitted() | fx.Refused() | fx.NotFound() | fx.StreamEnded():
                here.outcomes.append(effect)
            case fx.Leave():
                here.alive = False
                self._tell(here, HostLeft(here.host))

    def _send(self, here: SimulatedHost, to: HostId, message: Message) -> None:
        self.messages += 1
        there = self.hosts.get(to)
        if there is None or to not in here.dialled or not self.reachable(here.host, to):
            return
        if self.loss and self._luck.random() < self.loss:
            return
        self.queue.after(self.delay_s(here.host, to), self._arrive, here.host, there, message)

    def _arrive(self, sender: HostId, there: SimulatedHost, message: Message) -> None:
        if self.hosts.get(there.host) is there and sender in there.dialled:
            self.handle(there.host, ev.Received(sender, decode(encode(message)) if self._wire else message))

    def _handshake_s(self, a: HostId, b: HostId) -> float:
        return max(DIAL_S_MIN, 2 * DIAL_ROUND_TRIPS * self.delay_s(a, b)) if b in self.hosts else DIAL_FAILS_S

    def _dial(self, here: SimulatedHost, to: HostId) -> None:
        there = self.hosts.get(to)
        up = there is not None and there.alive and self.reachable(here.host, to) and to not in self.hidden
        self.queue.after(self._handshake_s(here.host, to) if up else DIAL_FAILS_S, self._connected, here, to)

    def _connected(self, here: SimulatedHost, to: HostId) -> None:
        there = self.hosts.get(to)
        gone = there is None or not there.alive or there.stalled or to in self.hidden
        if gone or there is None or not here.alive or not self.reachable(here.host, to):
            self.handle(here.host, ev.LinkDown(to, "no answer"))
            return
        here.dialled.add(to)
        there.dialled.add(here.host)
        here.packets[to] = there.packets[here.host] = (0, 0)
        self.handle(here.host, ev.LinkUp(to))
        self.handle(to, ev.LinkUp(here.host))

    def _hang_up(self, here: SimulatedHost, host: HostId) -> None:
        if host in here.dialled:
            here.dialled.discard(host)
            self.handle(here.host, ev.LinkDown(host, "the session ended"))
            if host in self.hosts and self.reachable(here.host, host):
                self.queue.after(self.delay_s(here.host, host), self._hung_up, self.hosts[host], here.host)

    def _hung_up(self, there: SimulatedHost, by: HostId) -> None:
        if by in there.dialled:
            there.dialled.discard(by)
            self.handle(there.host, ev.LinkDown(by, "the session ended"))

    def _open_session(self, here: SimulatedHost, channel: ChannelName, to: HostId) -> None:
        if to not in here.sessions.get(channel, {}) or not here.alive:
            return
        there = self.hosts.get(to)
        if there is None or not there.alive or there.stalled or not self.reachable(here.host, to):
            self.queue.after(DIAL_FAILS_S, self._session_closed, here.host, channel, to)
        elif there.engine.may_pull(channel, here.host):
            here.sessions[channel][to] = True
            self.handle(here.host, ev.Pulled(channel, to))
        else:
            self._session_closed(here.host, channel, to)

    def _prepared(self, here: SimulatedHost, channel: ChannelName, to: HostId) -> None:
        there = self.hosts.get(to)
        if there is None or not self._carries(here.host, to) or not there.engine.may_pull(channel, here.host):
            self.handle(here.host, ev.PullFailed(channel, to, "it closed the session"))
        else:
            here.prepared.add((channel, to))
            self.handle(here.host, ev.Prepared(channel, to))

    def _session_closed(self, host: HostId, channel: ChannelName, by: HostId) -> None:
        here = self.hosts[host]
        standby = (channel, by) in here.prepared
        here.prepared.discard((channel, by))
        if here.sessions.get(channel, {}).pop(by, None) is not None or standby:
            self.handle(host, ev.PullFailed(channel, by, "it closed the session"))

    # ------------------------------------------------------------------ the directory

    def _directory_answers(self, here: SimulatedHost) -> bool:
        return not self.directory_away and here.host not in self.island

    def _tell(self, here: SimulatedHost, event: DirectoryEvent) -> None:
        if not self._directory_answers(here):
            return
        try:
            self.tell_directory(event)
        except DirectoryError:
            self._join_directory(here, "")

    def _join_directory(self, here: SimulatedHost, seat: str) -> None:
        address = address_of(here.number)
        if self._directory_answers(here):
            seen = here.host not in self.hidden
            self.tell_directory(HostJoined(here.host, address, "f" * 64, here.host, here.fan_out, seat, seen))

    def _pushed(self, host: HostId, event: ev.Event) -> None:
        if host in self.hosts and self._directory_answers(self.hosts[host]):
            self.handle(host, event)

    def _resolve(self, here: SimulatedHost, channel: ChannelName) -> None:
        record = self.directory.channels.get(channel)
        known = tuple(self.directory.channels)
        proposals = self.directory.proposals(here.host, channel)
        found = ev.ChannelResolved(record, "grant", proposals) if record else ev.ChannelNotFound(channel, known)
        self.handle(here.host, found)

    def _relocate(self, here: SimulatedHost, channel: ChannelName, bound_ms: float) -> None:
        verdict = self.tell_directory(RelocationWanted(here.host, channel, bound_ms))
        self.handle(here.host, ev.Relocated(channel, verdict))

    def _refresh(self, here: SimulatedHost) -> None:
        if not here.alive or self.hosts.get(here.host) is not here:
            return
        if not here.stalled:
            self._tell(here, HostRefreshed(here.host))
            self._tell(here, LinksReported(here.host, here.engine.links_ms()))
            suspects, here.suspects = here.suspects, set()
            for suspect in sorted(suspects):
                self._tell(here, HostSuspected(suspect, here.host))
        self.queue.after(REFRESH_S, self._refresh, here)

    def _lease_tick(self) -> None:
        if not self.directory_away:
            self.tell_directory(LeaseTick())
        self.queue.after(LEASE_TICK_S, self._lease_tick)

    # ------------------------------------------------------------------ time

    def _statistics(self, here: SimulatedHost, host: HostId) -> ev.LinkSampled:
        lost, sent = here.packets[host]
        newly = int(self._luck.binomial(PACKETS, self.loss)) if self.loss else 0
        here.packets[host] = (lost + newly, sent + PACKETS)
        return ev.LinkSampled(host, 2000 * self.delay_s(here.host, host), *here.packets[host])

    def _tick(self, here: SimulatedHost) -> None:
        if not here.alive or self.hosts.get(here.host) is not here:
            return
        if not here.stalled:
            for host in here.engine.to_sample():
                if host in here.dialled and self.reachable(here.host, host) and self.hosts[host].alive:
                    self.handle(here.host, self._statistics(here, host))
            for channel, sessions in here.sessions.items():
                for upstream, is_open in sessions.items():
                    if is_open and self._carries(here.host, upstream) and self.flows(upstream, channel):
                        here.bytes[channel] = here.bytes.get(channel, 0) + FRAME_BYTES
                        self.handle(here.host, ev.MediaSampled(channel, upstream, here.bytes[channel]))
            for channel in here.engine.published():
                here.bytes[channel] = here.bytes.get(channel, 0) + FRAME_BYTES
                self.handle(here.host, ev.MediaSampled(channel, here.host, here.bytes[channel]))
            self.handle(here.host, ev.Tick())
        self.queue.after(self.tick_s, self._tick, here)
