"""The queue of events: urgent first, bounded, and what is dropped is the oldest of the least urgent."""

from hypothesis import given
from hypothesis import strategies as st

from cubecast.sandbox.abi import EventKind
from cubecast.sandbox.upcalls import PRIORITY, Upcall, UpcallQueue

posts = st.lists(st.sampled_from(EventKind), max_size=60)


def queue_of(kinds: list[EventKind], room: int) -> UpcallQueue:
    queue = UpcallQueue(frozenset(EventKind), room)
    for number, kind in enumerate(kinds):
        queue.post(Upcall(kind, number))
    return queue


def emptied(queue: UpcallQueue) -> list[Upcall]:
    return [upcall for upcall in iter(queue.take, None) if upcall is not None]


@given(posts)
def test_with_room_everything_comes_by_priority_then_by_age(kinds: list[EventKind]) -> None:
    came = emptied(queue_of(kinds, room=100))
    assert [upcall.time_us for upcall in came] == sorted(
        range(len(kinds)), key=lambda number: (PRIORITY[kinds[number]], number)
    )


@given(posts, st.integers(1, 10))
def test_room_is_kept_and_every_loss_is_counted(kinds: list[EventKind], room: int) -> None:
    queue = queue_of(kinds, room)
    assert len(queue) == min(room, len(kinds))
    assert queue.dropped == max(0, len(kinds) - room)


@given(posts, st.integers(1, 10))
def test_nothing_is_dropped_for_something_less_urgent(kinds: list[EventKind], room: int) -> None:
    kept = {upcall.time_us for upcall in emptied(queue_of(kinds, room))}
    lost = set(range(len(kinds))) - kept
    assert all(PRIORITY[kinds[gone]] >= PRIORITY[kinds[here]] for gone in lost for here in kept)


def test_the_oldest_of_the_least_urgent_goes() -> None:
    kinds = [EventKind.TIMER, EventKind.CONGESTION, EventKind.TIMER, EventKind.SUBSCRIBER_LEFT]
    assert [upcall.time_us for upcall in emptied(queue_of(kinds, room=3))] == [1, 3, 2]


def test_what_was_not_asked_for_is_not_taken_in() -> None:
    queue = UpcallQueue(frozenset({EventKind.TIMER}))
    queue.post(Upcall(EventKind.CONGESTION, 1))
    assert (len(queue), queue.dropped, queue.take()) == (0, 0, None)
