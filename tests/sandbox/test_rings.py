"""Rings in shared memory: messages arrive whole and in order, or there is a typed error."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.errors import ExtensionFailed
from cubecast.sandbox.trusted import rings
from cubecast.sandbox.trusted.rings import ASLEEP, HEAD, LENGTH_BYTES, TAIL, Ring, RingFiles

SIZE = 256


@pytest.fixture
def ends() -> tuple[Ring, Ring]:
    files = RingFiles.make(SIZE)
    made = Ring(files), Ring(files)
    files.close()
    return made


@given(st.lists(st.one_of(st.binary(max_size=SIZE), st.none()), max_size=60))
def test_what_is_pushed_is_popped_and_what_does_not_fit_is_an_error(steps: list[bytes | None]) -> None:
    files = RingFiles.make(SIZE)
    writer, reader = Ring(files), Ring(files)
    waiting: list[bytes] = []
    for step in steps:
        if step is None:
            assert reader.pop(0) == (waiting.pop(0) if waiting else None)
        elif sum(len(each) + LENGTH_BYTES for each in [*waiting, step]) <= SIZE:
            writer.push(step)
            waiting.append(step)
        else:
            with pytest.raises(ExtensionFailed, match="does not fit"):
                writer.push(step)
    for each in (writer, reader):
        each.close()
    files.close()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        os.sched_yield()


def test_only_the_eventfd_needs_to_wake_a_sleeping_reader(
    ends: tuple[Ring, Ring], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rings, "SLEEP_S", 60.0)
    writer, reader = ends
    came: list[bytes | None] = []
    thread = threading.Thread(target=lambda: came.extend(reader.pop(60) for _ in range(3)), daemon=True)
    thread.start()
    for number in range(3):
        wait_until(lambda: len(came) >= number and bool(writer._words[ASLEEP // 8]))  # noqa: B023  called at once
        writer.push(bytes([number]))
    thread.join(10)
    assert came == [b"\0", b"\1", b"\2"]


def test_messages_arrive_in_order_while_both_ends_run(ends: tuple[Ring, Ring]) -> None:
    writer, reader = ends
    came: list[bytes | None] = []
    thread = threading.Thread(target=lambda: came.extend(reader.pop(10) for _ in range(50)))
    thread.start()
    for number in range(50):
        while True:
            try:
                writer.push(bytes([number]) * (number % 7))
            except ExtensionFailed:
                continue
            break
    thread.join(10)
    assert came == [bytes([number]) * (number % 7) for number in range(50)]


def test_an_impossible_length_is_an_error(ends: tuple[Ring, Ring]) -> None:
    writer, reader = ends
    writer.push(b"abc")
    writer._put(0, (2**40).to_bytes(LENGTH_BYTES, "little"))
    with pytest.raises(ExtensionFailed, match="invalid message"):
        reader.pop(0)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=SIZE // 2))
def test_no_content_of_the_shared_memory_does_more_than_fail(head: int, tail: int, length: int, pushed: bytes) -> None:
    files = RingFiles.make(SIZE)
    writer, reader = Ring(files), Ring(files)
    try:
        writer.push(pushed)
        writer._put(0, length.to_bytes(LENGTH_BYTES, "little"))
        writer._words[HEAD // 8], writer._words[TAIL // 8] = head, tail
        with suppress(ExtensionFailed):
            popped = reader.pop(0)
            assert popped is None or len(popped) == length <= SIZE
        with suppress(ExtensionFailed):
            writer.push(b"more")
            assert 0 <= LENGTH_BYTES + len(pushed) - tail <= SIZE
    finally:
        for each in (writer, reader):
            each.close()
        files.close()


def test_a_position_that_cannot_be_is_an_error(ends: tuple[Ring, Ring]) -> None:
    writer, reader = ends
    writer.push(b"abc")
    for head in (1, SIZE + 1, 2**64 - 1):
        writer._words[HEAD // 8] = head
        with pytest.raises(ExtensionFailed, match="invalid message"):
            reader.pop(0)
    reader._words[TAIL // 8] = 2**63
    with pytest.raises(ExtensionFailed, match="invalid position"):
        writer.push(b"abc")


def test_an_eventfd_that_is_full_does_not_stop_the_writer(ends: tuple[Ring, Ring]) -> None:
    writer, reader = ends
    os.eventfd_write(reader._wakeup, 2**64 - 2)
    reader._words[ASLEEP // 8] = 1
    writer.push(b"abc")
    assert reader.pop(0) == b"abc"


def test_nobody_can_change_the_size_of_the_shared_memory() -> None:
    files = RingFiles.make(SIZE)
    for size in (0, 2 * SIZE + 1000):
        with pytest.raises(PermissionError):
            os.ftruncate(files.memory, size)
    files.close()
