"""The address that a host sends to the super-node: resolved here, in its one spelling."""

import socket

import pytest

from cubecast.errors import AddressError
from cubecast.host.advertised import advertised_address, reachable_address
from cubecast.host.config import HostConfig
from cubecast.host.media.dataplane import DataPlane
from cubecast.types import HostId

SUPERNODE = "http://127.0.0.1:7000"
NAMES = {
    "relay.example": ["2001:db8::5", "203.0.113.5"],
    "six.example": ["2001:db8::6"],
    "group.example": ["224.0.0.1"],
}


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(name: str, _port: object, wanted: int, *_: object) -> list[tuple[object, ...]]:
        six = [(socket.AF_INET6, ip) for ip in NAMES.get(name, ()) if ":" in ip]
        four = [(socket.AF_INET, ip) for ip in NAMES.get(name, ()) if ":" not in ip]
        found: list[tuple[object, ...]] = [
            (each, 0, 0, "", (ip, 0)) for each, ip in six + four if wanted in (each, socket.AF_UNSPEC)
        ]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def advertises(address: str, bound: str = "0.0.0.0:4443") -> str:
    return advertised_address(HostConfig(HostId("h"), SUPERNODE, "", advertise=address), bound)


@pytest.mark.usefixtures("resolver")
def test_a_name_is_resolved_to_an_address_of_the_kind_that_the_host_listens_on() -> None:
    assert advertises("relay.example:04443") == "203.0.113.5:4443"
    assert advertises("relay.example:4443", "[::]:4443") == "[2001:db8::5]:4443"


@pytest.mark.usefixtures("resolver")
@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("nobody.example:1", "the name 'nobody.example' cannot be resolved"),
        ("six.example:1", "needs an address of IPv4, as this host listens on"),
        ("group.example:1", "--advertise group.example:1: address .* is a multicast address"),
    ],
)
def test_a_name_that_gives_no_address_of_a_host_is_one_clear_line(address: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        advertises(address)


@pytest.mark.parametrize(
    ("address", "canonical"),
    [
        ("127.0.0.1:04443", "127.0.0.1:4443"),
        ("[2001:DB8::0005]:1", "[2001:db8::5]:1"),
        ("[::ffff:10.0.0.1]:1", "10.0.0.1:1"),
    ],
)
def test_an_address_is_sent_in_its_one_spelling(address: str, canonical: str) -> None:
    assert advertises(address) == canonical


def test_a_host_that_listens_where_no_other_can_reach_it_is_to_say_where_they_can() -> None:
    with pytest.raises(AddressError, match=r"link-local address.*--advertise"):
        advertises("", "[fe80::1]:4443")


async def test_a_name_to_listen_on_that_is_unknown_is_reported_as_such() -> None:
    plane = DataPlane.__new__(DataPlane)
    plane._bind = "no-such-host.invalid:0"
    with pytest.raises(AddressError, match="the name cannot be resolved; give an IP address with --listen"):
        await plane.listen()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1", "http://127.0.0.1:7000/", "127.0.0.1", "https://user:word@127.0.0.1"]
)
def test_the_address_towards_the_supernode_is_found_whatever_form_its_url_has(url: str) -> None:
    assert reachable_address(HostConfig(HostId("h"), url, ""), "0.0.0.0:4443") == "127.0.0.1:4443"


def test_a_host_bound_to_ipv4_never_advertises_an_address_of_ipv6() -> None:
    with pytest.raises(AddressError, match=r"listens on IPv4.*--listen \[::\]:0.*--advertise"):
        reachable_address(HostConfig(HostId("h"), "http://[::1]:7000", ""), "0.0.0.0:4443")
    assert reachable_address(HostConfig(HostId("h"), "http://[::1]:7000", ""), "[::]:4443") == "[::1]:4443"
