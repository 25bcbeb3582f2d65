"""The directory's state that several of its components read: the cube, its hosts and their channels."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from cubecast.engine.protocol.records import ChannelRecord, HostRecord, SubscriptionRecord
from cubecast.errors import DirectoryError
from cubecast.overlay.cube import Cube
from cubecast.types import ChannelName, HostId, Label

Sign = Callable[[HostRecord], HostRecord]
"""Gives a record with the super-node's signature."""


def unsigned(record: HostRecord) -> HostRecord:
    """The record as it is: in a simulation nobody checks signatures."""
    return record


@dataclass(slots=True)
class Member:
    """A host that has joined, and what it last reported."""

    record: HostRecord
    """What others are sent of it: of a hidden host no address."""
    address: str
    """Where it says it can be dialled, proved or not."""
    number: int
    """Rises from host to host, in the order in which they joined first."""
    subscriptions: dict[ChannelName, SubscriptionRecord] = field(default_factory=dict)
    slots: int = 0
    """Extensions it is willing to run for others."""


@dataclass(slots=True)
class DirectoryState:
    """Hosts and channels. The directory engine owns one; `seats` and `channels` change it."""

    cube: Cube
    epoch: int = 0
    members: dict[HostId, Member] = field(default_factory=dict)
    channels: dict[ChannelName, ChannelRecord] = field(default_factory=dict)
    subscribers: dict[ChannelName, set[HostId]] = field(default_factory=dict)
    """The members that have reported a subscription to each channel."""
    violated: set[HostId] = field(default_factory=set)
    """The members with a subscription whose bound was not kept, and some that have none any more."""
    sign: Sign = unsigned
    """Signs the records of hosts."""

    def renewed(self, record: HostRecord) -> HostRecord:
        """A record that has changed, with the next version, signed."""
        return self.sign(replace(record, version=record.version + 1))

    def published(self, record: HostRecord) -> HostRecord:
        """A record as others are sent it: an address that was not proved is sent to nobody, who could only dial in vain."""
        return record if record.reachable else replace(record, address="")

    def seated(self, record: HostRecord, seat: Label) -> HostRecord:
        """A record with another seat and the next version, signed."""
        return self.sign(replace(record, seat=seat, version=record.version + 1))

    def forget_subscriptions(self, host: HostId) -> None:
        """Drops what is stored of a host's subscriptions."""
        member = self.members.get(host)
        for channel in () if member is None else member.subscriptions:
            self.subscribers[channel].discard(host)
            if not self.subscribers[channel]:
                del self.subscribers[channel]
        self.violated.discard(host)

    def in_order(self, hosts: Iterable[HostId]) -> list[HostId]:
        """Some members, in the order in which they joined first."""
        return sorted(hosts, key=lambda host: self.members[host].number)

    def member(self, host: HostId) -> Member:
        """A host that has joined.

        Raises:
            DirectoryError: it has not, or it was removed.
        """
        if host not in self.members:
            raise DirectoryError(f"host {host} has not joined, or was silent too long; join again")
        return self.members[host]

    def subscriptions(self) -> list[SubscriptionRecord]:
        """The latest report of every subscription of the hosts that have joined."""
        return [record for member in self.members.values() for record in member.subscriptions.values()]
