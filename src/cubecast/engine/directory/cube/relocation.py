"""Relocation: a subscriber whose bound is not kept changes seats with a host that is nearer to its publisher in the cube.

Source: the slides' Subscribe(S, P, d), as the lab measures it (cubecast.overlay.relocation), over the delays that hosts
have reported; those of pairs that were not measured are estimated from coordinates. Before two hosts change seats, the
paths of all subscribers over the cube are computed for both cases: a change that would break a bound that is kept is not
made, nor one that does not shorten the subscriber's own path.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cubecast.engine.directory.config import RelocationConfig, RelocationForm
from cubecast.engine.directory.delay_table import DelayTable
from cubecast.engine.protocol.path import RELAY_MS
from cubecast.engine.protocol.records import Verdict
from cubecast.overlay.cube import Cube, label_count
from cubecast.overlay.delays import Delays, delays_from, full_delays
from cubecast.overlay.many_routes import GREEDY, neighbour_table, overlay, route_all
from cubecast.overlay.occupancy import carriers
from cubecast.overlay.relocation import NO_SWAP, relocate_breadth_first, relocate_published, rings_around
from cubecast.types import Floats, HostId, Indices, Ints, Label


@dataclass(frozen=True, slots=True)
class CubeSubscription:
    """A subscription over the cube.

    Attributes:
        host: the subscriber.
        kept: whether its bound is kept now.
    """

    host: HostId
    publisher: HostId
    bound_ms: float
    kept: bool


class _SeatMap:
    """The seats of all hosts as arrays, hosts as indices."""

    def __init__(self, cube: Cube, seats: Mapping[HostId, Label]) -> None:
        self.cube = cube
        self.seats = seats
        self.hosts = list(seats)
        self.index = {host: index for index, host in enumerate(self.hosts)}
        by_seat = {seat: self.index[host] for host, seat in seats.items()}
        carrier_seats = carriers(cube, by_seat)
        self.carrier: Indices = np.array(
            [by_seat[carrier_seats[Label(label)]] for label in range(label_count(cube))], np.int32
        )
        """Shape (labels,): the host that carries each label."""

    def swapped(self, a: HostId, b: HostId) -> tuple[Indices, dict[HostId, Label]]:
        """The carrier of each label and the seat of each host after two hosts have changed seats."""
        carrier = self.carrier.copy()
        carrier[self.carrier == self.index[a]] = self.index[b]
        carrier[self.carrier == self.index[b]] = self.index[a]
        return carrier, dict(self.seats) | {a: self.seats[b], b: self.seats[a]}


class Relocation:
    """Finds changes of seats. The directory engine owns one."""

    def __init__(self, delay_table: DelayTable, config: RelocationConfig) -> None:
        self._delay_table = delay_table
        self._config = config

    def partner(
        self,
        cube: Cube,
        seats: Mapping[HostId, Label],
        fixed: set[HostId],
        requested: CubeSubscription,
        others: list[CubeSubscription],
    ) -> HostId | Verdict:
        """The host that a subscriber should change seats with, or why it should not.

        Args:
            seats: of every host.
            fixed: hosts that keep their seats: publishers.
            requested: the subscription whose bound is not kept.
            others: all subscriptions over the cube; the requested one may be among them.
        """
        own = requested.host, requested.publisher
        subscribers = len(others) + all((each.host, each.publisher) != own for each in others)
        too_large = len(seats) > self._config.hosts_max or subscribers > self._config.subscribers_max
        if self._config.form is RelocationForm.OFF or too_large or requested.host in fixed:
            return Verdict.STAYS
        if not self._delay_table.knows(requested.host, requested.publisher):
            return Verdict.LATER
        seat_map = _SeatMap(cube, seats)
        delays = full_delays(self._delay_table.matrix_ms(seat_map.hosts))
        label = self._label(seat_map, delays, requested)
        if label == NO_SWAP:
            return Verdict.STAYS
        partner = seat_map.hosts[seat_map.carrier[label]]
        if partner in fixed or partner == requested.host:
            return Verdict.STAYS
        return partner if self._helps(seat_map, delays, partner, requested, others) else Verdict.STAYS

    def _label(self, seat_map: _SeatMap, delays: Delays, requested: CubeSubscription) -> int:
        """The label whose carrier the subscriber should change seats with, or NO_SWAP."""
        near = neighbour_table(seat_map.cube)
        carrier, depth = seat_map.carrier, self._config.depth
        subscriber, publisher = seat_map.index[requested.host], seat_map.index[requested.publisher]
        publisher_seat = seat_map.seats[requested.publisher]
        if self._config.form is RelocationForm.PUBLISHED:
            return int(relocate_published(near, carrier, delays, subscriber, publisher, publisher_seat, depth))
        rings, first = rings_around(near, publisher_seat, depth)
        cost_ms = delays_from(delays, publisher)
        seat = seat_map.seats[requested.host]
        return int(relocate_breadth_first(rings, first, carrier, cost_ms, subscriber, seat))

    @staticmethod
    def _helps(
        seat_map: _SeatMap,
        delays: Delays,
        partner: HostId,
        requested: CubeSubscription,
        others: list[CubeSubscription],
    ) -> bool:
        """Whether the subscriber's path becomes shorter, and no kept bound of another is broken."""
        own = requested.host, requested.publisher
        watched = [
            requested,
            *(each for each in others if (each.host, each.publisher) != own and each.host in seat_map.index),
        ]
        before_ms = _path_delays_ms(seat_map.cube, seat_map.carrier, seat_map.seats, delays, watched)
        after_ms = _path_delays_ms(seat_map.cube, *seat_map.swapped(requested.host, partner), delays, watched)
        broken = [
            each.kept and after_ms[place] > max(each.bound_ms, before_ms[place])
            for place, each in enumerate(watched)
            if place
        ]
        return bool(after_ms[0] < before_ms[0]) and not any(broken)


def _path_delays_ms(
    cube: Cube,
    carrier: Indices,
    seats: Mapping[HostId, Label],
    delays: Delays,
    subscriptions: list[CubeSubscription],
) -> Floats:
    """Delays of the greedy paths of subscriptions, relays included, shape (s,), ms."""
    sources: Ints = np.array([seats[each.host] for each in subscriptions], np.int64)
    targets: Ints = np.array([seats[each.publisher] for each in subscriptions], np.int64)
    routed = overlay(cube, carrier, delays)
    links_ms, hops = route_all(routed, GREEDY, sources, targets, np.random.default_rng(0))
    delays_ms: Floats = links_ms + RELAY_MS * hops
    return delays_ms
