"""The interface of a directory store; implemented by supernode.sqlite."""

from typing import Protocol

from cubecast.engine.directory.events import DirectoryEffect
from cubecast.engine.protocol.records import ChannelRecord, HostRecord
from cubecast.overlay.cube import Cube
from cubecast.types import HostId


class Store(Protocol):
    """The stored state of a directory. Every `apply` is on disk when it returns."""

    def first_shape(self, wanted: Cube | None, default: Cube) -> Cube:
        """The shape the overlay began with: the stored one, or on first use the wanted or default one.

        Raises:
            LocalError: another shape is stored already.
        """

    def shape(self) -> tuple[Cube, int]:
        """The overlay's shape now and its epoch; call `first_shape` before."""

    def hosts(self) -> list[HostRecord]:
        """Every stored host."""

    def channels(self) -> list[ChannelRecord]:
        """Every stored channel."""

    def names(self) -> list[tuple[HostId, str, float | None]]:
        """The names of hosts: name, key, and when it is free, s; None while its host is in."""

    def free_names(self, names: list[HostId]) -> None:
        """Deletes names.

        Raises:
            StoreError: they cannot be deleted.
        """

    def clock_s(self) -> float:
        """The time that was stored last, s since the Unix epoch; 0 before the first."""

    def store_clock(self, now_s: float) -> None:
        """Stores the time.

        Raises:
            StoreError: it cannot be written.
        """

    def apply(self, effects: list[DirectoryEffect], now_s: float) -> None:
        """Stores the effects that concern the store, all or none.

        Args:
            now_s: the super-node's time, from which the names of hosts that have left are held.

        Raises:
            StoreError: they cannot be written.
        """

    def close(self) -> None:
        """Releases the store."""
