"""The store of a simulated super-node: what a restart restores. Kept in memory, as cubecast.supernode.sqlite keeps it on disk."""

from dataclasses import dataclass, field
from typing import assert_never

from cubecast.engine.directory.events import DeleteChannel, DeleteHost, SaveChannel, SaveHost, SaveShape
from cubecast.engine.protocol.records import ChannelRecord, HostRecord
from cubecast.overlay.cube import Cube
from cubecast.types import ChannelName, HostId

Write = SaveShape | SaveHost | DeleteHost | SaveChannel | DeleteChannel
"""The directory's effects that concern the store."""


@dataclass(slots=True)
class MemoryStore:
    """The shape of the overlay, its hosts, and its channels."""

    shape: tuple[Cube, int]
    """The cube and its epoch."""
    hosts: dict[HostId, HostRecord] = field(default_factory=dict)
    channels: dict[ChannelName, ChannelRecord] = field(default_factory=dict)

    def write(self, effect: Write) -> None:
        """Performs one effect."""
        match effect:
            case SaveShape(cube, epoch):
                self.shape = (cube, epoch)
            case SaveHost(record):
                self.hosts[record.host] = record
            case DeleteHost(host):
                self.hosts.pop(host, None)
            case SaveChannel(channel_record):
                self.channels[channel_record.channel] = channel_record
            case DeleteChannel(channel):
                self.channels.pop(channel, None)
            case unhandled:
                assert_never(unhandled)
