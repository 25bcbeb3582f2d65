"""A simulated overlay of hosts h000, h001, ... with one channel, for tests; its invariants are checked after every event."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np

from cubecast.engine.directory.config import DIRECTORY_DEFAULTS, DirectoryConfig
from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.engine import HostEngine
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.ranges import NUMBER_MAX
from cubecast.engine.protocol.records import Tree
from cubecast.overlay.cube import Cube, format_label, label_count
from cubecast.overlay.routing import Policy
from cubecast.simulation.invariants import Parents, broken_at
from cubecast.simulation.overlay import SimulatedOverlay
from cubecast.simulation.shells.host import SimulatedHost
from cubecast.simulation.shells.jobs import ProcessingOffer
from cubecast.simulation.shells.subscribers import Outcome
from cubecast.types import ChannelName, Floats, HostId

CHANNEL = ChannelName("clip")
ANSWER_S = 20.0
"""Longest time from a request to subscribe to the decision, s."""
STEP_S = 0.1


class Overlay(SimulatedOverlay):
    """All hosts join at once, at random seats; tests name them by number."""

    def __init__(
        self,
        delay_ms: Floats,
        cube: Cube,
        policy: Policy = Policy.GREEDY,
        seed: int = 0,
        fan_out: int = 8,
        uplink_bps: float = NUMBER_MAX,
        reserve: Mapping[ChannelName, int] = MappingProxyType({}),
        directory_config: DirectoryConfig = DIRECTORY_DEFAULTS,
        hidden: Iterable[int] = (),
        slots: Mapping[int, int] = MappingProxyType({}),
        processing_ms: float = 20.0,
    ) -> None:
        """See SimulatedOverlay.

        Args:
            hidden: numbers of the hosts that cannot be dialled.
            slots: extensions that hosts run for others, by number.
            processing_ms: processing time of every job.
        """
        super().__init__(delay_ms, cube, policy, seed, directory_config=directory_config)
        self.check = self._check_laws
        self._parents: Parents = {}
        self.names = [HostId(f"h{i:03d}") for i in range(len(delay_ms))]
        self.hidden = {self.names[index] for index in hidden}
        seats = np.random.default_rng(seed).permutation(label_count(cube))[: len(self.names)]
        for index, host in enumerate(self.names):
            processing = ProcessingOffer(slots.get(index, 0), lambda: processing_ms)
            self.join(host, index, fan_out, format_label(cube, int(seats[index])), uplink_bps, reserve, processing)

    def publish(self, index: int, channel: ChannelName = CHANNEL, tree: Tree = Tree.HYBRID) -> None:
        self.handle(self.names[index], ev.PublishRequested(channel, tree))

    def subscribe(self, index: int, wanted: float | Contract, channel: ChannelName = CHANNEL) -> Outcome:
        """Subscribes, within a bound or under a contract, and waits for the decision."""
        contract = wanted if isinstance(wanted, Contract) else Contract(wanted)
        here = self.hosts[self.names[index]]
        known = len(here.outcomes)
        self.handle(here.host, ev.SubscribeRequested(channel, contract))
        for _ in range(round(ANSWER_S / STEP_S)):
            self.run(STEP_S)
            if len(here.outcomes) > known:
                return here.outcomes[known]
        raise AssertionError(f"{here.host} got no decision")

    @property
    def engines(self) -> dict[HostId, HostEngine]:
        return {host: here.engine for host, here in self.hosts.items()}

    @property
    def dead(self) -> set[HostId]:
        return {host for host, here in self.hosts.items() if not here.alive}

    def ended(self) -> dict[HostId, fx.StreamEnded]:
        """Local subscriptions of living hosts that ended."""
        return {
            host: outcome
            for host, here in self.hosts.items()
            for outcome in here.outcomes
            if isinstance(outcome, fx.StreamEnded) and here.alive
        }

    def sessions(self, host: HostId, channel: ChannelName = CHANNEL) -> set[HostId]:
        return set(self.hosts[host].sessions.get(channel, {}))

    def _check_laws(self, here: SimulatedHost) -> None:
        assert not broken_at(self, here, self._parents)

    def living(self) -> list[HostId]:
        return [host for host, here in self.hosts.items() if here.alive]


def random_delays(hosts: int, seed: int) -> Floats:
    """One-way delays of hosts on a plane, with some detours: ms, symmetric, zero diagonal."""
    rng = np.random.default_rng(seed)
    where = rng.uniform(0, 60, size=(hosts, 2))
    apart = np.linalg.norm(where[:, None] - where[None], axis=-1)
    detour = rng.uniform(1, 1.5, size=(hosts, hosts))
    delay: Floats = apart * np.maximum(detour, detour.T) + 1
    np.fill_diagonal(delay, 0)
    return delay
