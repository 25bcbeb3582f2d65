"""The address of this host that peers should dial."""

import socket
from urllib.parse import urlsplit

from cubecast.addresses import canonical_address, split_host_port
from cubecast.errors import AddressError, UsageError
from cubecast.host.config import HostConfig
from cubecast.host.directory.connection import supernode_url


def advertised_address(config: HostConfig, bound: str) -> str:
    """The address that is sent to the super-node: that of `--advertise`, resolved, or the one found here; canonical.

    Args:
        bound: the address that the data plane is bound to, IP:PORT.

    Raises:
        AddressError: it is unknown, or no other host can reach this one there.
    """
    if not config.advertise:
        found = reachable_address(config, bound)
        try:
            return canonical_address(found)
        except UsageError as error:
            raise AddressError(f"{error}, with --advertise") from error
    name, port = split_host_port(config.advertise)
    try:
        return canonical_address(f"{_resolved(name.strip('[]'), bound)}:{port}")
    except UsageError as error:
        raise AddressError(f"--advertise {config.advertise}: {error}") from error


def _resolved(name: str, bound: str) -> str:
    """The first IP address of a name, as it stands before a port; of IPv4 if this host listens on IPv4 only."""
    family = socket.AF_UNSPEC if bound.startswith("[") else socket.AF_INET
    if ":" in name:
        family = socket.AF_INET6
    try:
        found = socket.getaddrinfo(name, None, family, socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        of_ipv4 = ", which needs an address of IPv4, as this host listens on" if family == socket.AF_INET else ""
        raise AddressError(
            f"--advertise: the name {name!r} cannot be resolved{of_ipv4}; give the IP address itself"
        ) from error
    return _bracketed(str(found[0][4][0]))


def _bracketed(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip


def reachable_address(config: HostConfig, bound: str) -> str:
    """The address that peers should dial: the bound one, or this machine's address on the route to the super-node.

    Args:
        config: its super-node is the target of the route.
        bound: the address that the data plane is bound to, `host:port`.

    Raises:
        AddressError: the super-node's host is unknown or cannot be reached from an address that peers can dial.
    """
    host, _, port = bound.rpartition(":")
    if host not in ("0.0.0.0", "[::]", "::"):  # noqa: S104  compared, not bound
        return bound
    target = urlsplit(supernode_url(config.supernode)).hostname or "127.0.0.1"
    try:
        found = socket.getaddrinfo(target, 9, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise AddressError(f"the super-node's host {target!r} is unknown; check --supernode") from error
    # a socket that is bound to 0.0.0.0 cannot be dialled over IPv6
    usable = [each for each in found if each[0] == socket.AF_INET or host != "0.0.0.0"]  # noqa: S104
    if not usable:
        raise AddressError(
            f"this host listens on IPv4, and the super-node's host {target} has no such address; give --listen [::]:0, "
            "or the address that others dial with --advertise"
        )
    info = usable[0]
    try:
        with socket.socket(info[0], socket.SOCK_DGRAM) as probe:
            probe.connect(info[4])
            name = str(probe.getsockname()[0])
    except OSError as error:
        raise AddressError(
            f"cannot find this machine's address on the route to {target}: {error.strerror}; give it with --advertise"
        ) from error
    return f"{_bracketed(name)}:{port}"
