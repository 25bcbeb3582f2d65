"""Loopback addresses of emulated hosts.

Host h binds its sockets to 127.N.x.y. Others reach it at its door, 127.(N+1).x.y, an address that the delay stage binds.
The stage identifies a sender by its source address. N is even and leased, so that several emulations may run at once.
"""

import socket
from dataclasses import dataclass

from cubecast.errors import AddressError

PORT = 4443
"""UDP port of all hosts and doors."""
PER_ROW = 250
"""Number of hosts that share the third byte of their addresses, and number of values of that byte."""
HOSTS_MAX = PER_ROW * PER_ROW
"""Maximum number of hosts of one emulation."""
NETS = range(16, 240, 2)
"""Values of N, the second byte of the hosts' addresses; N + 1 is the doors'."""
_LEASE_HOST = "255.254"
"""Last two bytes of the address that is bound to lease N; no host has them."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The address plan of one emulation."""

    net: int

    def host(self, index: int) -> str:
        """The address that a host binds its sockets to."""
        return f"127.{self.net}.{index // PER_ROW}.{index % PER_ROW + 1}"

    def door(self, index: int) -> str:
        """The address at which others reach a host."""
        return f"127.{self.net + 1}.{index // PER_ROW}.{index % PER_ROW + 1}"

    def index(self, address: str) -> int | None:
        """The host with this source address; None if it is no host's."""
        parts = address.split(".")
        if parts[:2] != ["127", str(self.net)]:
            return None
        row, place = int(parts[2]), int(parts[3]) - 1
        return row * PER_ROW + place if row < PER_ROW and 0 <= place < PER_ROW else None


@dataclass(slots=True)
class Lease:
    """A leased N, which no other emulation takes until the lease is closed."""

    addresses: Addresses
    _socket: socket.socket

    def close(self) -> None:
        """Ends the lease."""
        self._socket.close()


def lease(nets: range = NETS) -> Lease:
    """Leases the first free N.

    Raises:
        AddressError: none is free, or this system has no loopback network beyond 127.0.0.1.
    """
    for net in nets:
        held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            held.bind((f"127.{net}.{_LEASE_HOST}", PORT))
        except OSError:
            held.close()
            continue
        return Lease(Addresses(net), held)
    raise AddressError(
        f"no free loopback network among 127.{nets.start}.0.0 .. 127.{nets.stop}.0.0; "
        f"end another emulation, or run on Linux, where all of 127.0.0.0/8 is local"
    )
