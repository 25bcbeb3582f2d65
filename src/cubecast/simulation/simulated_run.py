"""The state of one run of a scenario, shared by what acts on the overlay and what measures it."""

from dataclasses import dataclass, field

import numpy as np

from cubecast.simulation.overlay import SimulatedOverlay
from cubecast.simulation.scenario import Scenario
from cubecast.simulation.shells.subscribers import LocalSubscriber
from cubecast.types import HostId

BROKEN_MAX = 100
"""Broken laws that are kept; more would say nothing new."""


@dataclass(slots=True)
class Subscription:
    """The subscriber that a host has from a moment on, s."""

    subscriber: LocalSubscriber
    since: float


@dataclass(slots=True)
class SimulatedRun:
    """One run."""

    scenario: Scenario
    seed: int
    overlay: SimulatedOverlay
    rng: np.random.Generator
    jobs_rng: np.random.Generator
    """For everything that only runs with jobs draw, so that runs without jobs draw the same as ever."""
    subscriptions: dict[HostId, Subscription] = field(default_factory=dict)
    publishers: list[HostId] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    """Rows of the delay matrix that no host has."""
    cut: dict[HostId, float] = field(default_factory=dict)
    """Subscribers whose stream a crash has cut, and when."""
    reconnect_s: list[float] = field(default_factory=list)
    """Times from a crash until media flowed again."""
    watching_cuts: bool = False
    """Whether the next look at `cut` is scheduled."""
    leaving: set[HostId] = field(default_factory=set)
    """Hosts that leave, or have left."""
    newcomers: int = 0
    queueing: int = 0
    """Newcomers that wait for a place."""
    streams_ended: int = 0
    broken: list[str] = field(default_factory=list)
    """Broken laws, with their times."""

    def note_broken(self, law: str) -> None:
        """Records a broken law."""
        if len(self.broken) < BROKEN_MAX:
            self.broken.append(f"{self.overlay.now:.3f} {law}")

    def living_subscribers(self) -> list[HostId]:
        """Hosts that live and have a subscriber."""
        return [host for host in self.subscriptions if self.overlay.hosts[host].alive]

    def flows(self, host: HostId) -> bool:
        """Whether media reaches a host's subscriber."""
        return self.overlay.flows(host, self.subscriptions[host].subscriber.channel)
