"""Laws of feasibility distances: a host never accepts as its parent a host that has its numbers from it."""

from hypothesis import given
from hypothesis import strategies as st

from cubecast.engine.protocol.feasibility import FeasibilityDistance

seqnos = st.integers(0, 5)
depths = st.integers(0, 5)
distances = st.one_of(st.just(FeasibilityDistance()), st.builds(FeasibilityDistance, seqno=seqnos, depth=depths))


@given(seqnos, depths)
def test_a_host_that_has_forwarded_nothing_accepts_any_parent(seqno: int, depth: int) -> None:
    assert FeasibilityDistance().allows(seqno, depth)


@given(distances, seqnos, depths)
def test_a_newer_number_is_allowed_at_any_depth_and_an_older_one_at_none(
    distance: FeasibilityDistance, newer: int, depth: int
) -> None:
    assert distance.allows(distance.seqno + 1 + newer, depth)
    assert not distance.allows(distance.seqno - 1 - newer, depth)


@given(distances, seqnos, depths, st.integers(1, 5))
def test_what_a_host_has_forwarded_is_not_allowed_from_its_descendants(
    distance: FeasibilityDistance, seqno: int, depth: int, below: int
) -> None:
    after = distance.passed_on(seqno, depth)
    assert not after.allows(seqno, depth)
    assert not after.allows(seqno, depth + below)


@given(distances, distances, seqnos, depths)
def test_the_stricter_of_two_allows_what_both_allow(
    one: FeasibilityDistance, other: FeasibilityDistance, seqno: int, depth: int
) -> None:
    assert one.stricter(other).allows(seqno, depth) == (one.allows(seqno, depth) and other.allows(seqno, depth))


@given(distances, seqnos, depths)
def test_a_grandparent_is_allowed_if_the_parent_one_hop_below_it_is(
    distance: FeasibilityDistance, seqno: int, depth: int
) -> None:
    assert distance.one_above().allows(seqno, depth) == distance.allows(seqno, depth + 1)


@given(distances, seqnos, depths, st.integers(1, 5), st.integers(1, 5))
def test_numbers_of_another_publication_do_not_count(
    distance: FeasibilityDistance, seqno: int, depth: int, mine: int, other: int
) -> None:
    carried = FeasibilityDistance().passed_on(seqno, depth, mine)
    assert carried.allows(0, depth, other) == (mine != other)
    assert carried.passed_on(0, depth, mine + 5) == FeasibilityDistance(0, depth, mine + 5)
    assert carried.stricter(distance) == carried, "the newer publication's"


def test_of_one_number_the_least_depth_counts_however_large_the_number_is() -> None:
    """Numbers are milliseconds since the Unix epoch; the same one arrives from different parents."""
    milliseconds = 1_700_000_000_000
    distance = FeasibilityDistance().passed_on(milliseconds, 5).passed_on(int(str(milliseconds)), 3)
    assert distance == FeasibilityDistance(milliseconds, 3)
