"""Channels and subscription reports: what is announced, and which hosts receive it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from cubecast.engine.directory.config import ChannelConfig, LeaseConfig
from cubecast.engine.directory.delay_table import DelayTable
from cubecast.engine.directory.events import ChannelAnnounced, DeleteChannel, DirectoryEffect, SaveChannel
from cubecast.engine.directory.planner import TreeMember
from cubecast.engine.directory.state import DirectoryState
from cubecast.engine.protocol.path import RELAY_MS
from cubecast.engine.protocol.records import ChannelRecord, HostRecord, SubscriptionRecord, Tree
from cubecast.errors import DirectoryError
from cubecast.overlay.trees.join import join_candidates
from cubecast.types import ChannelName, HostId

GIVE_UP_S = 10.0
"""Time after which a subscriber gives up a stream whose publisher is gone, s: TreeConfig.repair_ticks of the hosts."""


class Channels:
    """Announced channels and the hosts on their trees."""

    def __init__(
        self, state: DirectoryState, delay_table: DelayTable, config: ChannelConfig, lease: LeaseConfig
    ) -> None:
        self._state = state
        self._delay_table = delay_table
        self._config = config
        self._lease = lease
        self._published: dict[HostId, dict[ChannelName, None]] = {}
        """The channels of each publisher, in the order in which they were announced."""
        self._publication = 0
        """The highest number of a publication so far."""

    # ------------------------------------------------------------------ changes

    def restore(self, channels: Iterable[ChannelRecord]) -> None:
        """Restores stored channels; those of hosts that were not stored are dropped."""
        self._state.channels = {each.channel: each for each in channels if each.publisher in self._state.members}
        for record in self._state.channels.values():
            self._published.setdefault(record.publisher, {})[record.channel] = None
            self._publication = max(self._publication, record.publication)

    def announce(self, event: ChannelAnnounced, now: float, *, derived: bool = False) -> list[DirectoryEffect]:
        """Adds a channel, or renews its record.

        Args:
            now: the super-node's clock, s since the Unix epoch, which does not run backwards, not over a restart either: so a
                publication has a higher number than any before it, also those that were forgotten.
            derived: it is a job's, which this host makes on from another one.

        Raises:
            DirectoryError: the host has not joined, another one publishes the channel, or this one publishes too many.
        """
        host, channel = event.host, event.channel
        member = self._state.member(host)
        known = self._state.channels.get(channel)
        if known is not None and known.publisher != host:
            raise DirectoryError(
                f"channel {channel!r} is already published by host {known.publisher}; choose another "
                f"name, or wait {self._lease.lease_s:.0f} s if that host has just died"
            )
        receiving = [] if derived else self._still_received(channel, host)
        if known is None and receiving:
            raise DirectoryError(
                f"channel {channel!r} is still received from host {receiving[0]}, which published it before; choose another "
                f"name, or wait until its subscribers have given it up, about {GIVE_UP_S:.0f} s"
            )
        channels_max = self._config.channels_per_host_max
        if known is None and len(self.published_by(host)) >= channels_max:
            raise DirectoryError(f"host {host} already publishes {channels_max} channels")
        publication = event.publication
        highest = max(self._publication, int(now * 1000))
        if not 0 < publication <= highest or (known is not None and publication < known.publication):
            publication = self._publication = max(self._publication + 1, int(now * 1000))
        seat, key = member.record.seat, member.record.key
        record = ChannelRecord(channel, host, seat, self._state.epoch, event.tree, key, publication)
        self._state.channels[channel] = record
        self._published.setdefault(host, {})[channel] = None
        return [SaveChannel(record)] if record != known else []

    def _still_received(self, channel: ChannelName, host: HostId) -> list[HostId]:
        """The other publishers that subscribers of a channel report to receive it from."""
        return [
            report.path[0]
            for report in self._receiving()
            if report.channel == channel and report.path and report.path[0] not in (host, report.subscriber)
        ]

    def withdraw(self, host: HostId, channel: ChannelName) -> list[DirectoryEffect]:
        """Removes a channel, if this host publishes it."""
        record = self._state.channels.get(channel)
        if record is None or record.publisher != host:
            return []
        self._delete(channel)
        return [DeleteChannel(channel)]

    def _delete(self, channel: ChannelName) -> None:
        publisher = self._state.channels.pop(channel).publisher
        del self._published[publisher][channel]
        if not self._published[publisher]:
            del self._published[publisher]

    def remove_published_by(self, hosts: set[HostId]) -> list[ChannelName]:
        """Removes all channels of some publishers.

        Returns:
            The removed channels.
        """
        removed = [channel for host in sorted(hosts) for channel in self.published_by(host)]
        for channel in removed:
            self._delete(channel)
        return removed

    def update_seats(self) -> list[DirectoryEffect]:
        """Writes the publishers' seats of a new epoch into the channels' records."""
        state = self._state
        effects: list[DirectoryEffect] = []
        for channel, record in list(state.channels.items()):
            seat = state.members[record.publisher].record.seat
            state.channels[channel] = replace(record, seat=seat, epoch=state.epoch)
            effects.append(SaveChannel(state.channels[channel]))
        return effects

    def record_subscription(self, report: SubscriptionRecord) -> None:
        """Stores the latest report of a subscription; reports of too many subscriptions of one host are ignored.

        Raises:
            DirectoryError: the subscriber has not joined.
        """
        stored = self._state.member(report.subscriber).subscriptions
        if len(stored) < self._config.subscriptions_per_host_max or report.channel in stored:
            stored[report.channel] = report
            self._state.subscribers.setdefault(report.channel, set()).add(report.subscriber)
            if not is_kept(report):
                self._state.violated.add(report.subscriber)

    # ------------------------------------------------------------------ queries

    def published_by(self, host: HostId) -> tuple[ChannelName, ...]:
        """The channels of a publisher."""
        return tuple(self._published.get(host, ()))

    def proposals(self, host: HostId, channel: ChannelName) -> tuple[HostRecord, ...]:
        """Hosts on a hybrid tree that may be the best parents of a new subscriber, the one expected best first."""
        record = self._state.channels.get(channel)
        if record is None or record.tree is not Tree.HYBRID:
            return ()
        group = self.group(record)
        hosts = [each for each in group if each != host and not self._delay_table.is_hidden(each)]
        promised_ms = np.array([group[each].promised_ms for each in hosts])
        can_send = np.array([group[each].spare > 0 for each in hosts], bool)
        positions = self._delay_table.positions([*hosts, host])
        best = join_candidates(
            np.append(promised_ms, np.inf),
            np.append(can_send, False),
            positions,
            len(hosts),
            self._config.proposals_max,
        )
        return tuple(self._state.members[hosts[int(index)]].record for index in best)

    def group(self, record: ChannelRecord, copies: Counter[HostId] | None = None) -> dict[HostId, TreeMember]:
        """The publisher and the subscribers of a channel, the publisher first, with what a plan needs of them.

        Args:
            copies: as `copies` gives them now; computed if absent.
        """
        state = self._state
        reports = {
            host: report
            for host in state.in_order(state.subscribers.get(record.channel, ()))
            for report in [state.members[host].subscriptions[record.channel]]
            if report.state == "receiving" and host != record.publisher
        }
        copies = self.copies() if copies is None else copies
        parents = {host: report.path[-2] for host, report in reports.items() if len(report.path) > 1}
        copies_of_channel = Counter(parents.values())
        bounds = {record.publisher: np.inf} | {host: report.bound_ms for host, report in reports.items()}
        group = {}
        for host, bound_ms in bounds.items():
            fan_out = self._state.members[host].record.fan_out
            slots = max(0, fan_out - copies[host] + copies_of_channel[host])
            spare = max(0, fan_out - copies[host])
            promised_ms = self._promised_ms(host, record.channel)
            group[host] = TreeMember(parents.get(host), bound_ms, slots, spare, promised_ms)
        return group

    def _promised_ms(self, host: HostId, channel: ChannelName) -> float:
        """The promised delay of a channel at a host; 0 where none is reported, as at its publisher."""
        report = self._state.members[host].subscriptions.get(channel)
        return 0.0 if report is None or report.promised_ms is None else report.promised_ms

    def copies(self) -> Counter[HostId]:
        """Copies each host sends over all channels: one for each link of the trees."""
        return Counter(parent for _, parent, _ in links_of(self._receiving()))

    def on_tree_ms(self, record: ChannelRecord) -> dict[HostId, float]:
        """The delay at every host known to carry a channel, ms: promised to subscribers, and at relays on their paths.

        A relay that subscribes to nothing has the promised delay of a host below it, less the links between.
        """
        on_tree_ms = {record.publisher: 0.0}
        reports = self.receivers(record.channel)
        for report in reports:
            if report.promised_ms is not None:
                on_tree_ms[report.subscriber] = report.promised_ms
        for report in reports:
            below_ms = report.promised_ms
            for parent, child in zip(report.path[-2::-1], report.path[:0:-1], strict=True):
                link_ms = self._delay_table.one_way_ms(parent, child)
                if below_ms is None or link_ms is None or parent not in self._state.members:
                    break
                below_ms = on_tree_ms.setdefault(parent, max(0.0, below_ms - link_ms - RELAY_MS))
        return on_tree_ms

    def receivers(self, channel: ChannelName) -> tuple[SubscriptionRecord, ...]:
        """The reports of the subscriptions that receive a channel."""
        return tuple(report for report in self._receiving() if report.channel == channel)

    def _receiving(self) -> list[SubscriptionRecord]:
        return [report for report in self._state.subscriptions() if report.state == "receiving"]


def is_kept(report: SubscriptionRecord) -> bool:
    """Whether a subscription's bound can be kept, as far as is known."""
    return report.best_ms is None or report.best_ms <= report.bound_ms


def links_of(reports: Iterable[SubscriptionRecord]) -> set[tuple[ChannelName, HostId, HostId]]:
    """The links of the trees, as channel, parent and child.

    What a host reports of its own parent counts; the paths of hosts below it may be those of before its last change.
    """
    known = list(reports)
    own = {(report.channel, report.subscriber): report.path[-2] for report in known if len(report.path) > 1}
    return {
        (report.channel, parent, child)
        for report in known
        for parent, child in pairwise(report.path)
        if own.get((report.channel, child), parent) == parent
    }
