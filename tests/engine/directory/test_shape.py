"""How often the cube changes its shape."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.engine.directory import events as d
from cubecast.engine.directory.config import DIRECTORY_DEFAULTS, ShapeConfig
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.errors import DirectoryError
from cubecast.overlay.cube import Cube, label_count
from tests.engine.directory.test_directory import SHRINK_S, SMALL_CUBES, engine, joined, refresh_all

SPARE_SHARE = DIRECTORY_DEFAULTS.shape.spare_share


@given(SMALL_CUBES, st.integers(0, 10_000))
def test_after_each_change_of_shape_a_quarter_of_the_seats_is_spare_or_it_is_the_first_shape(
    first: Cube, seed: int
) -> None:
    rng, directory = np.random.default_rng(seed), engine(first, seed)
    for step in range(120):
        now, epoch, growing = step * SHRINK_S, directory.epoch, (step // 40) % 2 == 0
        members = list(directory.members)
        if members and rng.random() < (0.1 if growing else 0.9):
            directory.handle(d.HostLeft(members[int(rng.integers(len(members)))]), now)
        else:
            directory.handle(joined(f"h{step}"), now)
        refresh_all(directory, now)
        directory.handle(d.LeaseTick(), now)
        spare = label_count(directory.cube) - len(directory.members)
        assert directory.epoch == epoch or directory.cube == first or spare >= SPARE_SHARE * len(directory.members)


def test_no_growth_follows_another_before_a_quarter_more_hosts_have_joined() -> None:
    directory, grown_at = engine(Cube(2, 1)), [1]
    for number in range(600):
        epoch = directory.epoch
        directory.handle(joined(f"h{number}"), 0.0)
        if directory.epoch != epoch:
            assert number >= (1 + SPARE_SHARE) * grown_at[-1] or grown_at == [1]
            grown_at.append(number + 1)
    assert len(grown_at) > 8


def test_a_cube_for_which_spare_seats_would_be_too_many_labels_grows_without_them() -> None:
    config = msgspec.structs.replace(DIRECTORY_DEFAULTS, shape=ShapeConfig(labels_max=25))
    directory = DirectoryEngine(Cube(2, 4), np.random.default_rng(1), config)
    for number in range(25):
        directory.handle(joined(f"h{number}"), 0.0)
    assert directory.cube == Cube(5, 2)
    with pytest.raises(DirectoryError, match="the overlay is full"):
        directory.handle(joined("one more"), 0.0)
