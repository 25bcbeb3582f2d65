"""Properties of incomplete occupation."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cubecast.errors import UsageError
from cubecast.overlay.cube import Cube, distance, label_count
from cubecast.overlay.occupancy import carriers, free_labels, labels_of
from cubecast.types import HostId, Label
from tests.strategies import cubes


@st.composite
def occupied(draw: st.DrawFn) -> tuple[Cube, set[Label]]:
    shape = draw(cubes(labels_max=256))
    seats = draw(st.sets(st.integers(0, label_count(shape) - 1), min_size=1, max_size=40))
    return shape, {Label(seat) for seat in seats}


@given(occupied())
def test_every_label_is_carried_by_a_nearest_seat_and_ties_go_up(case: tuple[Cube, set[Label]]) -> None:
    shape, seats = case
    total = label_count(shape)
    expected = {
        label: min(seats, key=lambda seat: (distance(shape, label, seat), (seat - label) % total))
        for label in range(total)
    }
    assert carriers(shape, seats) == expected


@given(occupied())
def test_hosts_share_all_labels_and_each_keeps_its_seat(case: tuple[Cube, set[Label]]) -> None:
    shape, seats = case
    hosts = {HostId(f"h{seat}"): seat for seat in seats}
    held = labels_of(shape, hosts)
    assert sorted(label for labels in held.values() for label in labels) == list(range(label_count(shape)))
    assert all(hosts[host] in labels for host, labels in held.items())


@given(occupied())
def test_a_leave_moves_only_the_labels_of_the_host_that_left(case: tuple[Cube, set[Label]]) -> None:
    shape, seats = case
    assume(len(seats) > 1)
    gone = min(seats)
    before, after = carriers(shape, seats), carriers(shape, seats - {gone})
    assert all(before[label] == after[label] for label in before if before[label] != gone)


@given(occupied())
def test_free_labels_are_those_without_a_seat_most_loaded_hosts_first(case: tuple[Cube, set[Label]]) -> None:
    shape, seats = case
    free = free_labels(shape, seats)
    assert sorted([*free, *seats]) == list(range(label_count(shape)))
    owner = carriers(shape, seats)
    loads = [list(owner.values()).count(owner[label]) for label in free]
    assert list(zip(loads, free, strict=True)) == sorted(
        zip(loads, free, strict=True), key=lambda each: (-each[0], each[1])
    )


@pytest.mark.parametrize("seats", [set(), {16}, {-1}, {3, 16}, {-1, 3}])
def test_seats_outside_the_cube_are_refused(seats: set[int]) -> None:
    with pytest.raises(UsageError):
        carriers(Cube(2, 4), seats)
