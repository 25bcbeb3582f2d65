"""Simulated media sessions: a session opens after a few round trips if the parent confirmed it.

Media flows where a chain of open sessions leads to the publisher; for a derived channel, on from there over its source.
"""

from collections.abc import Callable

from cubecast.engine.host import events as ev
from cubecast.engine.protocol.records import HostRecord
from cubecast.simulation.shells.host import SimulatedHost
from cubecast.simulation.shells.network import DIAL_FAILS_S, SimulatedNetwork
from cubecast.simulation.shells.queue import EventQueue
from cubecast.types import ChannelName, HostId

BRIDGE_S = 0.01
"""Time until media flows over a standby that is used as the session to a parent, s."""
FRAME_BYTES = 1000
"""Media bytes per channel and tick: any number above 0 shows that media flows. No scenario limits a host's uplink."""
PUSH_WAIT_S = 5.0
"""Time a child waits for the session that its hidden parent opens, s; as PUSHED_S of cubecast.host.media.parent_sessions."""
PUSH_TRIES = 8
"""Maximum number of attempts of a hidden parent to open the session to a child; as in cubecast.host.media.channels."""
PUSH_PAUSE_S = 0.25
"""Time between two of these attempts, s: the child may get its Confirm shortly after the first."""


class MediaSessions:
    """The media sessions and standbys between all hosts."""

    def __init__(
        self, network: SimulatedNetwork, queue: EventQueue, handle: Callable[[HostId, ev.Event], None]
    ) -> None:
        self._network, self._queue, self._handle = network, queue, handle
        self._arrives: dict[tuple[HostId, HostId], tuple[float, float]] = {}
        """By child and parent: the link's delay, s, and the time from which media sent with that delay arrives."""

    # ------------------------------------------------------------------ a child's side

    def pull(self, here: SimulatedHost, channel: ChannelName, record: HostRecord, *, former_feeds: bool) -> None:
        """Opens a session to a parent, over a standby if one is open and no other parent feeds the host.

        Ends in Pulled or PullFailed. A hidden parent cannot be dialled: the session waits for that parent's `push`.
        """
        sessions = here.sessions.setdefault(channel, {})
        is_open = sessions.setdefault(record.host, False)
        if record.host in self._network.hidden:
            if is_open:
                self._queue.after(0.0, self._open, here, channel, record.host)
            else:
                self._queue.after(PUSH_WAIT_S, self._give_up_push, here, channel, record.host)
            return
        standby = here.prepared.pop((channel, record.host), None)
        opens_s = self._network.handshake_s(here.host, record.host)
        if standby is not None and not former_feeds:
            opens_s = BRIDGE_S
        self._queue.after(opens_s, self._open, here, channel, record.host)

    def prepare(self, here: SimulatedHost, channel: ChannelName, host: HostId) -> None:
        """Opens a standby; ends in Prepared or PullFailed."""
        self._queue.after(self._network.handshake_s(here.host, host), self._prepare, here, channel, host)

    def start_media(self, here: SimulatedHost, channel: ChannelName, host: HostId) -> None:
        """Requests the media of an open standby; with or without that, media flows BRIDGE_S after the pull."""
        if (channel, host) in here.prepared:
            here.prepared[channel, host] = True

    def stop(self, here: SimulatedHost, channel: ChannelName, host: HostId | None) -> None:
        """Closes the sessions and standbys of a channel to a host, or with None all of the channel's."""
        for key in [key for key in here.prepared if key[0] == channel and host in (None, key[1])]:
            del here.prepared[key]
        sessions = here.sessions.get(channel, {})
        if host is None:
            sessions.clear()
        else:
            sessions.pop(host, None)

    def _open(self, here: SimulatedHost, channel: ChannelName, to: HostId) -> None:
        if to not in here.sessions.get(channel, {}) or not here.alive:
            return
        there = self._network.hosts.get(to)
        if there is None or not self._network.answers(here.host, to):
            self._queue.after(DIAL_FAILS_S, self._close, here.host, channel, to)
        elif there.engine.may_pull(channel, here.host):
            here.sessions[channel][to] = True
            self._handle(here.host, ev.Pulled(channel, to))
        else:
            self._close(here.host, channel, to)

    def _prepare(self, here: SimulatedHost, channel: ChannelName, to: HostId) -> None:
        there = self._network.hosts.get(to)
        answers = there is not None and self._network.answers(here.host, to)
        if there is None or not answers or not there.engine.may_pull(channel, here.host):
            self._handle(here.host, ev.PullFailed(channel, to, "it closed the session"))
        else:
            here.prepared[channel, to] = False
            self._handle(here.host, ev.Prepared(channel, to))

    def _give_up_push(self, here: SimulatedHost, channel: ChannelName, parent: HostId) -> None:
        if here.sessions.get(channel, {}).get(parent) is False:
            del here.sessions[channel][parent]
            self._handle(here.host, ev.PullFailed(channel, parent, "no answer"))

    # ------------------------------------------------------------------ a parent's side

    def push(self, here: SimulatedHost, channel: ChannelName, child: HostId) -> None:
        """Opens a session to a child that cannot dial this host."""
        self._queue.after(self._network.handshake_s(here.host, child), self._push, here, channel, child, PUSH_TRIES)

    def _push(self, here: SimulatedHost, channel: ChannelName, child: HostId, tries: int) -> None:
        there = self._network.hosts.get(child)
        if there is None or not here.alive or not here.engine.may_pull(channel, child):
            return
        awaited = here.host in there.sessions.get(channel, {})
        if awaited and not here.stalled and self._network.answers(here.host, child):
            self._open(there, channel, here.host)
        elif tries > 1:
            pause_s = PUSH_PAUSE_S + self._network.handshake_s(here.host, child)
            self._queue.after(pause_s, self._push, here, channel, child, tries - 1)

    def evict(self, here: SimulatedHost, channel: ChannelName, host: HostId) -> None:
        """Closes the sessions of a host that is no longer a child; the host notices that after the one-way delay."""
        if host in self._network.hosts:
            self._queue.after(self._network.delay_s(here.host, host), self._close, host, channel, here.host)

    def _close(self, host: HostId, channel: ChannelName, by: HostId) -> None:
        here = self._network.hosts[host]
        standby = here.prepared.pop((channel, by), None) is not None
        if here.sessions.get(channel, {}).pop(by, None) is not None or standby:
            self._handle(host, ev.PullFailed(channel, by, "it closed the session"))

    # ------------------------------------------------------------------ media

    def flows(self, host: HostId, channel: ChannelName) -> bool:
        """Whether media reaches a host: a chain of open sessions leads to a living publisher."""
        hosts = self._network.hosts
        for _ in range(len(hosts)):
            here = hosts[host]
            if not here.alive or here.stalled:
                return False
            if here.engine.publishes(channel):
                source = here.jobs.source_of(channel)
                return source is None or self.flows(host, source)
            upstream = next(
                (
                    up
                    for up, is_open in here.sessions.get(channel, {}).items()
                    if is_open and self._network.answers(host, up)
                ),
                None,
            )
            if upstream is None:
                return False
            host = upstream
        return False

    def sample(self, here: SimulatedHost) -> None:
        """Gives a host the byte counts of its sessions and of the channels it publishes."""
        for channel, sessions in here.sessions.items():
            for upstream, is_open in sessions.items():
                reached = is_open and self._network.answers(here.host, upstream) and self.flows(upstream, channel)
                if reached and self._has_arrived(here.host, upstream):
                    self._count(here, channel, upstream)
        for channel in here.engine.published():
            source = here.jobs.source_of(channel)
            if source is None or self.flows(here.host, source):
                self._count(here, channel, here.host)

    def _has_arrived(self, child: HostId, parent: HostId) -> bool:
        """Whether media arrives now: when a link becomes slower, none does for as long as the delay has grown."""
        now, delay_s = self._queue.now, self._network.delay_s(parent, child)
        before_s, since = self._arrives.get((child, parent), (delay_s, now))
        if delay_s != before_s:
            since = now + max(0.0, delay_s - before_s)
        self._arrives[child, parent] = delay_s, since
        return now >= since

    def _count(self, here: SimulatedHost, channel: ChannelName, upstream: HostId) -> None:
        here.bytes[channel] = here.bytes.get(channel, 0) + FRAME_BYTES
        self._handle(here.host, ev.MediaSampled(channel, upstream, here.bytes[channel]))
