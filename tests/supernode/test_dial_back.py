"""Addresses are hints: a host counts as reachable at one only if its certificate and key were found there."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import moq
import numpy as np
import pytest

from cubecast.addresses import Scope
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.directory.events import HostJoined, HostLeft
from cubecast.engine.protocol.dial_back import DIAL_BACK_PATH
from cubecast.errors import DirectoryError, TokenError
from cubecast.host.directory.client import DirectoryClient
from cubecast.overlay.cube import Cube
from cubecast.supernode.access.gate import Gate
from cubecast.supernode.access.names import Names
from cubecast.supernode.access.revocations import Revocations
from cubecast.supernode.clock import SupernodeClock
from cubecast.supernode.dial_backs import DIAL_BACKS_MAX, TRIES, DialBack
from cubecast.supernode.reachability import DATAGRAM_BYTES, Claim, proved
from cubecast.supernode.server import serving
from cubecast.supernode.service import Service
from cubecast.supernode.sqlite import SqliteStore
from cubecast.tokens.authority import Authority
from cubecast.types import HostId
from tests.conditions import eventually
from tests.supernode.node import config, node, request

KEY, OTHER_KEY = "12" * 32, "34" * 32
OTHER_CERTIFICATE = "56" * 32
NO_PORT = "127.0.0.1:9"


@contextlib.asynccontextmanager
async def host_with(key: str) -> AsyncIterator[Claim]:
    """The data plane of a host, as far as it answers dial-backs."""
    server = moq.Server("127.0.0.1:0", tls_generate=["localhost"], publish=moq.OriginProducer(), subscribe=None)
    async with server:

        async def answer() -> None:
            while True:
                session = await anext(server)
                await session.reject(401 if session.path.strip("/") == DIAL_BACK_PATH + key else 404)

        answering = asyncio.create_task(answer())
        yield Claim(server.local_addr, server.cert_fingerprints()[0], key)
        answering.cancel()


@dataclass
class Silent:
    """A UDP socket that counts what it gets and never answers."""

    address: str
    received: list[int] = field(default_factory=list)


@contextlib.contextmanager
def silent() -> Iterator[Silent]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        found = Silent(f"127.0.0.1:{receiver.getsockname()[1]}")

        def count() -> None:
            while data := receiver.recv(65_536):
                found.received.append(len(data))

        counting = threading.Thread(target=count)
        counting.start()
        try:
            yield found
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"", receiver.getsockname())  # after all that was sent before
            counting.join()


async def test_a_host_is_proved_where_its_certificate_and_its_key_are() -> None:
    async with host_with(KEY) as claim:
        assert await proved(claim)


async def test_the_certificate_of_another_host_is_no_proof() -> None:
    async with host_with(KEY) as claim:
        assert not await proved(replace(claim, fingerprint=OTHER_CERTIFICATE))


async def test_a_host_that_copies_the_certificate_and_the_address_of_another_is_not_proved() -> None:
    async with host_with(KEY) as claim:
        assert not await proved(replace(claim, key=OTHER_KEY))


async def test_a_silent_address_is_sent_one_datagram_which_is_less_than_the_join_request_had() -> None:
    with silent() as receiver:
        assert not await proved(Claim(receiver.address, OTHER_CERTIFICATE, KEY))
    assert receiver.received == [DATAGRAM_BYTES]


async def test_a_join_request_is_larger_than_what_is_sent_to_its_address(tmp_path: Path) -> None:
    sent: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[16:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length: "))
        sent.append(head + await reader.readexactly(length))
        nonce = b"DPoP-Nonce: " + b"n" * len(running.service.nonce())
        writer.write(b"HTTP/1.1 401 Unauthorized\r\n" + nonce + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with node(tmp_path, http=True) as running, await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = DirectoryClient(url, running.client()._join_token, lambda _: None)
        with contextlib.suppress(DirectoryError, TokenError):
            await client.join(request(client, "h"))
        await client.close()
    assert len(sent[-1]) > DATAGRAM_BYTES


async def test_a_failed_dial_back_takes_the_same_time_whatever_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(delay_s: float) -> None:
        slept.append(delay_s)

    async def dial_back(claim: Claim) -> bool:
        clock.passed_s += spent[claim.address]
        return False

    class Clock:
        passed_s = 0.0

        def time(self) -> float:
            return self.passed_s

    clock = Clock()
    spent = {"10.0.0.1:1": 0.003, "10.0.0.2:1": 0.6, "10.0.0.3:1": 2.5}
    service = service_with(tmp_path, dial_back, 0)
    monkeypatch.setattr("cubecast.supernode.dial_backs.asyncio.get_running_loop", lambda: clock)
    monkeypatch.setattr("cubecast.supernode.dial_backs.asyncio.sleep", sleep)
    for address in spent:
        assert not await service.dial_backs.joining(HostId("h"), Claim(address, "ab" * 32, KEY), "10.0.0.9")
    took_s = [spent_s + slept_s for spent_s, slept_s in zip(spent.values(), slept, strict=True)]
    assert took_s == pytest.approx([took_s[0]] * 3)


@pytest.mark.parametrize(
    ("origin", "address", "is_dialled"),
    [
        ("127.0.0.1", "127.0.0.1:1", True),
        ("127.0.0.1", "10.0.0.1:1", True),
        ("127.0.0.1", "8.8.8.8:1", True),
        ("192.168.1.1", "10.0.0.1:1", True),
        ("10.0.0.1", "127.0.0.1:1", False),
        ("10.0.0.1", "[::1]:1", False),
        ("8.8.8.8", "127.0.0.1:1", False),
        ("8.8.8.8", "10.0.0.1:1", False),
        ("8.8.8.8", "100.64.0.1:1", False),
        ("2606:4700::1", "[fd00::1]:1", False),
        ("", "10.0.0.1:1", False),
        ("8.8.8.8", "8.8.4.4:1", True),
    ],
)
async def test_a_request_from_farther_away_has_nobody_dialled_inside(
    tmp_path: Path, origin: str, address: str, is_dialled: bool
) -> None:
    dialled: list[str] = []

    async def dial_back(claim: Claim) -> bool:
        dialled.append(claim.address)
        return True

    service = service_with(tmp_path, dial_back, 0)
    assert await service.dial_backs.joining(HostId("h"), Claim(address, "ab" * 32, KEY), origin) == is_dialled
    joins(service.engine, "h", address, reachable=False)
    service.dial_backs.heard(HostId("h"), origin)
    await service.dial_backs.dial_all(service.stopping)
    assert dialled == [address] * 2 * is_dialled
    assert service.engine.members[HostId("h")].record.reachable == is_dialled


async def test_a_host_is_joined_under_the_one_spelling_of_its_address_and_hidden_if_it_is_not_there(
    tmp_path: Path,
) -> None:
    async with serving(replace(config(tmp_path), dial_back=True)) as service, node_clients(service, tmp_path) as client:
        asked = replace(request(client, "h"), address="[::ffff:127.0.0.1]:09")
        placed = (await client.join(asked)).placement.record
        assert (placed.reachable, placed.address) == (False, "")
        assert service.engine.members[HostId("h")].address == NO_PORT


@contextlib.asynccontextmanager
async def node_clients(service: Service, state: Path) -> AsyncIterator[DirectoryClient]:
    client = DirectoryClient(
        f"https://127.0.0.1:{service.port}", (state / "join.token").read_text().strip(), lambda _: None
    )
    yield client
    await client.close()


@pytest.mark.parametrize("address", ["localhost:1", "127.1:1", "224.0.0.1:1", "h.example:4443"])
async def test_a_join_with_another_address_is_refused_with_one_clear_line(tmp_path: Path, address: str) -> None:
    async with node(tmp_path) as running:
        client = running.client()
        with pytest.raises(DirectoryError, match=r"address .* is (not IP:PORT|a multicast address)"):
            await client.join(replace(request(client, "h"), address=address))


async def test_an_address_that_was_only_named_does_not_keep_the_host_out_that_is_there(tmp_path: Path) -> None:
    async def dial_back(claim: Claim) -> bool:
        return claim.key != "key of squatter"

    service = service_with(tmp_path, dial_back, 0)
    joins(service.engine, "squatter", "10.0.0.1:1", reachable=False)
    assert await service.dial_backs.joining(HostId("h"), Claim("10.0.0.1:1", "ab" * 32, "key of h"), "10.0.0.1")
    joins(service.engine, "h", "10.0.0.1:1")
    service.dial_backs.heard(HostId("squatter"), "10.0.0.1")
    service.dial_backs.heard(HostId("h"), "10.0.0.1")
    await service.dial_backs.dial_all(service.stopping)
    assert reachable(service) == {"squatter": False, "h": True}


async def test_of_two_hosts_at_one_address_the_one_counts_whose_certificate_was_found_there_last(
    tmp_path: Path,
) -> None:
    async def dial_back(claim: Claim) -> bool:
        return claim.key == there

    service = service_with(tmp_path, dial_back, 0)
    there = "key of a"
    joins(service.engine, "a", "10.0.0.1:1")
    there = "key of b"  # a new process of another name, before the lease of the first one has ended
    assert await service.dial_backs.joining(HostId("b"), Claim("10.0.0.1:1", "ab" * 32, "key of b"), "10.0.0.1")
    joins(service.engine, "b", "10.0.0.1:1")
    assert reachable(service) == {"a": False, "b": True}
    there = "key of a"
    service.dial_backs.heard(HostId("a"), "10.0.0.1")
    await service.dial_backs.dial_all(service.stopping)
    assert reachable(service) == {"a": True, "b": False}


async def test_a_host_that_was_proved_is_hidden_after_several_failures_only(tmp_path: Path) -> None:
    dialled: list[str] = []

    async def dial_back(claim: Claim) -> bool:
        dialled.append(claim.address)
        return len(dialled) == TRIES

    service = service_with(tmp_path, dial_back, 1)
    await service.dial_backs.dial_all(service.stopping)
    assert (len(dialled), reachable(service)) == (TRIES, {"h0": True})


async def test_a_host_that_has_left_is_forgotten(tmp_path: Path) -> None:
    async def dial_back(claim: Claim) -> bool:
        return bool(claim.key)

    service = service_with(tmp_path, dial_back, 1)
    for name in ("h0", "gone"):
        service.dial_backs.heard(HostId(name), "10.0.0.1")
    await service.dial_backs.dial_all(service.stopping)
    assert service.dial_backs._origins == {"h0": Scope.NETWORK}


def reachable(service: Service) -> dict[str, bool]:
    return {host: member.record.reachable for host, member in service.engine.members.items()}


def joins(engine: DirectoryEngine, name: str, address: str, *, reachable: bool = True) -> None:
    event = HostJoined(HostId(name), address, "ab" * 32, f"key of {name}", 8, "", reachable)
    engine.handle(event, time.time())


def service_with(tmp_path: Path, dial_back: DialBack, hosts: int) -> Service:
    """A super-node with some hosts, which are reachable until they are dialled back."""
    engine = DirectoryEngine(Cube(2, 8), np.random.default_rng(1))
    store = SqliteStore(tmp_path / "directory.sqlite")
    store.first_shape(Cube(2, 8), Cube(2, 8))
    clock = SupernodeClock()
    gate = Gate(Authority.load(tmp_path / "authority.pem"), clock, Names(), Revocations())
    service = Service(engine, store, gate, clock, dial_back)
    for number in range(hosts):
        joins(engine, f"h{number}", f"10.0.0.{number}:1")
    return service


async def test_hosts_are_dialled_back_several_at_a_time_and_not_too_many(tmp_path: Path) -> None:
    dialled: list[str] = []
    release = asyncio.Event()

    async def dial_back(claim: Claim) -> bool:
        dialled.append(claim.address)
        await release.wait()
        return False

    service = service_with(tmp_path, dial_back, 2 * DIAL_BACKS_MAX)
    addresses = {member.address for member in service.engine.members.values()}
    round_of_all = asyncio.create_task(service.dial_backs.dial_all(service.stopping))
    await eventually(lambda: len(dialled) == DIAL_BACKS_MAX)
    assert all(reachable(service).values())
    release.set()
    await round_of_all
    assert set(dialled) == addresses
    assert not any(reachable(service).values())


async def test_a_dial_back_says_nothing_of_a_host_that_has_moved_or_left_meanwhile(tmp_path: Path) -> None:
    async def dial_back(claim: Claim) -> bool:
        if claim.address == "10.0.0.0:1":
            joins(service.engine, "h0", "10.0.1.0:1")
        if claim.address == "10.0.0.1:1":
            service.engine.handle(HostLeft(HostId("h1")), time.time())
        return False

    service = service_with(tmp_path, dial_back, 3)
    await service.dial_backs.dial_all(service.stopping)
    assert reachable(service) == {"h0": True, "h2": False}
