"""Properties of k-ary n-cubes."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.errors import UsageError
from cubecast.overlay.cube import (
    Cube,
    cube,
    degree,
    distance,
    format_label,
    label_count,
    mean_hops,
    neighbours,
    parse_cube,
    parse_label,
)
from tests.strategies import cubes, labels


@given(cubes(), st.data())
def test_neighbours_are_one_hop_away_and_mutual(shape: Cube, data: st.DataObject) -> None:
    here = data.draw(labels(shape))
    around = neighbours(shape, here)
    assert len(set(around)) == len(around) == degree(shape)
    for there in around:
        assert distance(shape, here, there) == 1
        assert here in neighbours(shape, there)


@given(cubes(), st.data())
def test_distance_is_a_metric_that_one_hop_changes_by_at_most_one(shape: Cube, data: st.DataObject) -> None:
    a, b, c = (data.draw(labels(shape)) for _ in range(3))
    assert distance(shape, a, b) == distance(shape, b, a)
    assert (distance(shape, a, b) == 0) == (a == b)
    assert distance(shape, a, c) <= distance(shape, a, b) + distance(shape, b, c)
    assert all(abs(distance(shape, near, b) - distance(shape, a, b)) <= 1 for near in neighbours(shape, a))


@given(cubes(labels_max=400))
def test_mean_hops_are_those_over_all_pairs(shape: Cube) -> None:
    hops = [distance(shape, 0, there) for there in range(label_count(shape))]  # a cube looks the same from every label
    assert sum(hops) / len(hops) == pytest.approx(mean_hops(*shape))


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_4_ary_n_cube_is_a_2n_cube(dimensions: int) -> None:
    """C4 = Q2: the digits 0 1 2 3 of a ring of four are the corners 00 01 11 10 of a square."""
    ring, square = Cube(4, dimensions), Cube(2, 2 * dimensions)
    gray = (0b00, 0b01, 0b11, 0b10)

    def corner(label: int) -> int:
        return sum(gray[label // 4**d % 4] << 2 * d for d in range(dimensions))

    for a, b in product(range(label_count(ring)), repeat=2):
        assert distance(ring, a, b) == distance(square, corner(a), corner(b))
    assert degree(ring) == degree(square)
    assert mean_hops(*ring) == mean_hops(*square)


@given(cubes(), st.data())
def test_formatting_and_parsing_are_inverse(shape: Cube, data: st.DataObject) -> None:
    label = data.draw(labels(shape))
    assert parse_label(shape, format_label(shape, label)) == label
    assert parse_cube(str(shape)) == shape


@pytest.mark.parametrize("text", ["", "2", "2^", "^4", "1^4", "2^0", "2^33", "a^b", "-2^4", "2^4^4", "9999999999999^1"])
def test_an_impossible_shape_gives_an_error_of_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_cube(text)
    assert "shape" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "01", "0102", "2222", "abc"])
def test_a_label_of_another_cube_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="digits below 2"):
        parse_label(cube(2, 3), text)
