"""DirectoryEngine: the members of the cube and the announced channels. The super-node performs its effects.

It hands each event to the component that handles it: `seats` (hosts and the shape of the cube), `channels`, `jobs`, or
`improvement` (advice on parents, changes of seats). When a host's lease ends the host is removed; its labels go to the
hosts beside it, and every host whose neighbourhood changed is sent a new placement. The cube grows when it is full and
shrinks later; streams run between hosts, not labels, so they continue.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from cubecast.engine.directory.admission.routes import RouteFinder
from cubecast.engine.directory.channels import Channels
from cubecast.engine.directory.config import DIRECTORY_DEFAULTS, DirectoryConfig
from cubecast.engine.directory.cube.seats import Seats
from cubecast.engine.directory.delay_table import UNREACHED_MS, DelayTable
from cubecast.engine.directory.events import (
    Answer,
    ChannelAnnounced,
    ChannelWithdrawn,
    DeleteChannel,
    DeleteHost,
    DirectoryEffect,
    DirectoryEvent,
    HostJoined,
    HostLeft,
    HostRefreshed,
    HostSuspected,
    HostTested,
    JobEnded,
    JobsReported,
    JobWanted,
    LeaseTick,
    LinksReported,
    RelocationWanted,
    RoutesWanted,
    SubscriptionReported,
    UnknownChannelRequested,
)
from cubecast.engine.directory.improvement import SeatChanges, TreeAdvice
from cubecast.engine.directory.jobs import JobAssignment, JobTable
from cubecast.engine.directory.state import DirectoryState, Member, Sign, unsigned
from cubecast.engine.protocol.records import ChannelRecord, HostRecord, Placement, SubscriptionRecord
from cubecast.overlay.cube import Cube
from cubecast.types import ChannelName, HostId


class DirectoryEngine:
    """The super-node's decisions. Pure: the same events at the same times give the same effects."""

    def __init__(
        self,
        cube: Cube,
        rng: np.random.Generator,
        config: DirectoryConfig = DIRECTORY_DEFAULTS,
        sign: Sign = unsigned,
    ) -> None:
        """A directory without hosts.

        Args:
            cube: the shape it begins with; it never becomes smaller.
            sign: signs the records of hosts, which these pass on among themselves.

        Raises:
            UsageError: the shape is too large.
        """
        self._config = config
        self._state = DirectoryState(cube, sign=sign)
        self._delay_table = DelayTable(config.delay_table)
        self._seats = Seats(self._state, self._delay_table, rng, config.lease, config.shape)
        self._channels = Channels(self._state, self._delay_table, config.channels, config.lease)
        self._tree_advice = TreeAdvice(self._state, self._channels, self._delay_table, rng, config.planner)
        self._seat_changes = SeatChanges(self._state, self._seats, self._delay_table, config.relocation)
        self._routes = RouteFinder(self._state, self._channels, self._delay_table, config)
        self.jobs = JobTable(self._delay_table, config.jobs)
        self._assignment = JobAssignment(self._state, self._channels, self.jobs)

    def restore(
        self, shape: tuple[Cube, int], hosts: Iterable[HostRecord], channels: Iterable[ChannelRecord], now: float
    ) -> None:
        """Restores what was stored; every host gets a fresh lease in which to report back.

        Args:
            shape: the shape when it was stored, and its epoch.
            now: as `handle` takes it.
        """
        cube, epoch = shape
        self._seats.restore(cube, epoch, hosts, now)
        self._channels.restore(channels)
        if self.members:
            self.jobs.settle(now)
        self._seats.place(now)

    # ------------------------------------------------------------------ events

    def handle(self, event: DirectoryEvent, now: float) -> list[DirectoryEffect]:
        """Handles one event and gives what to do, in this order.

        Args:
            now: the super-node's clock, s since the Unix epoch.

        Raises:
            DirectoryError: the request is refused; `str` is the reason for the user.
        """
        match event:
            case HostJoined():
                return self._join(event, now)
            case HostTested(host, reachable):
                return self._seats.set_reachable(host, reachable=reachable, now=now)
            case HostRefreshed(host):
                self._seats.refresh(host, now)
            case HostLeft(host):
                return self._remove({host} if host in self.members else set(), now)
            case HostSuspected(host, by):
                self._seats.suspect(host, by, now)
            case ChannelAnnounced():
                return self._channels.announce(event, now, derived=self.jobs.derives(event.host, event.channel))
            case ChannelWithdrawn(host, channel):
                return self._withdraw(host, channel)
            case SubscriptionReported(record):
                self._channels.record_subscription(record)
            case RelocationWanted(host, channel, bound_ms):
                verdict, effects = self._seat_changes.relocate(host, channel, bound_ms, now)
                return [*effects, Answer(verdict)]
            case RoutesWanted(host, channel, links_ms):
                self._report_links(host, links_ms, now)
                return self._routes.find(host, channel, now)
            case LinksReported(host, links_ms):
                self._report_links(host, links_ms, now)
            case JobWanted(job, at, has_module):
                self.jobs.request(job, at, has_module=has_module, now=now)
                return self._assignment.assign(now)
            case JobEnded(channel, owner):
                self.jobs.end(channel, owner)
                return self._assignment.assign(now)
            case JobsReported(host, slots, reports):
                self._state.member(host).slots = slots
                self.jobs.report(host, reports, now)
                return self._assignment.assign(now)
            case UnknownChannelRequested(host, channel):
                self.jobs.add_consumer(host, channel, now)
            case LeaseTick():
                return self._tick(now)
        return []

    def _join(self, event: HostJoined, now: float) -> list[DirectoryEffect]:
        self._seats.check_join(event)
        grown: list[DirectoryEffect] = []
        if self._seats.is_full_for(event.host):
            grown = [*self._seats.grow(), *self._channels.update_seats()]
        saved = self._seats.join(event, now, grown=bool(grown))
        return [*grown, *saved, *self._seats.place(now)]

    def _remove(self, hosts: set[HostId], now: float) -> list[DirectoryEffect]:
        if not hosts:
            return []
        for host in sorted(hosts):
            self._seats.remove(host)
            self.jobs.remove_host(host)
            self._seat_changes.forget(host)
        ended = self._channels.remove_published_by(hosts)
        for channel in ended:
            self._tree_advice.forget(channel)
        return [*map(DeleteHost, sorted(hosts)), *map(DeleteChannel, ended), *self._seats.place(now)]

    def _withdraw(self, host: HostId, channel: ChannelName) -> list[DirectoryEffect]:
        effects = self._channels.withdraw(host, channel)
        if effects:
            self._tree_advice.forget(channel)
        return effects

    def _report_links(self, host: HostId, links_ms: Mapping[HostId, float], now: float) -> None:
        known = {other: ms for other, ms in links_ms.items() if other in self.members and 0 <= ms < UNREACHED_MS}
        accepted = list(known.items())[: self._config.delay_table.links_per_report_max]
        self._delay_table.report(host, dict(accepted), now)

    def _tick(self, now: float) -> list[DirectoryEffect]:
        return [
            *self._remove(self._seats.expired(now), now),
            *self._shrink(now),
            *self._assignment.assign(now),
            *self._seat_changes.relocate_violated(now),
            *self._tree_advice.improve(now),
        ]

    def _shrink(self, now: float) -> list[DirectoryEffect]:
        shrunk = self._seats.shrink(now)
        return [*shrunk, *self._channels.update_seats(), *self._seats.place(now)] if shrunk else []

    # ------------------------------------------------------------------ queries

    @property
    def cube(self) -> Cube:
        """The shape now."""
        return self._state.cube

    @property
    def epoch(self) -> int:
        """The number of changes of shape so far."""
        return self._state.epoch

    @property
    def members(self) -> dict[HostId, Member]:
        """The hosts that have joined."""
        return self._state.members

    @property
    def channels(self) -> dict[ChannelName, ChannelRecord]:
        """The announced channels."""
        return self._state.channels

    def placement(self, host: HostId) -> Placement:
        """A host's labels and neighbours, computed now if they were marked as changed.

        Raises:
            DirectoryError: the host has not joined, or was removed.
        """
        self._state.member(host)
        return self._seats.placement(host)

    def host_at(self, address: str) -> HostId | None:
        """The host that can be dialled at an address; None if there is none."""
        return self._seats.host_at(address)

    def subscriptions(self) -> list[SubscriptionRecord]:
        """The latest report of every subscription of the hosts that have joined."""
        return self._state.subscriptions()

    def channels_of(self, host: HostId) -> tuple[ChannelName, ...]:
        """The channels a host publishes."""
        return self._channels.published_by(host)

    def proposals(self, host: HostId, channel: ChannelName) -> tuple[HostRecord, ...]:
        """Hosts that may be the best parents of a new subscriber, the one expected best first."""
        return self._channels.proposals(host, channel)
