"""One endpoint has one spelling; addresses at which no single host can be reached are refused."""

import ipaddress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cubecast.addresses import Scope, canonical_address, scope_of, scope_of_origin, split_host_port
from cubecast.errors import UsageError


@given(st.ip_addresses(), st.integers(1, 65_535))
def test_every_spelling_that_is_accepted_of_one_endpoint_gives_the_same(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    spellings = [f"{ip}:{port}", f"[{ip}]:{port}", f"[{ip.exploded}]:{port:05}", f"[{str(ip).upper()}]:{port}"]
    if ip.version == 4:
        packed = ip.packed.hex()
        spellings += [f"[::ffff:{ip}]:{port}", f"[::ffff:{packed[:4]}:{packed[4:]}]:{port}", f"{ip}:{port:05}"]
    accepted = set()
    for spelling in spellings:
        try:
            accepted.add(canonical_address(spelling))
        except UsageError:
            continue
    assume(accepted)
    assert len(accepted) == 1
    assert canonical_address(*accepted) in accepted


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("203.0.113.5:04443", "203.0.113.5:4443"),
        ("[::ffff:10.0.0.1]:1", "10.0.0.1:1"),
        ("[2001:DB8:0:0::5]:65535", "[2001:db8::5]:65535"),
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("[::1]:1", "[::1]:1"),
        ("100.64.0.1:1", "100.64.0.1:1"),
        ("[fd00::1]:1", "[fd00::1]:1"),
    ],
)
def test_an_address_has_one_spelling(text: str, canonical: str) -> None:
    assert canonical_address(text) == canonical


@pytest.mark.parametrize(
    "text",
    ["", "localhost:1", "relay.example:4443", "127.1:1", "127.0.0.01:1", "2130706433:1", "0x7f000001:1", "1.2.3.4:0",
     "1.2.3.4:65536", "1.2.3.4:1 ", "1.2.3.4:\u0661", "2001:db8::5:1", "[1.2.3.4]:1", "1.2.3.4:-1", "1.2.3.4", "[::1]",
     "[::1", "1.2.3.4:1\n"],
)  # fmt: skip
def test_names_and_other_spellings_are_no_addresses(text: str) -> None:
    with pytest.raises(UsageError, match="is not IP:PORT"):
        canonical_address(text)


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("0.0.0.0", "all of a machine"),
        ("[::]", "all of a machine"),
        ("[::ffff:0.0.0.0]", "all of a machine"),
        ("0.1.2.3", "reserved"),
        ("224.0.0.1", "multicast"),
        ("[ff02::1]", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("[::ffff:255.255.255.255]", "broadcast"),
        ("240.0.0.1", "reserved"),
        ("169.254.1.1", "link-local"),
        ("[fe80::1]", "link-local"),
        ("[fe80::1%eth0]", "link-local"),
        ("[2001:db8::1%eth0]", "zone"),
        ("[::1%lo]", "zone"),
        ("[4000::1]", "reserved"),
        ("[fec0::1]", "reserved"),
        ("[64:ff9b::7f00:1]", "reserved"),
        ("[::127.0.0.1]", "reserved"),
        ("[2002:7f00:1::]", "another spelling of an IPv4 address"),
        ("[2001::1]", "another spelling of an IPv4 address"),
    ],
)
def test_addresses_of_no_single_host_are_refused_with_what_they_are(host: str, kind: str) -> None:
    with pytest.raises(UsageError, match=f"is .*{kind}"):
        canonical_address(f"{host}:4443")


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        ("127.8.9.1", Scope.MACHINE),
        ("::1", Scope.MACHINE),
        ("10.0.0.1", Scope.NETWORK),
        ("172.16.0.1", Scope.NETWORK),
        ("192.168.1.1", Scope.NETWORK),
        ("100.64.0.1", Scope.NETWORK),
        ("fd00::1", Scope.NETWORK),
        ("8.8.8.8", Scope.INTERNET),
        ("2606:4700::1", Scope.INTERNET),
    ],
)
def test_an_address_is_reached_from_its_scope(host: str, scope: Scope) -> None:
    assert scope_of(f"[{host}]:1" if ":" in host else f"{host}:1") == scope_of_origin(host) == scope


def test_the_scope_of_an_origin_never_is_narrower_than_it_is_known_to_be() -> None:
    assert scope_of_origin("") == scope_of_origin("nobody") == Scope.INTERNET
    assert scope_of_origin("::ffff:127.0.0.1") == Scope.MACHINE
    assert scope_of_origin("::ffff:8.8.8.8") == Scope.INTERNET
    assert scope_of_origin("fe80::1%eth0") == Scope.LINK


@pytest.mark.parametrize("host", ["203.0.113.5", "relay-1.example.org", "a", "[2001:db8::5]", "[::1]"])
@pytest.mark.parametrize("port", [1, 4443, 65_535])
def test_a_user_names_a_host_and_a_port(host: str, port: int) -> None:
    assert split_host_port(f"{host}:{port}") == (host, port)


@pytest.mark.parametrize(
    "address",
    ["", "a", "a:", ":1", "a:0", "a:00000", "a:65536", "a:-1", "a:1 ", "-a:1", "a-:1", "2001:db8::5:1", "a b:1"],
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        split_host_port(address)


@pytest.mark.parametrize("address", ["127.1:1", "010.0.0.1:1", "[ff02::1]:1", "0.0.0.0:1"])
def test_what_can_only_be_meant_as_an_ip_address_must_be_one_of_a_host(address: str) -> None:
    with pytest.raises(UsageError):
        split_host_port(address)
