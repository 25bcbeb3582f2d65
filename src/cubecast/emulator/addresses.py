"""Loopback addresses of emulated hosts.

Host h binds its sockets to 127.N.x.y and is reached at its door 127.(N+1).x.y, which belongs to the delay stage. The
stage knows a sender by its source address. N is even and leased, so that several emulations may run at once.
"""

import socket
from dataclasses import dataclass

from cubecast.errors import AddressError

PORT = 4443
PER_ROW = 250
HOSTS_MAX = PER_ROW * PER_ROW
NETS = range(16, 240, 2)
_LEASE_HOST = "255.254"


@dataclass(frozen=True, slots=True)
class Addresses:
    """The address plan of one emulation."""

    net: int

    def host(self, index: int) -> str:
        """Where a host's own sockets are."""
        return f"127.{self.net}.{index // PER_ROW}.{index % PER_ROW + 1}"

    def door(self, index: int) -> str:
        """Where others reach a host."""
        return f"127.{self.net + 1}.{index // PER_ROW}.{index % PER_ROW + 1}"

    def index(self, address: str) -> int | None:
        """The host behind a source address; None for a stranger."""
        parts = address.split(".")
        if parts[:2] != ["127", str(self.net)]:
            return None
        row, place = int(parts[2]), int(parts[3]) - 1
        return row * PER_ROW + place if row < PER_ROW and 0 <= place < PER_ROW else None


@dataclass(slots=True)
class Lease:
    """A net of our own, held as long as its socket is open."""

    addresses: Addresses
    _socket: socket.socket

    def close(self) -> None:
        """Gives the net back."""
        self._socket.close()


def lease(nets: range = NETS) -> Lease:
    """Takes the first net nobody uses.

    Raises:
        AddressError: all are taken, or this system has no loopback network beyond 127.0.0.1.
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
