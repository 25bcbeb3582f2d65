"""The queue of upcalls: the most urgent first; when it is full the oldest of the least urgent is dropped."""

from hypothesis import given
from hypothesis import strategies as st

from cubecast.sandbox.abi import EventKind
from cubecast.sandbox.upcalls import PRIORITY, Upcall, UpcallQueue

posts = st.lists(st.sampled_from(EventKind), max_size=60)


def queue_of(kinds: list[EventKind], capacity: int) -> UpcallQueue:
    queue = UpcallQueue(frozenset(EventKind), capacity)
    for number, kind in enumerate(kinds):
        queue.post(Upcall(kind, number))
    return queue


def emptied(queue: UpcallQueue) -> list[Upcall]:
    return [upcall for upcall in iter(queue.take, None) if upcall is not None]


@given(posts)
def test_upcalls_come_by_priority_then_by_age(kinds: list[EventKind]) -> None:
    came = emptied(queue_of(kinds, capacity=100))
    assert [upcall.time_us for upcall in came] == sorted(
        range(len(kinds)), key=lambda number: (PRIORITY[kinds[number]], number)
    )


@given(posts, st.integers(1, 10))
def test_the_capacity_is_kept_and_every_drop_is_counted(kinds: list[EventKind], capacity: int) -> None:
    queue = queue_of(kinds, capacity)
    assert len(queue) == min(capacity, len(kinds))
    assert queue.dropped == max(0, len(kinds) - capacity)


@given(posts, st.integers(1, 10))
def test_nothing_is_dropped_for_something_less_urgent(kinds: list[EventKind], capacity: int) -> None:
    kept = {upcall.time_us for upcall in emptied(queue_of(kinds, capacity))}
    lost = set(range(len(kinds))) - kept
    assert all(PRIORITY[kinds[gone]] >= PRIORITY[kinds[here]] for gone in lost for here in kept)


def test_the_oldest_of_the_least_urgent_is_dropped() -> None:
    kinds = [EventKind.TIMER, EventKind.CONGESTION, EventKind.TIMER, EventKind.SUBSCRIBER_LEFT]
    assert [upcall.time_us for upcall in emptied(queue_of(kinds, capacity=3))] == [1, 3, 2]


def test_events_that_the_manifest_does_not_name_are_ignored() -> None:
    queue = UpcallQueue(frozenset({EventKind.TIMER}))
    queue.post(Upcall(EventKind.CONGESTION, 1))
    assert (len(queue), queue.dropped, queue.take()) == (0, 0, None)
