"""Engines joined by an event queue in memory: delays, drops and crashes, no sockets and no clock."""

import heapq
from collections.abc import Callable
from itertools import count

import numpy as np

from cubecast.engine import effects as fx
from cubecast.engine import events as ev
from cubecast.engine.directory import (
    ChannelAnnounced,
    DirectoryEngine,
    DirectoryEvent,
    HostJoined,
    HostLeft,
    HostRefreshed,
    Push,
)
from cubecast.engine.host import HostEngine
from cubecast.engine.membership import TICK_S
from cubecast.engine.messages import decode, encode
from cubecast.overlay.cube import Cube, label_count, spell
from cubecast.overlay.routing import Policy
from cubecast.types import ChannelName, Floats, HostId

CHANNEL = ChannelName("clip")
DIRECTORY_S = 0.01
DIAL_S = 0.2

Outcome = fx.Admitted | fx.Refused | fx.NotFound | fx.StreamEnded


class Overlay:
    """Hosts h000, h001, ... with one-way delays between them, a directory beside them."""

    def __init__(
        self, delay_ms: Floats, cube: Cube, policy: Policy = Policy.GREEDY, seed: int = 0, fan_out: int = 8
    ) -> None:
        self.delay_ms = delay_ms
        self.now = 1_000_000.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        rng = np.random.default_rng(seed)
        self.directory = DirectoryEngine(cube, rng)
        self.hosts = [HostId(f"h{i:03d}") for i in range(len(delay_ms))]
        self.engines = {
            h: HostEngine(h, policy, fan_out, np.random.default_rng([seed, i])) for i, h in self._numbered()
        }
        self.outcomes: dict[HostId, list[Outcome]] = {host: [] for host in self.hosts}
        self.pulls: dict[tuple[HostId, ChannelName], HostId] = {}
        self.bytes: dict[tuple[HostId, ChannelName], int] = {}
        self.dead: set[HostId] = set()
        self.stalled: set[HostId] = set()
        self.directory_away = False
        self.loss = 0.0
        """Share of messages between hosts that never arrive."""
        self._luck = np.random.default_rng([seed, 99])
        self.messages = 0
        seats = rng.permutation(label_count(cube))[: len(self.hosts)]
        for i, host in self._numbered():
            self.tell_directory(HostJoined(host, f"10.0.0.1:{i}", "f" * 64, host, fan_out, spell(cube, int(seats[i]))))
            self._later(TICK_S * (1 + i / len(self.hosts)), lambda host=host: self._tick(host))  # type: ignore[misc]

    def run(self, seconds: float) -> None:
        """Lets time go by."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = end

    def publish(self, index: int) -> None:
        self.handle(self.hosts[index], ev.PublishRequested(CHANNEL))

    def subscribe(self, index: int, bound_ms: float) -> Outcome:
        """Subscribes and waits for the decision."""
        host = self.hosts[index]
        known = len(self.outcomes[host])
        self.handle(host, ev.SubscribeRequested(CHANNEL, bound_ms))
        for _ in range(80):
            self.run(TICK_S)
            if len(self.outcomes[host]) > known:
                return self.outcomes[host][known]
        raise AssertionError(f"{host} was forgotten")

    def kill(self, index: int) -> None:
        """As kill -9: no word, no more messages."""
        self.dead.add(self.hosts[index])

    def leave(self, index: int) -> None:
        host = self.hosts[index]
        self.handle(host, ev.LeaveRequested())
        self.dead.add(host)
        self.tell_directory(HostLeft(host))

    def tell_directory(self, event: DirectoryEvent) -> None:
        for effect in self.directory.handle(event, self.now):
            if isinstance(effect, Push):
                placed = ev.Placed(effect.placement)
                self._later(DIRECTORY_S, lambda host=effect.host, placed=placed: self.handle(host, placed))  # type: ignore[misc]

    def handle(self, host: HostId, event: ev.Event) -> None:
        if host in self.dead:
            return
        for effect in self.engines[host].handle(event, self.now):
            self._perform(host, effect)

    def _perform(self, host: HostId, effect: fx.Effect) -> None:
        match effect:
            case fx.Send(to, message):
                self.messages += 1
                if self._luck.random() < self.loss:
                    return
                event = ev.Received(host, decode(encode(message)))
                self._later(self._delay_s(host, to), lambda: self.handle(to, event))
            case fx.Dial(record):
                self._later(DIAL_S, lambda: self._connect(host, record.host))
            case fx.Resolve(channel):
                if not self.directory_away:
                    self._later(DIRECTORY_S, lambda: self._resolve(host, channel))
            case fx.Announce(channel):
                self.tell_directory(ChannelAnnounced(host, channel))
            case fx.Pull(channel, record):
                self.pulls[host, channel] = record.host
            case fx.StopPull(channel):
                self.pulls.pop((host, channel), None)
            case fx.Admitted() | fx.Refused() | fx.NotFound() | fx.StreamEnded():
                self.outcomes[host].append(effect)
            case _:
                pass

    def _connect(self, a: HostId, b: HostId) -> None:
        if b in self.dead:
            self.handle(a, ev.LinkDown(b, "no answer"))
            return
        self.handle(a, ev.LinkUp(b))
        self.handle(b, ev.LinkUp(a))

    def _resolve(self, host: HostId, channel: ChannelName) -> None:
        record = self.directory.channels.get(channel)
        known = tuple(self.directory.channels)
        found = ev.ChannelResolved(record, "grant") if record else ev.ChannelNotFound(channel, known)
        self.handle(host, found)

    def _tick(self, host: HostId) -> None:
        if host in self.dead:
            return
        if host not in self.stalled:
            self.tell_directory(HostRefreshed(host))
            for link in self.engines[host].view().links:
                if link.up and link.host not in self.dead:
                    self.handle(host, ev.LinkSampled(link.host, 2000 * self._delay_s(host, link.host), 0, 0))
            for (puller, channel), upstream in list(self.pulls.items()):
                if puller == host and self._flows(puller, channel) and upstream not in self.stalled:
                    self.bytes[host, channel] = self.bytes.get((host, channel), 0) + 1000
                    self.handle(host, ev.MediaSampled(channel, self.bytes[host, channel]))
            self.handle(host, ev.Tick())
        self._later(TICK_S, lambda: self._tick(host))

    def _flows(self, host: HostId, channel: ChannelName) -> bool:
        """Whether bytes reach a host: every host above it lives."""
        for _ in self.hosts:
            upstream = self.pulls.get((host, channel))
            if upstream is None:
                return any(b.upstream is None and b.channel == channel for b in self.engines[host].view().branches)
            if upstream in self.dead:
                return False
            host = upstream
        return False

    def _delay_s(self, a: HostId, b: HostId) -> float:
        return float(self.delay_ms[self.hosts.index(a), self.hosts.index(b)]) / 1000

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + seconds, next(self._number), action))

    def _numbered(self) -> list[tuple[int, HostId]]:
        return list(enumerate(self.hosts))


def random_delays(hosts: int, seed: int) -> Floats:
    """One-way delays of hosts on a plane, with some detours: ms, symmetric, zero diagonal."""
    rng = np.random.default_rng(seed)
    where = rng.uniform(0, 60, size=(hosts, 2))
    apart = np.linalg.norm(where[:, None] - where[None], axis=-1)
    detour = rng.uniform(1, 1.5, size=(hosts, hosts))
    delay: Floats = apart * np.maximum(detour, detour.T) + 1
    np.fill_diagonal(delay, 0)
    return delay
