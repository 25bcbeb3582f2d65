"""Questions about delivery trees."""

from cubecast.emulator.delivery_tree import children_of, is_descendant, relays_of
from cubecast.emulator.relay_failure import busiest_relay

PARENTS = {1: 0, 2: 0, 3: 1, 4: 1, 5: 2, 6: 5, 7: 5}
"""0 publishes to 1 and 2; 1 feeds 3 and 4; 2 feeds 5, which feeds 6 and 7."""


def test_descendants_are_found_at_any_depth() -> None:
    assert [host for host in range(8) if is_descendant(PARENTS, host, 2)] == [5, 6, 7]
    assert not is_descendant(PARENTS, 2, 2)


def test_a_loop_ends_the_search() -> None:
    assert not is_descendant({1: 2, 2: 1}, 1, 0)


def test_relays_feed_others_and_do_not_publish() -> None:
    assert relays_of(PARENTS, (0,)) == [1, 2, 5]
    assert children_of(PARENTS, 5) == [6, 7]


def test_the_busiest_relay_has_the_most_receivers_below_it() -> None:
    assert busiest_relay(PARENTS, (0,), [3, 4, 6]) == 1
    assert busiest_relay(PARENTS, (0,), [3, 6, 7]) == 2, "not 5, which has as many but a larger index"
    assert busiest_relay(PARENTS, (0,), [2, 6, 7]) == 5, "not 2, which has as many but receives itself"


def test_there_is_no_busiest_relay_where_the_publisher_feeds_all_receivers() -> None:
    assert busiest_relay({1: 0, 2: 0}, (0,), [1, 2]) is None
    assert busiest_relay({1: 0, 2: 1}, (0,), [1]) is None, "2 receives nothing of its own"
