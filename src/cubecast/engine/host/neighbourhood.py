"""The neighbourhood of a host: its position in the cube, the links it keeps, and heartbeats.

Links lead to the neighbours in the cube, to parents and children, and to hosts that other components of the engine
request links to: possible parents. Of two neighbours the one with the smaller name dials; a requested link is dialled by
the host that requests it.

Both ends send heartbeats: every two seconds to parents and standbys, every five over other links, and early when what this
host announces has changed. They measure the round trip and the clocks on the way. A peer in doubt is pinged: one
whose heartbeat is late, or whom a component of the engine asks for a sign of life. A link whose pings are not answered is
closed.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from msgspec import structs

from cubecast.engine.host.announcement import Announcement
from cubecast.engine.host.config import EngineConfig
from cubecast.engine.host.effects import Dial, Effect, HangUp, Send, Suspect
from cubecast.engine.host.link_estimate import CLOCK_UNKNOWN_MS, LinkEstimate
from cubecast.engine.host.link_table import Link, LinkTable
from cubecast.engine.protocol.messages import Goodbye, Heartbeat, Hello, PathUpdate, Ping, Pong
from cubecast.engine.protocol.records import HostRecord, Placement
from cubecast.overlay.cube import Cube
from cubecast.types import HostId, Label

X = TypeVar("X", Heartbeat, PathUpdate)


class Neighbourhood:
    """Decides which links exist. The engine owns one."""

    def __init__(self, host: HostId, config: EngineConfig) -> None:
        self.host = host
        self._config = config.links
        self._estimate = config.estimate
        self.now = 0.0
        """This host's clock, s since the Unix epoch; the engine sets it before every event."""
        self.placement: Placement | None = None
        self.links = LinkTable(config.links, config.tick_s)
        self._announcement = Announcement(config.links)
        self._first_hops: dict[Label, HostId] = {}
        """By label next to one of ours: the host to send to."""
        self._second_hops: dict[Label, HostId] = {}
        """The label's own host where the first hop is another, since neither of the two can be dialled."""
        self._wanted: dict[Hashable, dict[HostId, HostRecord]] = {}
        """Links wanted, by purpose."""
        self._wanted_ticks: dict[Hashable, Counter[HostId]] = {}
        """For how long the link to each host has been wanted to be measured, by purpose."""

    # ------------------------------------------------------------------ the position in the cube

    @property
    def cube(self) -> Cube | None:
        """The overlay's shape; None before the directory answered."""
        return None if self.placement is None else Cube(self.placement.radix, self.placement.dimensions)

    @property
    def hidden(self) -> bool:
        """Whether this host cannot be dialled."""
        return self.placement is not None and not self.placement.record.reachable

    def carrier(self, label: Label) -> HostId | None:
        """The host to send to for a label next to one of ours: its holder, or a relay on the way there."""
        return self._first_hops.get(label)

    def onward(self, label: Label) -> HostId | None:
        """The holder of a label where `carrier` is a relay on the way there; else None."""
        return self._second_hops.get(label)

    def neighbours(self) -> set[HostId]:
        """The hosts that `carrier` gives for all labels next to ours."""
        return set(self._first_hops.values())

    def on_placement(self, placement: Placement) -> list[Effect]:
        """Stores a new placement and dials new neighbours; links to former ones are closed once neither end needs them."""
        if self.placement is not None and placement.version <= self.placement.version:
            return []
        self.placement = placement
        ours = placement.record.reachable
        usable = [n for n in placement.neighbours if ours or n.first.reachable]
        self._first_hops = {n.label: n.first.host for n in usable}
        self._second_hops = {n.label: n.record.host for n in usable if n.via is not None}
        effects: list[Effect] = []
        for record in {n.first.host: n.first for n in usable}.values():
            effects += self._learn(record)
        return effects

    # ------------------------------------------------------------------ wanted links

    def want_links(self, purpose: Hashable, records: Iterable[HostRecord], *, at_once: bool = False) -> list[Effect]:
        """Keeps links to these hosts for a purpose, and no others for it; without hosts the purpose ends.

        Args:
            at_once: dial without the pause after a failure, because a user waits.
        """
        wanted = {
            record.host: record for record in list(records)[: self._config.wanted_links_max] if record.host != self.host
        }
        waited = self._wanted_ticks.pop(purpose, Counter())
        self._wanted.pop(purpose, None)
        effects: list[Effect] = []
        if wanted:
            self._wanted[purpose] = wanted
            self._wanted_ticks[purpose] = Counter({host: waited[host] for host in wanted if host in waited})
            for record in wanted.values():
                link = self.links.get(record.host)
                if at_once and link is not None and not link.up:
                    link.failures = link.redial_in = 0
                effects += self._learn(record)
        return effects

    def want_more_links(self, purpose: Hashable, records: Iterable[HostRecord]) -> list[Effect]:
        """Adds hosts to those to which links are kept for a purpose; the newest come first."""
        return self.want_links(purpose, [*records, *self._wanted.get(purpose, {}).values()])

    def wanted_hosts(self, purpose: Hashable) -> list[HostId]:
        """The hosts that links are wanted to for a purpose."""
        return list(self._wanted.get(purpose, ()))

    def drop_measured(self, purpose: Hashable) -> None:
        """No longer keeps links that were requested to be measured, once they are or have taken too long."""
        wanted = self._wanted.get(purpose)
        if not wanted:
            return
        waited = self._wanted_ticks[purpose]
        waited.update(wanted.keys())
        late = self._config.measure_ticks
        done = [host for host in wanted if waited[host] >= late or self._is_measured(host)]
        for host in done:
            del wanted[host], waited[host]
        others = {host for each, hosts in self._wanted.items() if each != purpose for host in hosts}
        for host in done:
            link = self.links.get(host)
            if link is not None and not link.needed and host not in others and host not in self.neighbours():
                link.idle_ticks = self._config.unneeded_ticks - self._config.measured_ticks

    def _is_measured(self, host: HostId) -> bool:
        link = self.links.get(host)
        return link is not None and link.up and link.estimate.samples >= self._config.samples_ready

    def follow(self, hosts: set[HostId]) -> list[Effect]:
        """Watches the links to parents: new ones, and those that are in doubt, are pinged for a while."""
        for host in hosts - self.links.followed:
            self.watch(host)
        self.links.followed = hosts
        watched = (host for host in sorted(hosts) if host in self.links and self.links[host].watch_ticks > 0)
        return [effect for host in watched for effect in self.ping(host)]

    def watch(self, host: HostId) -> None:
        """The delay of a parent's link may have changed: it is pinged for a while."""
        link = self.links.get(host)
        if link is not None:
            link.watch_ticks = self._config.watch_ticks

    def ping(self, host: HostId, *, slower: bool = False) -> list[Effect]:
        """Asks a host for a sign of life, unless that was done just now."""
        link = self.links.get(host)
        if link is None or not link.up or link.ping_in > 0:
            return []
        link.ping_in = self._config.ping_ticks
        if link.unanswered_ticks is None:
            link.unanswered_ticks = 0
        return [Send(host, Ping(self.now, slower))]

    def beats(self, host: HostId) -> bool:
        """Whether a heartbeat to a host is sent in this tick; what is repeated at rest goes with it."""
        link = self.links.get(host)
        return link is not None and link.up and link.beat

    # ------------------------------------------------------------------ links up and down

    def on_link_up(self, host: HostId) -> list[Effect]:
        """The link works. One from an unknown host is kept for a while: it may arrive before the directory's placement."""
        link = self.links.get(host)
        if link is None:
            link = self.links.by_host[host] = self._new_link(None)
        link.up, link.dialling, link.leaving, link.slow, link.slow_announced = True, False, False, False, False
        link.silent_ticks = link.failures = link.idle_ticks = link.ticks = 0
        link.beats = link.beat_ticks = link.ping_in = link.watch_ticks = 0
        link.unanswered_ticks, link.version, link.beat, link.introduced = None, -1, False, None
        link.sent_s = link.echo_s = link.seen_s = 0.0
        link.estimate = LinkEstimate(self._estimate)
        return [] if self.placement is None else [Send(host, Hello(self.placement.record))]

    def on_link_down(self, host: HostId) -> None:
        """The link broke or could not be opened; it is dialled again after a growing pause.

        One failure counts once, although the transport also reports the end of a link that this host has hung up on.
        """
        link = self.links.get(host)
        if link is None or not (link.up or link.dialling):
            return
        link.up = link.dialling = False
        link.forget_announced()
        pauses = self._config.redial_ticks
        link.redial_in = pauses[min(link.failures, len(pauses) - 1)]
        link.failures += 1

    def redial_soon(self) -> None:
        """A stream waits for a parent: broken links are dialled again soon."""
        for link in self.links.by_host.values():
            link.redial_in = min(link.redial_in, self._config.redial_soon_ticks)

    def on_goodbye(self, host: HostId) -> list[Effect]:
        """A host has left: its link is closed without suspecting it."""
        link = self.links.get(host)
        return [] if link is None or not link.up else self._drop(host)

    def on_message(self, host: HostId) -> bool:
        """Something came from a host: whether there is a working link to it, on which it is alive."""
        link = self.links.get(host)
        if link is None or not link.up:
            return False
        link.silent_ticks, link.unanswered_ticks = 0, None
        return True

    def on_link_message(self, host: HostId, message: Hello | Heartbeat | Ping | Pong) -> list[Effect]:
        """Handles the messages about the link itself."""
        link = self.links.get(host)
        if link is None or not link.up:
            return []
        match message:
            case Hello(record):
                if record.host == host and not _is_older(record, link.record):
                    link.record = record
            case Heartbeat(carried, needs, slow):
                link.needed, link.slow = needs, slow
                link.announced(carried, self._config.carried_heartbeats)
                link.echo_s, link.seen_s = message.sent_s, self.now
                self.on_exchange(host, message)
            case Ping(sent_s, slower):
                if slower and host in self.links.followed:
                    self.watch(host)
                return [Send(host, Pong(sent_s, self.now))]
            case Pong(sent_s, seen_s):
                self._measured(host, link, link.estimate.clock(sent_s, seen_s, seen_s, self.now))
        return []

    def measuring(self, host: HostId, message: X) -> X:
        """A message to a host with the times that measure the link (see Heartbeat)."""
        link = self.links.get(host)
        echo_s, seen_s = (0.0, 0.0) if link is None else (link.echo_s, link.seen_s)
        return structs.replace(message, sent_s=self.now, echo_s=echo_s, seen_s=seen_s)

    def on_exchange(self, host: HostId, message: Heartbeat | PathUpdate) -> None:
        """A message names our last heartbeat: that measures the link."""
        link = self.links[host]
        if message.echo_s and message.echo_s == link.sent_s:
            self._measured(host, link, link.estimate.clock(link.sent_s, message.seen_s, message.sent_s, self.now))

    def _measured(self, host: HostId, link: Link, rtt_ms: float | None) -> None:
        """A round trip was measured; one that is far off what is known of a parent's link puts it under watch."""
        if rtt_ms is None or host not in self.links.followed:
            return
        if link.estimate.is_jump(rtt_ms):
            self.watch(host)
        link.estimate.pinged(rtt_ms)

    def leave(self) -> list[Effect]:
        """Sends Goodbye over every link."""
        return [Send(host, Goodbye()) for host, link in self.links.items() if link.up]

    # ------------------------------------------------------------------ time

    def tick(
        self, above: set[HostId], needed: set[HostId], heartbeat: Callable[[int], Heartbeat]
    ) -> tuple[list[Effect], list[HostId]]:
        """One round: heartbeats and pings that are due, silent links closed, missing ones dialled.

        Args:
            above: parents and standbys, which are sent heartbeats more often: children have path updates.
            needed: hosts whose links carry streams, kept even when they are no longer neighbours.
            heartbeat: what to announce of this host, by the number of the heartbeat on its link.

        Returns:
            Effects, and the hosts whose links were closed for silence in this round.
        """
        effects: list[Effect] = []
        silent: list[HostId] = []
        neighbours = self.neighbours()
        wanted = {host for hosts in self._wanted.values() for host in hosts}
        keep = needed | neighbours | wanted
        version = self._announcement.version(heartbeat)
        for host, link in list(self.links.items()):
            if link.up:
                link.age()
                if link.unanswered_ticks is not None and link.unanswered_ticks >= self._config.unanswered_ticks:
                    silent.append(host)
                    effects.append(Suspect(host))
                    effects += self._drop(host)
                    continue
                effects += self._beat(host, link, heartbeat, version, slow=host not in above, needs=host in keep)
                slower, link.jumped = link.jumped and host in needed, False
                if slower or self.links.is_overdue(host, self._config.late_ticks):
                    effects += self.ping(host, slower=slower)
            elif host in wanted or host in self.links.followed or (host in neighbours and self._dials(host)):
                effects += self._redial(link)
            if host not in keep:
                effects += self._close_unneeded(host, link)
            else:
                link.idle_ticks = 0
        return effects, silent

    def _beat(
        self, host: HostId, link: Link, heartbeat: Callable[[int], Heartbeat], version: int, *, slow: bool, needs: bool
    ) -> list[Effect]:
        """The heartbeat, if one is due."""
        config = self._config
        is_new = link.beats < config.hello_heartbeats
        # A peer that does not know yet that our heartbeats become slow would consider us late.
        period = self.links.heartbeat_period(slow=slow and link.slow_announced)
        period = min(period, config.new_heartbeat_ticks) if is_new else period
        changed = link.version != version and link.beat_ticks >= config.announce_ticks
        link.beat = link.beats == 0 or link.beat_ticks >= period or changed
        if not link.beat:
            return []
        turn, link.version, link.slow_announced = link.beats, version, slow
        link.beats, link.beat_ticks, link.sent_s = link.beats + 1, 0, self.now
        said = self.measuring(host, structs.replace(heartbeat(turn), needs=needs, slow=slow))
        effects: list[Effect] = [Send(host, said)]
        mine = None if self.placement is None else self.placement.record
        if mine is not None and (is_new or mine != link.introduced):
            link.introduced = mine
            effects.append(Send(host, Hello(mine)))
        if is_new or link.estimate.clock_offset_ms[1] >= CLOCK_UNKNOWN_MS:
            effects += self.ping(host)
        return effects

    def _redial(self, link: Link) -> list[Effect]:
        if link.dialling:
            return []
        link.redial_in -= 1
        return self._dial(link) if link.redial_in <= 0 else []

    def _close_unneeded(self, host: HostId, link: Link) -> list[Effect]:
        """Closes a link that neither end has needed for a while."""
        link.idle_ticks = 0 if link.up and link.needed else link.idle_ticks + 1
        if link.idle_ticks < self._config.unneeded_ticks:
            return []
        del self.links.by_host[host]
        return [HangUp(host)]

    # ------------------------------------------------------------------ inside

    def _learn(self, record: HostRecord) -> list[Effect]:
        """Stores a host's record, and dials that host unless it will dial us."""
        link = self.links.get(record.host)
        effects: list[Effect] = []
        if link is None:
            link = self.links.by_host[record.host] = self._new_link(record)
        elif link.record is not None and not _is_older(record, link.record) and _moved(link.record, record):
            effects += self._drop(record.host)
            link.failures = link.redial_in = 0
        if not _is_older(record, link.record):
            link.record = record
        wanted = any(record.host in hosts for hosts in self._wanted.values())
        if (wanted or self._dials(record.host)) and not link.up and not link.dialling and link.redial_in <= 0:
            effects += self._dial(link)
        return effects

    def _new_link(self, record: HostRecord | None) -> Link:
        return Link(record, LinkEstimate(self._estimate))

    def _dials(self, host: HostId) -> bool:
        """Whether this host dials a neighbour, not the neighbour this host."""
        link = self.links.get(host)
        reachable = link is None or link.record is None or link.record.reachable
        return reachable and (self.hidden or self.host < host)

    def _dial(self, link: Link) -> list[Effect]:
        if link.record is None or not link.record.reachable:
            return []
        link.dialling = True
        return [Dial(link.record)]

    def _drop(self, host: HostId) -> list[Effect]:
        self.on_link_down(host)
        return [HangUp(host)]


def _is_older(record: HostRecord, known: HostRecord | None) -> bool:
    return known is not None and record.version < known.version


def _moved(old: HostRecord, new: HostRecord) -> bool:
    """Whether a host is dialled elsewhere now, or has another certificate; links to one that is hidden now remain."""
    known = old.address and new.address
    return old.fingerprint != new.fingerprint or bool(known and old.address != new.address)
