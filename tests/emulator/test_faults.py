"""Faults injected while the delay stage runs."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.emulator import faults
from cubecast.emulator.addresses import PORT, Lease
from cubecast.emulator.delays import DelayStage, Impairment
from cubecast.emulator.faults import Hidden, Island, SetImpairment, Slower
from cubecast.errors import UsageError
from tests.emulator.test_delays import DELAY_MS, endpoint, held, receive, until

__all__ = ["held"]

numbers = st.integers(0, 1000)
some_faults = st.one_of(
    st.builds(Slower, numbers, numbers, st.floats(-1e3, 1e3)),
    st.builds(Island, st.lists(numbers, max_size=9).map(tuple)),
    st.builds(SetImpairment, st.floats(0, 100), st.floats(0, 1)),
    st.builds(Hidden, st.lists(numbers, max_size=9).map(tuple)),
)


@given(some_faults)
def test_a_fault_is_decoded_as_it_was_encoded(fault: faults.Fault) -> None:
    assert faults.decode(faults.encode(fault).encode()) == fault


NOT_FAULTS = [
    b"",
    b"jitter",
    b'{"fault": "flood"}',
    b'{"fault": "slower", "a": "x"}',
    b'{"fault": "island", "host": [1]}',
    b'{"fault": "impairment", "los": 0.1}',
    b"\xff",
]


@pytest.mark.parametrize("line", NOT_FAULTS)
def test_a_line_that_is_no_fault_is_refused_with_an_example(line: bytes) -> None:
    with pytest.raises(UsageError, match='"fault":"slower"'):
        faults.decode(line)


async def test_a_link_becomes_slower_and_fast_again(held: Lease) -> None:
    stage = DelayStage(DELAY_MS * 0, held.addresses, Impairment(), seed=1)
    stage.open()
    client, server = endpoint(held.addresses, 0, 0), endpoint(held.addresses, 1, PORT)
    try:
        for by_ms, least_s in ((80.0, 0.08), (-80.0, 0.0)):
            stage.apply(Slower(0, 1, by_ms))
            sent = time.monotonic()
            client.sendto(b"x", (held.addresses.door(1), PORT))
            _, _, there = await receive(server)
            assert there - sent >= least_s, "never earlier than the link allows"
            assert stage._wait_s(0, 1) == stage._wait_s(1, 0) == pytest.approx(least_s, abs=1e-12), (
                "and it is held no longer"
            )
    finally:
        stage.close()
        client.close()
        server.close()


async def test_nothing_leaves_an_island_until_it_is_healed(held: Lease) -> None:
    stage = DelayStage(DELAY_MS * 0, held.addresses, Impairment(), seed=1)
    stage.open()
    client, server = endpoint(held.addresses, 0, 0), endpoint(held.addresses, 1, PORT)
    try:
        stage.apply(Island((1,)))
        client.sendto(b"lost", (held.addresses.door(1), PORT))
        await until(lambda: stage.report.lost == 1)
        stage.apply(Island())
        client.sendto(b"x", (held.addresses.door(1), PORT))
        assert (await receive(server))[0] == b"x", "the first datagram that arrives"
        stage.apply(SetImpairment(loss=1.0))
        client.sendto(b"lost", (held.addresses.door(1), PORT))
        await until(lambda: stage.report.lost == 2)
        assert stage.report.datagrams == 1
    finally:
        stage.close()
        client.close()
        server.close()


@pytest.mark.parametrize(
    "fault", [Slower(0, 2, 1.0), Island((0, 7)), SetImpairment(jitter_ms=-1.0), SetImpairment(loss=2.0)]
)
def test_a_fault_that_makes_no_sense_changes_nothing(held: Lease, fault: faults.Fault) -> None:
    stage = DelayStage(DELAY_MS, held.addresses, Impairment(), seed=1)
    with pytest.raises(UsageError):
        stage.apply(fault)
    assert stage._delay_s == (DELAY_MS / 1000).tolist()
    assert not stage._island
