"""The state of one run of a scenario, shared by the modules that act on the overlay and those that measure it."""

from dataclasses import dataclass, field

import numpy as np

from cubecast.simulation.overlay import SimulatedOverlay
from cubecast.simulation.scenario import Scenario
from cubecast.simulation.shells.subscribers import LocalSubscriber
from cubecast.types import HostId

BROKEN_MAX = 100
"""Maximum number of broken invariants that are recorded: bounds memory; later ones usually follow from the first."""


@dataclass(slots=True)
class Subscription:
    """The subscriber of a host, and since when it has it, s."""

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
    """Random numbers for jobs only, so that `rng` gives the same sequence in runs with and without jobs."""
    subscriptions: dict[HostId, Subscription] = field(default_factory=dict)
    publishers: list[HostId] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    """Rows of the delay matrix that no host has."""
    cut: dict[HostId, float] = field(default_factory=dict)
    """Subscribers whose stream a crash has cut, and when."""
    reconnect_s: list[float] = field(default_factory=list)
    """Times from a crash until media flowed again."""
    watching_cuts: bool = False
    """Whether the next check of `cut` is scheduled."""
    leaving: set[HostId] = field(default_factory=set)
    """Hosts that leave, or have left."""
    newcomers: int = 0
    queueing: int = 0
    """Newcomers that wait for a place."""
    streams_ended: int = 0
    broken: list[str] = field(default_factory=list)
    """Broken invariants, one line each, with their times."""

    def record_broken(self, line: str) -> None:
        """Records a broken invariant."""
        if len(self.broken) < BROKEN_MAX:
            self.broken.append(f"{self.overlay.now:.3f} {line}")

    def living_subscribers(self) -> list[HostId]:
        """Hosts that live and have a subscriber."""
        return [host for host in self.subscriptions if self.overlay.hosts[host].alive]

    def flows(self, host: HostId) -> bool:
        """Whether media reaches a host's subscriber."""
        return self.overlay.flows(host, self.subscriptions[host].subscriber.channel)
