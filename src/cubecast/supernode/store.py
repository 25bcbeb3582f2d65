"""The interface of a directory store; implemented by supernode.sqlite."""

from typing import Protocol

from cubecast.engine.directory.events import DirectoryEffect
from cubecast.engine.protocol.records import ChannelRecord, HostRecord
from cubecast.overlay.cube import Cube


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

    def apply(self, effects: list[DirectoryEffect]) -> None:
        """Stores the effects that concern the store, all or none.

        Raises:
            StoreError: they cannot be written.
        """

    def close(self) -> None:
        """Releases the store."""
