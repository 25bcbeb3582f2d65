"""The delay stage on real sockets."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.emulator.addresses import HOSTS_MAX, PORT, Addresses, Lease, lease
from cubecast.emulator.delays import DelayStage, Impairment
from cubecast.errors import AddressError, UsageError

DELAY_MS = np.array([[0.0, 30.0], [50.0, 0.0]])


@pytest.fixture
async def held() -> AsyncIterator[Lease]:
    taken = lease()
    yield taken
    taken.close()


def endpoint(addresses: Addresses, index: int, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    opened.bind((addresses.host(index), port))
    opened.setblocking(False)
    return opened


async def receive(opened: socket.socket, seconds: float = 5.0) -> tuple[bytes, tuple[str, int], float]:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(seconds):
        data, sender = await loop.sock_recvfrom(opened, 2048)
    return data, sender, time.monotonic()


async def until(condition: Callable[[], bool]) -> None:
    """Waits until a condition holds that no event announces."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  the stage has no event
            await asyncio.sleep(0.005)


async def test_each_way_takes_its_own_delay_and_never_less(held: Lease) -> None:
    stage = DelayStage(DELAY_MS, held.addresses, Impairment(), seed=1)
    stage.open()
    client, server = endpoint(held.addresses, 0, 0), endpoint(held.addresses, 1, PORT)
    try:
        for number in range(5):
            sent = time.monotonic()
            client.sendto(b"%d" % number, (held.addresses.door(1), PORT))
            data, peer, there = await receive(server)
            assert data == b"%d" % number
            assert peer[0] == held.addresses.door(0), "the receiver sees the sender's door"
            server.sendto(b"back", peer)
            answer, door, back = await receive(client)
            assert (answer, door) == (b"back", (held.addresses.door(1), PORT))
            assert there - sent >= 0.030
            assert back - there >= 0.050 - 0.001  # `there` is read a moment after the datagram came
        assert stage.report.datagrams == 10
        assert stage.report.dropped == stage.report.lost == 0
        late = stage.report.lateness_ms()
        assert 0 <= late["p50"] <= late["p99"] <= late["max"]
    finally:
        stage.close()
        client.close()
        server.close()


async def test_loss_drops_its_share_and_counts_it(held: Lease) -> None:
    stage = DelayStage(DELAY_MS * 0, held.addresses, Impairment(loss=0.3), seed=1)
    stage.open()
    client, server = endpoint(held.addresses, 0, 0), endpoint(held.addresses, 1, PORT)
    try:
        for _ in range(200):
            client.sendto(b"x", (held.addresses.door(1), PORT))
            await asyncio.sleep(0)
        await until(lambda: stage.report.datagrams + stage.report.lost >= 200)
        for _ in range(stage.report.datagrams):
            await receive(server)
        assert 0.2 < stage.report.lost / 200 < 0.4
    finally:
        stage.close()
        client.close()
        server.close()


@given(jitter_ms=st.floats(0.001, 10_000), seed=st.integers(0, 2**31))
def test_jitter_adds_at_least_nothing_and_at_most_its_limit(jitter_ms: float, seed: int) -> None:
    stage = DelayStage(DELAY_MS, Addresses(20), Impairment(jitter_ms=jitter_ms), seed)
    for source, target in ((0, 1), (1, 0)):
        delay_s = DELAY_MS[source, target] / 1000
        added_s = [stage._wait_s(source, target) - delay_s for _ in range(100)]
        assert all(-1e-9 <= each <= jitter_ms / 1000 + 1e-9 for each in added_s)
        assert max(added_s) - min(added_s) >= jitter_ms / 1000 / 2, "it is spread over the whole range"


async def test_jitter_delays_datagrams_so_that_they_overtake_each_other(held: Lease) -> None:
    stage = DelayStage(np.zeros((2, 2)), held.addresses, Impairment(jitter_ms=40), seed=1)
    stage.open()
    client, server = endpoint(held.addresses, 0, 0), endpoint(held.addresses, 1, PORT)
    try:
        sent = time.monotonic()
        for number in range(60):
            client.sendto(b"%d" % number, (held.addresses.door(1), PORT))
        arrivals = [await receive(server) for _ in range(60)]
        assert [int(data) for data, _, _ in arrivals] != list(range(60)), "datagrams overtake each other"
        assert arrivals[-1][2] - sent >= 0.030
    finally:
        stage.close()
        client.close()
        server.close()


async def test_datagrams_of_unknown_senders_are_counted_and_not_forwarded(held: Lease) -> None:
    stage = DelayStage(DELAY_MS * 0, held.addresses, Impairment(), seed=1)
    stage.open()
    client, server = endpoint(held.addresses, 0, 0), endpoint(held.addresses, 1, PORT)
    unknown = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        for _ in range(3):
            unknown.sendto(b"hello", (held.addresses.door(1), PORT))
        await until(lambda: stage.report.unknown_senders == 3)
        client.sendto(b"known", (held.addresses.door(1), PORT))
        assert (await receive(server))[0] == b"known", "the first datagram that arrives"
        assert stage.report.datagrams == 1
    finally:
        stage.close()
        client.close()
        server.close()
        unknown.close()


async def test_a_door_in_use_is_one_clear_line(held: Lease) -> None:
    stage = DelayStage(DELAY_MS, held.addresses, Impairment(), seed=1)
    stage.open()
    other = DelayStage(DELAY_MS, held.addresses, Impairment(), seed=1)
    try:
        with pytest.raises(AddressError, match="end the other emulation"):
            other.open()
    finally:
        other.close()
        stage.close()


def test_emulations_at_the_same_time_lease_different_networks() -> None:
    one, two = lease(), lease()
    assert one.addresses.net != two.addresses.net
    with pytest.raises(AddressError, match="no free loopback network"):
        lease(range(one.addresses.net, one.addresses.net + 2, 2))
    one.close()
    two.close()


def test_a_host_is_identified_by_its_own_address_and_not_by_its_door() -> None:
    plan = Addresses(20)
    for index in (0, 1, 249, 250, HOSTS_MAX - 1):
        assert plan.index(plan.host(index)) == index
        assert plan.index(plan.door(index)) is None


@pytest.mark.parametrize("address", ["127.20.0.0", "127.20.255.255", "127.20.250.1", "10.0.0.1"])
def test_an_address_of_no_host_identifies_none(address: str) -> None:
    assert Addresses(20).index(address) is None


async def test_the_oldest_flow_is_closed_for_a_new_one(held: Lease) -> None:
    stage = DelayStage(DELAY_MS * 0, held.addresses, Impairment(), seed=1)
    stage.open()
    stage._flows_max = 4
    server = endpoint(held.addresses, 1, PORT)
    clients = [endpoint(held.addresses, 0, 0) for _ in range(12)]
    try:
        for number, client in enumerate(clients):
            client.sendto(b"%d" % number, (held.addresses.door(1), PORT))
            data, peer, _ = await receive(server)
            server.sendto(data, peer)
            assert (await receive(client))[0] == b"%d" % number
            assert len(stage._flows) <= 4
    finally:
        stage.close()
        for opened in (server, *clients):
            opened.close()


@pytest.mark.parametrize("wrong", [{"jitter_ms": -1}, {"loss": 1.5}, {"loss": float("nan")}])
def test_impossible_impairments_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Impairment(**wrong)
