"""One host's engine alone; its two neighbours say what a test lets them say, tick by tick."""

import numpy as np

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT
from cubecast.engine.host.engine import HostEngine
from cubecast.engine.protocol import messages as m
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.records import ChannelRecord, HostRecord, Neighbour, Placement, Tree
from cubecast.overlay.routing import Policy
from cubecast.types import ChannelName, HostId, Label

CHANNEL = ChannelName("clip")
ME, PUBLISHER = HostId("me"), HostId("p")
SEATS = {HostId("a"): 1, HostId("b"): 2, ME: 3}
"""In a cube 2^2, whose label 0 is the publisher's: the neighbours of `me` are a and b."""
RTT_S = 0.02
BYTES_PER_TICK = 10_000


def record(host: HostId) -> HostRecord:
    return HostRecord(host, f"{host}:1", "", "", Label(SEATS[host]))


class Peer:
    """What one neighbour says of the channel."""

    def __init__(self) -> None:
        self.delay_ms = 100.0
        """Delay of the channel at the peer, in its heartbeats and path updates."""
        self.confirms_ms: float | None = None
        """Delay that it confirms to a new child; None for `delay_ms`."""
        self.fed = True


class ScriptedHost:
    """The engine of `me`. Links are steady, both peers carry the channel, and each takes any child at once."""

    def __init__(self) -> None:
        self.now, self.ticks, self.bytes = 1000.0, 0, 0
        self.engine = HostEngine(ME, Policy.GREEDY, 8, np.random.default_rng(0))
        self.peers = {host: Peer() for host in SEATS if host != ME}
        self.sent: list[tuple[int, HostId, m.Message]] = []
        """Messages of the engine: the tick, to whom, and what."""
        self.lost: list[fx.ParentChanged] = []
        neighbours = tuple(Neighbour(Label(SEATS[host]), record(host)) for host in self.peers)
        self.handle(ev.Placed(Placement(1, 0, 2, 2, record(ME), (Label(SEATS[ME]),), neighbours)))
        for host in self.peers:
            self.handle(ev.LinkUp(host))
            self.handle(ev.Received(host, m.Hello(record(host))))
        self.run(DEFAULT.links.samples_ready + 15)

    def subscribe(self) -> None:
        """Subscribes to the channel, and waits until it has a parent."""
        self.handle(ev.SubscribeRequested(CHANNEL, Contract(10_000.0)))
        self.handle(ev.ChannelResolved(ChannelRecord(CHANNEL, PUBLISHER, Label(0), 0, Tree.HYBRID), ""))
        self.run(5)
        assert self.parent is not None

    @property
    def parent(self) -> HostId | None:
        return self.engine.upstream(CHANNEL)

    def other(self) -> HostId:
        """The neighbour that is not the parent."""
        return next(host for host in self.peers if host != self.parent)

    def asked(self, host: HostId) -> list[int]:
        """The ticks at which a peer was asked to be the parent."""
        return [tick for tick, to, message in self.sent if to == host and isinstance(message, m.Attach)]

    def run(self, ticks: int) -> None:
        for _ in range(ticks):
            self.ticks += 1
            self.now += DEFAULT.tick_s
            parent = self.parent
            for host, peer in self.peers.items():
                self.handle(ev.LinkSampled(host, 1000 * RTT_S, 0, 0))
                carried = m.Carried(CHANNEL, self._metrics(host, peer.delay_ms), spare=8)
                self.handle(ev.Received(host, m.Heartbeat((carried,), needs=True)))
                if host == parent:
                    self.bytes += BYTES_PER_TICK
                    self.handle(ev.MediaSampled(CHANNEL, host, self.bytes))
                    metrics = self._metrics(host, peer.delay_ms)
                    update = m.PathUpdate(CHANNEL, metrics, 0, Label(0), flowing=False, fed=peer.fed)
                    self.handle(ev.Received(host, update))
            self.handle(ev.Tick(0.0))

    def handle(self, event: ev.Event) -> list[fx.Effect]:
        effects = self.engine.handle(event, self.now)
        for effect in effects:
            match effect:
                case fx.Send(host, message):
                    self.sent.append((self.ticks, host, message))
                    self._answer(host, message)
                case fx.Pull(channel, pulled):
                    self.handle(ev.Pulled(channel, pulled.host))
                case fx.ParentChanged():
                    self.lost.append(effect)
        return effects

    def _answer(self, host: HostId, message: m.Message) -> None:
        peer = self.peers[host]
        match message:
            case m.Attach(ask=ask, channel=channel):
                delay_ms = peer.delay_ms if peer.confirms_ms is None else peer.confirms_ms
                self.handle(ev.Received(host, m.Confirm(ask, channel, self._metrics(host, delay_ms))))
            case m.Ping(sent_s):
                self.now += RTT_S
                self.handle(ev.Received(host, m.Pong(sent_s, sent_s + RTT_S / 2)))

    def _metrics(self, host: HostId, delay_ms: float) -> PathMetrics:
        return PathMetrics(delay_ms, 0.0, (PUBLISHER, host), self.ticks)
