"""One host's engine alone; a test scripts what its two neighbours send, tick by tick."""

from typing import TypeVar

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

E = TypeVar("E", bound=fx.Effect)
M = TypeVar("M", bound=m.Message)
CHANNEL = ChannelName("clip")
ME, PUBLISHER = HostId("me"), HostId("p")
SEATS = {HostId("a"): 1, HostId("b"): 2, ME: 3}
"""In a cube 2^2, whose label 0 is the publisher's: the neighbours of `me` are a and b."""
RTT_S = 0.02
BYTES_PER_TICK = 10_000


def record(host: HostId) -> HostRecord:
    return HostRecord(host, f"{host}:1", "ab" * 32, "cd" * 32, Label(SEATS[host]))


class Peer:
    """The values that one neighbour announces for the channel."""

    def __init__(self) -> None:
        self.delay_ms = 100.0
        """Delay of the channel at the peer, in its heartbeats and path updates."""
        self.confirms_ms: float | None = None
        """Delay that it confirms to a new child; None for `delay_ms`."""
        self.fed = True
        self.above: tuple[HostId, ...] = (PUBLISHER,)
        """The hosts above it on the path from the publisher."""
        self.publication = 0
        """The publication of the channel that it carries."""
        self.seqno: int | None = None
        """The sequence number that it is stuck at; None while a newer one comes with every tick."""
        self.media = True
        """Whether it sends media to this host as its child."""
        self.alive = True
        """Whether it sends and answers anything."""
        self.offers = False
        """Whether it answers requests over the cube, with an offer, and then confirms it."""
        self.spare = 8
        self.needs = True
        """Whether it announces that it needs the link."""


class ScriptedHost:
    """The engine of `me`. Links are steady, both peers carry the channel, and each accepts any child at once."""

    def __init__(self, fan_out: int = 8) -> None:
        self.now, self.ticks, self.bytes = 1000.0, 0, 0
        self.engine = HostEngine(ME, Policy.GREEDY, fan_out, np.random.default_rng(0))
        self.peers = {host: Peer() for host in SEATS if host != ME}
        self.sent: list[tuple[int, HostId, m.Message]] = []
        """Messages of the engine: the tick, to whom, and what."""
        self.effects: list[tuple[int, fx.Effect]] = []
        """Effects of the engine, with the tick."""
        self.parent_changes: list[fx.ParentChanged] = []
        neighbours = tuple(Neighbour(Label(SEATS[host]), record(host)) for host in self.peers)
        self.handle(ev.Placed(Placement(1, 0, 2, 2, record(ME), (Label(SEATS[ME]),), neighbours)))
        for host in self.peers:
            self.handle(ev.LinkUp(host))
            self.handle(ev.Received(host, m.Hello(record(host))))
        self.run(DEFAULT.links.samples_ready + 15)

    def subscribe(self, publisher: HostId = PUBLISHER) -> None:
        """Subscribes to the channel, and waits until it has a parent."""
        self.search(publisher=publisher)
        self.run(5)
        assert self.parent is not None

    def search(
        self,
        bound_ms: float = 10_000.0,
        tree: Tree = Tree.HYBRID,
        rate_bps: float = 0.0,
        publisher: HostId = PUBLISHER,
    ) -> None:
        """Begins a subscription, and resolves its channel."""
        self.handle(ev.SubscribeRequested(CHANNEL, Contract(bound_ms, rate_bps)))
        self.resolve(tree, publisher)

    def resolve(self, tree: Tree = Tree.HYBRID, publisher: HostId = PUBLISHER) -> None:
        """The directory's answer to Resolve."""
        self.handle(ev.ChannelResolved(ChannelRecord(CHANNEL, publisher, Label(0), 0, tree)))

    def receive(self, host: HostId, message: m.Message) -> list[fx.Effect]:
        """A message of a peer, or of any other host."""
        return self.handle(ev.Received(host, message))

    def done(self, kind: type[E]) -> list[E]:
        """All effects of a kind so far."""
        return [effect for _, effect in self.effects if isinstance(effect, kind)]

    def sent_to(self, host: HostId, kind: type[M]) -> list[M]:
        """All messages of a kind that a host was sent so far."""
        return [message for _, to, message in self.sent if to == host and isinstance(message, kind)]

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
                if not peer.alive:
                    continue
                self.handle(ev.LinkSampled(host, 1000 * RTT_S, 0, 0))
                carried = m.Carried(CHANNEL, self.metrics_at(host, peer.delay_ms), peer.spare)
                self.handle(ev.Received(host, m.Heartbeat((carried,), peer.needs)))
                if host == parent:
                    self.bytes += BYTES_PER_TICK if peer.media else 0
                    self.handle(ev.MediaSampled(CHANNEL, host, self.bytes))
                    metrics = self.metrics_at(host, peer.delay_ms)
                    update = m.PathUpdate(CHANNEL, metrics, 0, Label(0), flowing=False, fed=peer.fed)
                    self.handle(ev.Received(host, update))
            self.handle(ev.Tick(0.0))

    def handle(self, event: ev.Event) -> list[fx.Effect]:
        effects = self.engine.handle(event, self.now)
        for effect in effects:
            self.effects.append((self.ticks, effect))
            match effect:
                case fx.Send(host, message):
                    self.sent.append((self.ticks, host, message))
                    self._answer(host, message)
                case fx.Pull(channel, pulled):
                    self.handle(ev.Pulled(channel, pulled.host))
                case fx.ParentChanged():
                    self.parent_changes.append(effect)
        return effects

    def _answer(self, host: HostId, message: m.Message) -> None:
        peer = self.peers.get(host)
        if peer is None or not peer.alive:
            return
        match message:
            case m.PathRequest(ask=ask, channel=channel, tries=tries) if peer.offers:
                self.handle(ev.Received(host, m.PathOffer(ask, channel, self.metrics_at(host, peer.delay_ms), tries)))
            case m.Commit(ask=ask) if peer.offers:
                self.handle(ev.Received(host, m.Confirm(ask, CHANNEL, self.metrics_at(host, peer.delay_ms))))
            case m.Attach(ask=ask, channel=channel):
                delay_ms = peer.delay_ms if peer.confirms_ms is None else peer.confirms_ms
                self.handle(ev.Received(host, m.Confirm(ask, channel, self.metrics_at(host, delay_ms))))
            case m.Ping(sent_s):
                self.now += RTT_S
                self.handle(ev.Received(host, m.Pong(sent_s, sent_s + RTT_S / 2)))

    def metrics_at(self, host: HostId, delay_ms: float) -> PathMetrics:
        """The path from the publisher to a peer."""
        peer = self.peers[host]
        seqno = self.ticks if peer.seqno is None else peer.seqno
        return PathMetrics(delay_ms, 0.0, (*peer.above, host), seqno, publication=peer.publication)


def feeding() -> tuple[ScriptedHost, HostId]:
    """A host that receives the channel from one of its neighbours and feeds the other one."""
    host = ScriptedHost()
    host.subscribe()
    child = host.other()
    host.receive(child, m.Attach(1, CHANNEL, Contract(10_000.0), (child,)))
    assert host.sent_to(child, m.Confirm)
    return host, child
