"""Addresses of hosts: one spelling for each endpoint, those that a host can have, and from where they can be reached."""

import ipaddress
import re
from enum import IntEnum

from cubecast.errors import UsageError

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
PORT_MAX = 65_535
"""Greatest port of UDP."""
_PLACE = re.compile(
    r"([A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9_.-]{1,32})?\]):([0-9]{1,5})"
)
_LIKE_IP = re.compile(r"\[.*\]|[0-9.]+")
"""What can only be meant as an IP address: no name of the Internet ends with a number (RFC 1123, section 2.1)."""
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
"""Addresses that no packet may be sent to (RFC 1122, section 3.2.1.3)."""
_BROADCAST = ipaddress.ip_address("255.255.255.255")


class Scope(IntEnum):
    """From how far away an address can be reached; a wider scope is greater (RFC 4007)."""

    MACHINE = 0
    """Loopback: from the machine itself."""
    LINK = 1
    """From the same link."""
    NETWORK = 2
    """From the same private network: RFC 1918, RFC 4193, shared addresses of providers (RFC 6598), and all that is not global."""
    INTERNET = 3
    """From everywhere."""


def split_host_port(text: str) -> tuple[str, int]:
    """The host and the port of HOST:PORT; an IPv6 host stands in brackets, and keeps them.

    Raises:
        UsageError: it is not of that form, or what is meant as an IP address is none that a host can have.
    """
    parts = _PLACE.fullmatch(text)
    if parts is None or not 0 < int(parts[2]) <= PORT_MAX:
        raise UsageError(f"address {text[:100]!r} is not HOST:PORT, such as 203.0.113.5:4443 or [2001:db8::5]:4443")
    if _LIKE_IP.fullmatch(parts[1]):
        canonical_address(text)
    return parts[1], int(parts[2])


def canonical_address(text: str) -> str:
    """The one spelling of IP:PORT, an IPv6 address in brackets; an IPv4-mapped address becomes IPv4.

    Raises:
        UsageError: it is a name or another spelling of an address, or no single host can be reached there.
    """
    parts = _PLACE.fullmatch(text)
    ip = None if parts is None else _ip(parts[1])
    if parts is None or ip is None or not 0 < int(parts[2]) <= PORT_MAX:
        raise UsageError(
            f"address {text[:100]!r} is not IP:PORT, such as 203.0.113.5:4443 or [2001:db8::5]:4443, "
            "with four numbers without leading zeros, or with colons in brackets"
        )
    kind = _unusable(ip)
    if kind:
        raise UsageError(f"address {text[:100]!r} is {kind}: give the address at which other hosts reach this one")
    return f"[{ip}]:{int(parts[2])}" if ip.version == 6 else f"{ip}:{int(parts[2])}"


def scope_of(address: str) -> Scope:
    """From where IP:PORT can be reached.

    Raises:
        UsageError: it has no IP address.
    """
    ip = _ip(address.rpartition(":")[0])
    if ip is None:
        raise UsageError(f"address {address[:100]!r} is not IP:PORT")
    return _scope(ip)


def scope_of_origin(host: str) -> Scope:
    """The scope of the IP address that a request came from; the widest if it is unknown."""
    try:
        return _scope(_unmapped(ipaddress.ip_address(host)))
    except ValueError:
        return Scope.INTERNET


def _ip(host: str) -> IP | None:
    """The IP address that stands before a port; None if it is a name or another spelling."""
    inner = host[1:-1] if host.startswith("[") else host
    try:
        ip = ipaddress.ip_address(inner)
    except ValueError:
        return None
    return _unmapped(ip) if (ip.version == 6) == host.startswith("[") else None


def _unmapped(ip: IP) -> IP:
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip


def _scope(ip: IP) -> Scope:
    if ip.is_loopback:
        return Scope.MACHINE
    if ip.is_link_local:
        return Scope.LINK
    return Scope.INTERNET if ip.is_global else Scope.NETWORK


def _unusable(ip: IP) -> str:
    """Why no single host can be reached at an address; empty if one can."""
    if ip.is_loopback and not getattr(ip, "scope_id", None):
        return ""
    if ip.is_unspecified:
        return "the address that stands for all of a machine"
    if ip.is_multicast:
        return "a multicast address"
    if ip == _BROADCAST:
        return "the broadcast address"
    if ip.is_link_local:
        return "a link-local address, which means nothing on another link"
    if isinstance(ip, ipaddress.IPv4Address):
        return "a reserved address" if ip.is_reserved or ip in _THIS_NETWORK else ""
    if ip.scope_id is not None:
        return "an address with a zone, which means nothing on another machine"
    if ip.sixtofour is not None or ip.teredo is not None:
        return "a 6to4 or Teredo address, another spelling of an IPv4 address"
    return "a reserved address" if ip.is_reserved or ip.is_site_local else ""
