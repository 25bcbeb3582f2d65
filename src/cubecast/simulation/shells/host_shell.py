"""The shell of the simulated hosts: performs the effects of their engines, and drives their ticks and refreshes.

It decides nothing itself; it does with the simulated network what cubecast.host does with sockets.
"""

from collections.abc import Callable
from typing import assert_never

import numpy as np

from cubecast.engine.directory import events as d
from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.simulation.shells.directory import SimulatedDirectory
from cubecast.simulation.shells.host import SimulatedHost
from cubecast.simulation.shells.media import MediaSessions
from cubecast.simulation.shells.network import SimulatedNetwork
from cubecast.simulation.shells.queue import EventQueue
from cubecast.types import ChannelName, HostId

REFRESH_S = 2.0
"""Time between two refreshes of a host's lease, s; as in cubecast.host.directory.session."""


class HostShell:
    """Performs effects and lets time pass, for all hosts."""

    def __init__(
        self,
        network: SimulatedNetwork,
        media: MediaSessions,
        directory: SimulatedDirectory,
        queue: EventQueue,
        handle: Callable[[HostId, ev.Event], None],
        tick_s: float,
    ) -> None:
        self._network, self._media, self._directory = network, media, directory
        self._queue, self._handle, self._tick_s = queue, handle, tick_s
        self._refusals: dict[tuple[HostId, ChannelName], str] = {}

    def start(self, here: SimulatedHost, rng: np.random.Generator) -> None:
        """Starts a host's ticks and refreshes, at a random moment."""
        offset = float(rng.random())
        self._queue.after(self._tick_s * (1 + offset), self._tick, here)
        self._queue.after(REFRESH_S * offset, self._refresh, here)

    def perform(self, here: SimulatedHost, effect: fx.Effect) -> None:
        """Performs one effect of a host's engine."""
        match effect:
            case fx.Send(to, message):
                self._network.send(here, to, message)
            case fx.Dial(record):
                self._network.dial(here, record.host)
            case fx.HangUp(host):
                self._network.hang_up(here, host)
            case fx.Pull(channel, record, former_feeds):
                self._media.pull(here, channel, record, former_feeds=former_feeds)
            case fx.Push(channel, record):
                self._media.push(here, channel, record.host)
            case fx.Prepare(channel, record):
                self._media.prepare(here, channel, record.host)
            case fx.Rouse(channel, host):
                self._media.start_media(here, channel, host)
            case fx.StopPull(channel, parent):
                self._media.stop(here, channel, parent)
            case fx.Evict(channel, host):
                self._media.evict(here, channel, host)
            case fx.Resolve(channel):
                self._directory.resolve(here, channel)
            case fx.FindRoutes(channel, links_ms):
                self._directory.find_routes(here, channel, links_ms)
            case fx.Relocate(channel, bound_ms):
                self._directory.relocate(here, channel, bound_ms)
            case fx.Announce():
                self._announce(here, effect)
            case fx.Withdraw(channel):
                here.announced.pop(channel, None)
                self._directory.report(here, d.ChannelWithdrawn(here.host, channel))
            case fx.ParentChanged():
                here.changes += 1
            case fx.Suspect(host):
                here.suspects.add(host)
            case fx.Report(line):
                self._directory.report(here, d.SubscriptionReported(line))
            case fx.Admitted() | fx.Refused() | fx.NotFound() | fx.StreamEnded():
                here.outcomes.append(effect)
                here.subscribers.decided(effect)
            case fx.Leave():
                here.alive = False
                self._directory.report(here, d.HostLeft(here.host))
            case unhandled:
                assert_never(unhandled)

    def announce_refused(self, host: HostId, channel: ChannelName) -> str:
        """Why the last announcement of a channel was refused; empty when it was accepted."""
        return self._refusals.get((host, channel), "")

    def _announce(self, here: SimulatedHost, effect: fx.Announce) -> None:
        here.announced[effect.channel] = effect.tree
        self._refusals[here.host, effect.channel] = self._directory.announce(here, effect.channel, effect.tree)

    def _tick(self, here: SimulatedHost) -> None:
        if not here.alive or self._network.hosts.get(here.host) is not here:
            return
        if not here.stalled:
            self._network.sample_links(here)
            self._media.sample(here)
            self._handle(here.host, ev.Tick())
            here.jobs.step()
        self._queue.after(self._tick_s, self._tick, here)

    def _refresh(self, here: SimulatedHost) -> None:
        if not here.alive or self._network.hosts.get(here.host) is not here:
            return
        if not here.stalled:
            self._directory.refresh(here)
        self._queue.after(REFRESH_S, self._refresh, here)
