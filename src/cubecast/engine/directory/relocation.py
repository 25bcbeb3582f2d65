"""Relocation, live: a subscriber whose bound is not kept changes seats with a host that is nearer in the cube.

Source: the slides' Subscribe(S, P, d), as the lab measures it (cubecast.overlay.relocation), over the delays that hosts
have reported; those of pairs that nobody measured are told from coordinates. Before two hosts change seats, the paths of
every subscriber over the cube are worked out for both cases: a change that would break a bound that is kept is not made,
nor one that does not help.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from cubecast.engine.directory.delay_table import DelayTable
from cubecast.engine.protocol.path import RELAY_MS
from cubecast.engine.protocol.records import Verdict
from cubecast.overlay.cube import Cube, label_count
from cubecast.overlay.delays import Delays, delays_from, full_delays
from cubecast.overlay.many_routes import GREEDY, neighbour_table, overlay, route_all
from cubecast.overlay.occupancy import carriers
from cubecast.overlay.relocation import NO_SWAP, relocate_breadth_first, relocate_published, rings_around
from cubecast.types import HostId, Indices, Ints, Label

HOSTS_MAX, SUBSCRIBERS_MAX = 1024, 256
"""Larger overlays are not looked at: working the paths out would hold up the super-node."""
DEPTH_DEFAULT, DEPTH_MAX = 2, 16


class Form(StrEnum):
    """Whom a subscriber may change seats with, within a depth.

    - breadth-first: of the hosts at 1, 2, .. hops from the publisher, the farthest of the first ring that has a farther one.
    - published: the slides' recursion, which goes on around the farthest neighbour.
    - off: nobody.
    """

    BREADTH_FIRST = "breadth-first"
    PUBLISHED = "published"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Seated:
    """A subscriber over the cube: who publishes to it, its bound, and whether that is kept now."""

    host: HostId
    publisher: HostId
    bound_ms: float
    kept: bool


class Relocation:
    """Finds changes of seats. The directory engine owns one."""

    def __init__(self, delay_table: DelayTable, form: Form, depth: int) -> None:
        self._delay_table = delay_table
        self._form = form
        self._depth = depth

    def partner(
        self, cube: Cube, seats: Mapping[HostId, Label], fixed: set[HostId], note_missed: Seated, others: list[Seated]
    ) -> HostId | Verdict:
        """The host that a subscriber should change seats with, or why it should not.

        Args:
            seats: of every host.
            fixed: hosts that stay where they are: publishers.
            others: all subscriptions over the cube; that of the wish may be among them.
        """
        crowded = len(seats) > HOSTS_MAX or len(others) > SUBSCRIBERS_MAX
        if self._form is Form.OFF or crowded or note_missed.host in fixed:
            return Verdict.STAYS
        if not self._delay_table.knows(note_missed.host, note_missed.publisher):
            return Verdict.LATER
        hosts = list(seats)
        number = {host: index for index, host in enumerate(hosts)}
        by_seat = {seat: number[host] for host, seat in seats.items()}
        held = carriers(cube, by_seat)
        host = np.array([by_seat[held[Label(label)]] for label in range(label_count(cube))], np.int32)
        delays = full_delays(self._delay_table.matrix_ms(hosts))
        to = self._label(cube, host, delays, number[note_missed.host], number[note_missed.publisher], seats)
        if to == NO_SWAP:
            return Verdict.STAYS
        other = hosts[host[to]]
        if other in fixed or other == note_missed.host:
            return Verdict.STAYS
        after = host.copy()
        after[host == number[note_missed.host]], after[host == number[other]] = number[other], number[note_missed.host]
        return (
            other
            if self._helps(cube, (host, after), delays, number, seats, other, note_missed, others)
            else Verdict.STAYS
        )

    def _label(
        self, cube: Cube, host: Indices, delays: Delays, subscriber: int, publisher: int, seats: Mapping[HostId, Label]
    ) -> int:
        near, home = neighbour_table(cube), list(seats.values())[publisher]
        if self._form is Form.PUBLISHED:
            return int(relocate_published(near, host, delays, subscriber, publisher, home, self._depth))
        rings, first = rings_around(near, home, self._depth)
        cost_ms = delays_from(delays, publisher)
        return int(relocate_breadth_first(rings, first, host, cost_ms, subscriber, list(seats.values())[subscriber]))

    @staticmethod
    def _helps(
        cube: Cube,
        cases: tuple[Indices, Indices],
        delays: Delays,
        number: Mapping[HostId, int],
        seats: Mapping[HostId, Label],
        other: HostId,
        note_missed: Seated,
        others: list[Seated],
    ) -> bool:
        """Whether the subscriber's path becomes shorter, and nobody's kept bound is broken."""
        swapped = dict(seats) | {note_missed.host: seats[other], other: seats[note_missed.host]}
        asked = note_missed.host, note_missed.publisher
        watched = [
            note_missed,
            *(each for each in others if (each.host, each.publisher) != asked and each.host in number),
        ]
        delay_ms = []
        for host, where in zip(cases, (seats, swapped), strict=True):
            sources: Ints = np.array([where[each.host] for each in watched], np.int64)
            targets: Ints = np.array([where[each.publisher] for each in watched], np.int64)
            over = overlay(cube, host, delays)
            late_ms, hops = route_all(over, GREEDY, sources, targets, np.random.default_rng(0))
            delay_ms.append(late_ms + RELAY_MS * hops)
        before, after = delay_ms
        broken = [
            each.kept and after[place] > max(each.bound_ms, before[place])
            for place, each in enumerate(watched)
            if place
        ]
        return bool(after[0] < before[0]) and not any(broken)
