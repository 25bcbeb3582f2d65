"""Carriers kept up to date: whatever seats come and go, they are those that `occupancy` computes from nothing."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.overlay import carriers as module
from cubecast.overlay.carriers import NO_SEAT, Carriers
from cubecast.overlay.cube import Cube, degree, label_count, neighbours
from cubecast.overlay.occupancy import carriers, free_labels
from cubecast.types import Label
from tests.strategies import cubes


def assert_as_from_nothing(kept: Carriers, cube: Cube, seats: set[Label]) -> None:
    free = free_labels(cube, seats)
    assert kept.free_count == len(free)
    assert [kept.free(index) for index in range(len(free))] == free
    if not seats:
        return
    expected = carriers(cube, seats)
    assert {label: kept.carrier(label) for label in expected} == expected
    for seat in seats:
        assert kept.labels(seat) == sorted(label for label, carrier in expected.items() if carrier == seat)


@given(cubes(labels_max=100), st.data())
def test_carriers_and_free_labels_are_those_of_the_seats_whichever_come_and_go(cube: Cube, data: st.DataObject) -> None:
    label = st.integers(0, label_count(cube) - 1).map(Label)
    seats = data.draw(st.sets(label, max_size=30))
    kept = Carriers(cube, seats)
    for chosen in data.draw(st.lists(label, max_size=15)):
        before = carriers(cube, seats) if seats else {}
        leaves = chosen in seats
        moved = kept.remove(chosen) if leaves else kept.add(chosen)
        seats ^= {chosen}
        after = carriers(cube, seats) if seats else {}
        changed = {each for each in range(label_count(cube)) if before.get(Label(each)) != after.get(Label(each))}
        assert moved == {each: (after if leaves else before).get(Label(each), NO_SEAT) for each in changed}
        assert_as_from_nothing(kept, cube, seats)


@pytest.mark.parametrize("cube", [Cube(2, 8), Cube(2, 11), Cube(3, 5), Cube(3, 7)])
def test_a_change_of_one_seat_looks_up_the_neighbours_of_few_labels_however_many_there_are(
    cube: Cube, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    seats = [Label(seat) for seat in rng.permutation(label_count(cube))[: 3 * label_count(cube) // 4].tolist()]
    kept, looked_up = Carriers(cube, seats), 0

    def counted(shape: Cube, label: int) -> Iterable[Label]:
        nonlocal looked_up
        looked_up += 1
        return neighbours(shape, label)

    monkeypatch.setattr(module, "neighbours", counted)
    for seat in seats[:40]:
        kept.remove(seat)
        kept.add(seat)
    assert looked_up / 40 < 5 * degree(cube)
