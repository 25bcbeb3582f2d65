"""Improves running streams: advice on parents for hybrid trees, other seats for subscribers over the cube."""

from collections import Counter

import numpy as np

from cubecast.engine.directory.channels import Channels, is_kept
from cubecast.engine.directory.config import PlannerConfig, RelocationConfig
from cubecast.engine.directory.cube.relocation import CubeSubscription, Relocation
from cubecast.engine.directory.cube.seats import Seats
from cubecast.engine.directory.delay_table import DelayTable
from cubecast.engine.directory.events import Advise, AskProbes, DirectoryEffect
from cubecast.engine.directory.planner import Planner
from cubecast.engine.directory.state import DirectoryState
from cubecast.engine.protocol.records import Advice, SubscriptionRecord, Tree, Verdict
from cubecast.types import ChannelName, HostId


class TreeAdvice:
    """Carries out the plans of all hybrid trees."""

    def __init__(
        self,
        state: DirectoryState,
        channels: Channels,
        delay_table: DelayTable,
        rng: np.random.Generator,
        config: PlannerConfig,
    ) -> None:
        self._state = state
        self._channels = channels
        self._delay_table = delay_table
        self._planner = Planner(delay_table, rng, config)

    def forget(self, channel: ChannelName) -> None:
        """Drops the plan of a channel that has ended."""
        self._planner.forget(channel)

    def improve(self, now: float) -> list[DirectoryEffect]:
        """Advice for hosts that should change parents now, and requests for missing delays."""
        members = self._state.members
        effects: list[DirectoryEffect] = []
        hybrid = [record for record in self._state.channels.values() if record.tree is Tree.HYBRID]
        copies = self._channels.copies() if hybrid else Counter()
        for record in hybrid:
            channel = record.channel
            for host, parent in self._planner.advise(channel, self._channels.group(record, copies), now).items():
                effects.append(Advise(host, Advice(channel, members[parent].record)))
                if self._delay_table.is_hidden(parent):  # the host cannot dial it, so it dials the host
                    effects.append(AskProbes(parent, (members[host].record,)))
        for host, others in self._delay_table.take_requests(now, members).items():
            effects.append(AskProbes(host, tuple(members[other].record for other in others)))
        return effects


class SeatChanges:
    """Moves subscribers over the cube to better seats."""

    def __init__(self, state: DirectoryState, seats: Seats, delay_table: DelayTable, config: RelocationConfig) -> None:
        self._state = state
        self._seats = seats
        self._config = config
        self._relocation = Relocation(delay_table, config)
        self._considered_at: dict[HostId, float] = {}
        """When a host changed seats, or was considered for that, last, s."""

    def forget(self, host: HostId) -> None:
        """Removes what is stored about a host that has left."""
        self._considered_at.pop(host, None)

    def relocate(
        self, host: HostId, channel: ChannelName, bound_ms: float, now: float
    ) -> tuple[Verdict, list[DirectoryEffect]]:
        """Lets a subscriber change seats with a host nearer to the publisher, if that helps it and harms no other.

        Raises:
            DirectoryError: the host has not joined, or was removed.
        """
        record = self._state.channels.get(channel)
        self._state.member(host)
        if record is None or record.tree is Tree.HYBRID:
            return Verdict.STAYS, []
        partner = self._relocation.partner(
            self._state.cube,
            {each: member.record.seat for each, member in self._state.members.items()},
            {each.publisher for each in self._state.channels.values()},
            CubeSubscription(host, record.publisher, bound_ms, kept=False),
            self._cube_subscriptions(),
        )
        if isinstance(partner, Verdict):
            return partner, []
        self._considered_at[host] = self._considered_at[partner] = now
        return Verdict.MOVED, self._seats.swap(host, partner, now)

    def relocate_violated(self, now: float) -> list[DirectoryEffect]:
        """Considers the first subscriber over the cube whose bound is no longer kept, one in each lease tick."""
        state = self._state
        for host in state.in_order(state.violated):
            reports = [report for report in state.members[host].subscriptions.values() if not is_kept(report)]
            if not reports:
                state.violated.discard(host)
            effects = self._relocate_first(reports, now)
            if effects is not None:
                return effects
        return []

    def _relocate_first(self, reports: list[SubscriptionRecord], now: float) -> list[DirectoryEffect] | None:
        """Considers the first subscription of one host that may be considered now; None if there is none."""
        for report in reports:
            if not self._is_over_cube(report):
                continue
            if now - self._considered_at.get(report.subscriber, -np.inf) >= self._config.check_interval_s:
                self._considered_at[report.subscriber] = now
                _, effects = self.relocate(report.subscriber, report.channel, report.bound_ms, now)
                return effects
        return None

    def _cube_subscriptions(self) -> list[CubeSubscription]:
        channels = self._state.channels
        return [
            CubeSubscription(report.subscriber, channels[report.channel].publisher, report.bound_ms, is_kept(report))
            for report in self._state.subscriptions()
            if self._is_over_cube(report)
        ]

    def _is_over_cube(self, report: SubscriptionRecord) -> bool:
        """Whether a subscription receives an announced channel over the cube."""
        record = self._state.channels.get(report.channel)
        return record is not None and record.tree is not Tree.HYBRID and report.state == "receiving"
