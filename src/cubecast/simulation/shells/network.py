"""The simulated network: one-way delays, loss, partitions, and the links between hosts.

Messages take their link's one-way delay and arrive in order; some are lost, and so are all that cross a partition or go
to a dead host.
"""

from collections.abc import Callable

import numpy as np

from cubecast.engine.host import events as ev
from cubecast.engine.protocol.frames import decode, encode
from cubecast.engine.protocol.messages import Message
from cubecast.simulation.shells.host import SimulatedHost
from cubecast.simulation.shells.queue import EventQueue
from cubecast.types import Floats, HostId

DIAL_ROUND_TRIPS = 3
"""Round trips of a QUIC and MoQ handshake (docs/decisions/0010)."""
DIAL_S_MIN = 0.005
"""Shortest time a handshake takes, s."""
DIAL_FAILS_S = 3.0
"""Time after which dialling a host that does not answer fails, s; DIAL_S of cubecast.host.media.sessions."""
PACKETS = 100
"""Packets that every link sends between two samples of its statistics: chosen, so that a share of 1 % lost is seen."""


class SimulatedNetwork:
    """Hosts and the links between them."""

    def __init__(
        self,
        delay_ms: Floats,
        queue: EventQueue,
        rng: np.random.Generator,
        handle: Callable[[HostId, ev.Event], None],
        *,
        wire: bool,
    ) -> None:
        """Without hosts.

        Args:
            delay_ms: shape (n, n), one-way delays between the places that hosts may have.
            rng: decides which messages and packets are lost.
            handle: gives a host an event.
            wire: whether messages are encoded and decoded on the way, as between real hosts.
        """
        self.delay_ms = delay_ms
        self.hosts: dict[HostId, SimulatedHost] = {}
        self.loss = 0.0
        """Share of messages between hosts that are lost, 0 to 1."""
        self.hidden: set[HostId] = set()
        """Hosts that can dial but cannot be dialled; to be set before they join."""
        self.island: set[HostId] = set()
        """Hosts that a partition cuts off from all others and from the super-node."""
        self.messages = 0
        """Number of frames of messages sent: all that a host sends to another at one moment is one frame."""
        self._frames: dict[tuple[HostId, HostId], list[Message] | None] = {}
        """Frames of this moment, by sender and receiver; None for one that is lost."""
        self._frames_at = 0.0
        self._queue, self._rng, self._handle, self._wire = queue, rng, handle, wire

    def reachable(self, a: HostId, b: HostId) -> bool:
        """Whether no partition is between two hosts."""
        return (a in self.island) == (b in self.island)

    def answers(self, a: HostId, b: HostId) -> bool:
        """Whether `a` gets answers from `b`: it lives, is not stalled, and no partition is between them."""
        there = self.hosts[b]
        return there.alive and not there.stalled and self.reachable(a, b)

    def delay_s(self, a: HostId, b: HostId) -> float:
        """One-way delay, s."""
        return float(self.delay_ms[self.hosts[a].index, self.hosts[b].index]) / 1000

    def handshake_s(self, a: HostId, b: HostId) -> float:
        """Time to open a session, s; for a host that never existed, the time until the attempt fails."""
        return max(DIAL_S_MIN, 2 * DIAL_ROUND_TRIPS * self.delay_s(a, b)) if b in self.hosts else DIAL_FAILS_S

    def send(self, here: SimulatedHost, to: HostId, message: Message) -> None:
        """Sends a message over an open link."""
        if self._frames_at != self._queue.now:
            self._frames_at = self._queue.now
            self._frames.clear()
        there, link = self.hosts.get(to), (here.host, to)
        if there is None or to not in here.dialled or not self.reachable(here.host, to):
            self.messages += 1
        elif link not in self._frames:
            self.messages += 1
            lost = self.loss and self._rng.random() < self.loss
            new = [message]
            self._frames[link] = None if lost else new
            if not lost:
                self._queue.after(self.delay_s(here.host, to), self._arrive, here.host, there, new)
        elif (frame := self._frames[link]) is not None:
            frame.append(message)

    def _arrive(self, sender: HostId, there: SimulatedHost, frame: list[Message]) -> None:
        self._frames.pop((sender, there.host), None)  # between two hosts at one place it arrives at once
        received = [m for payload in encode(frame) for m in decode(payload)] if self._wire else frame
        for message in received:
            if self.hosts.get(there.host) is there and sender in there.dialled:
                self._handle(there.host, ev.Received(sender, message))

    def dial(self, here: SimulatedHost, to: HostId) -> None:
        """Opens a link; the host gets LinkUp or LinkDown."""
        there = self.hosts.get(to)
        up = there is not None and there.alive and self.reachable(here.host, to) and to not in self.hidden
        self._queue.after(self.handshake_s(here.host, to) if up else DIAL_FAILS_S, self._connect, here, to)

    def _connect(self, here: SimulatedHost, to: HostId) -> None:
        there = self.hosts.get(to)
        gone = there is None or not there.alive or there.stalled or to in self.hidden
        if gone or there is None or not here.alive or not self.reachable(here.host, to):
            self._handle(here.host, ev.LinkDown(to, "no answer"))
            return
        self._frames.clear()
        here.dialled.add(to)
        there.dialled.add(here.host)
        here.packets[to] = there.packets[here.host] = (0, 0)
        self._handle(here.host, ev.LinkUp(to))
        self._handle(to, ev.LinkUp(here.host))

    def hang_up(self, here: SimulatedHost, host: HostId) -> None:
        """Closes a link; both hosts get LinkDown, the other one a one-way delay later."""
        if host in here.dialled:
            here.dialled.discard(host)
            self._handle(here.host, ev.LinkDown(host, "the session ended"))
            if host in self.hosts and self.reachable(here.host, host):
                self._queue.after(self.delay_s(here.host, host), self._close, self.hosts[host], here.host)

    def _close(self, there: SimulatedHost, by: HostId) -> None:
        if by in there.dialled:
            there.dialled.discard(by)
            self._handle(there.host, ev.LinkDown(by, "the session ended"))

    def sample_links(self, here: SimulatedHost) -> None:
        """Gives a host the statistics of the links that its engine wants sampled."""
        for host in here.engine.to_sample():
            if host in here.dialled and self.reachable(here.host, host) and self.hosts[host].alive:
                self._handle(here.host, self._statistics(here, host))

    def _statistics(self, here: SimulatedHost, host: HostId) -> ev.LinkSampled:
        lost, sent = here.packets[host]
        newly = int(self._rng.binomial(PACKETS, self.loss)) if self.loss else 0
        here.packets[host] = (lost + newly, sent + PACKETS)
        return ev.LinkSampled(host, 2000 * self.delay_s(here.host, host), *here.packets[host])
