"""The neighbourhood of a host: its place in the cube, the links it keeps, heartbeats and suspicion.

Links lead to the neighbours in the cube, to parents and children, and to hosts that others here wish for: possible
parents. Of two neighbours the one with the smaller name dials; a wish is dialled by whoever has it. Either end sends a
beat every few ticks, and asks for the peer's clock now and then; silence is counted in our own ticks, so a host that
was stalled itself does not blame its peers for it.
"""

from collections.abc import Container, Hashable, Iterable
from dataclasses import dataclass, field

from msgspec import structs

from cubecast.engine.host.effects import Dial, Effect, HangUp, Send, Suspect
from cubecast.engine.host.link_estimate import CLOCK_UNKNOWN_MS, LinkEstimate
from cubecast.engine.protocol.messages import Goodbye, Heartbeat, Hello, Ping, Pong
from cubecast.engine.protocol.path import PathMetrics
from cubecast.engine.protocol.records import HostRecord, Placement
from cubecast.overlay.cube import Cube
from cubecast.types import ChannelName, HostId, Label

TICK_S = 0.1
HEARTBEAT_TICKS, SLOW_HEARTBEAT_TICKS = 10, 20
"""Between two beats, on links that streams and neighbours depend on and on others."""
SUSPECT_TICKS = 25
"""After so many ticks without a word a link is given up; after so many more as its beats are slower."""
PING_HEARTBEATS = 4
"""Every so many beats the peer's clock is asked for; while that is unknown, with every beat."""
HELLO_HEARTBEATS, HELLO_AGAIN_HEARTBEATS = 3, 16
"""With the first beats, and some later ones, we say who we are: what was said before the link was up is lost."""
REDIAL_TICKS = (3, 5, 10, 20, 40, 50)
REDIAL_SOON_TICKS = 10
"""The longest pause while a stream waits for a parent."""
UNNEEDED_TICKS = 100
MEASURE_TICKS = 40
"""A host that could not be measured for so long is given up."""
REPORT_TICKS = 25
"""A link that was dialled to be measured is kept so long: until the directory has been told."""
SAMPLES_READY = 5
"""Samples of a link before its cost is worth a promise."""
SAMPLE_TICKS, SAMPLE_TICKS_IN_USE = 10, 2
"""Links are sampled every so many ticks, those that carry a stream more often."""
WANTED_LINKS_MAX = 64
"""Wishes of one purpose."""


@dataclass(slots=True)
class Link:
    """One link to another host; `record` is None until the directory told us about a host that dialled us."""

    record: HostRecord | None
    up: bool = False
    dialling: bool = False
    needed: bool = False
    """The peer has said that it needs the link."""
    slow: bool = False
    """The peer has said that its beats are slow."""
    slow_announced: bool = False
    """We have said that ours are."""
    silent_ticks: int = 0
    redial_in: int = 0
    failures: int = 0
    idle_ticks: int = 0
    ticks: int = 0
    leaving: bool = False
    """The peer has said that it is about to leave."""
    spare: dict[ChannelName, int] = field(default_factory=dict)
    """Copies the peer says it has left, by channel."""
    carried: dict[ChannelName, PathMetrics] = field(default_factory=dict)
    """What the peer said last of the channels it carries."""
    estimate: LinkEstimate = field(default_factory=LinkEstimate)


class Neighbourhood:
    """Links by host. The engine owns one; it never performs anything itself."""

    def __init__(self, host: HostId) -> None:
        self.host = host
        self.placement: Placement | None = None
        self.links: dict[HostId, Link] = {}
        self._carriers: dict[Label, HostId] = {}
        self._onward: dict[Label, HostId] = {}
        """Labels whose carriers neither we can dial nor they us."""
        self._wanted_ticks: dict[Hashable, int] = {}
        """How long there has been a wish to measure."""
        self._followed: set[HostId] = set()
        """Hosts whose links are pinged often."""
        self._wanted_links: dict[Hashable, dict[HostId, HostRecord]] = {}

    @property
    def cube(self) -> Cube | None:
        """The overlay's shape; None before the directory answered."""
        return None if self.placement is None else Cube(self.placement.radix, self.placement.dimensions)

    def carrier(self, label: Label) -> HostId | None:
        """The host that what goes to a label next to one of ours is sent to: its carrier, or one on the way there."""
        return self._carriers.get(label)

    def onward(self, label: Label) -> HostId | None:
        """The carrier of a label, where it is not the host that is sent to."""
        return self._onward.get(label)

    @property
    def hidden(self) -> bool:
        """Whether we cannot be dialled."""
        return self.placement is not None and not self.placement.record.reachable

    def one_way_ms(self, host: HostId) -> float | None:
        """Measured cost of the link to a host; None while it is down or not yet measured."""
        link = self.links.get(host)
        return link.estimate.one_way_ms if link is not None and link.up else None

    def samples(self, host: HostId) -> int:
        """Samples of the link to a host since it came up."""
        link = self.links.get(host)
        return link.estimate.samples if link is not None and link.up else 0

    def spread_ms(self, host: HostId) -> float:
        """How much later than one_way_ms a frame may come over the link to a host."""
        return self.links[host].estimate.spread_ms

    def loss(self, host: HostId) -> float:
        """Share of packets lost on the link to a host."""
        link = self.links.get(host)
        return 0.0 if link is None else link.estimate.loss

    def rttvar_ms(self, host: HostId) -> float:
        """Variation of the round trip to a host."""
        link = self.links.get(host)
        return 0.0 if link is None else link.estimate.rttvar_ms

    def neighbours(self) -> set[HostId]:
        """The hosts that carry labels next to ours, or what goes to those."""
        return set(self._carriers.values())

    def record(self, host: HostId) -> HostRecord | None:
        """What the directory told of a host we have a link to."""
        link = self.links.get(host)
        return None if link is None else link.record

    def place(self, placement: Placement) -> list[Effect]:
        """Takes a new place in: dials new neighbours, lets go of former ones over the next ticks."""
        if self.placement is not None and placement.version <= self.placement.version:
            return []
        self.placement = placement
        ours = placement.record.reachable
        usable = [n for n in placement.neighbours if ours or n.first.reachable]
        self._carriers = {n.label: n.first.host for n in usable}
        self._onward = {n.label: n.record.host for n in usable if n.via is not None}
        effects: list[Effect] = []
        for record in {n.first.host: n.first for n in usable}.values():
            effects += self._learn(record)
        return effects

    def want_links(self, purpose: Hashable, records: Iterable[HostRecord], *, at_once: bool = False) -> list[Effect]:
        """Wants links to these hosts, and to no others for this purpose; an empty wish ends it.

        Args:
            at_once: somebody waits: dial also what would be dialled only after a pause.
        """
        wanted = {record.host: record for record in list(records)[:WANTED_LINKS_MAX] if record.host != self.host}
        self._wanted_ticks.pop(purpose, None)
        self._wanted_links.pop(purpose, None)
        effects: list[Effect] = []
        if wanted:
            self._wanted_links[purpose] = wanted
            for record in wanted.values():
                link = self.links.get(record.host)
                if at_once and link is not None and not link.up:
                    link.failures = link.redial_in = 0
                effects += self._learn(record)
        return effects

    def want_more_links(self, purpose: Hashable, records: Iterable[HostRecord]) -> list[Effect]:
        """Wants links to these hosts besides those it wants for this purpose, the newest first."""
        return self.want_links(purpose, [*records, *self._wanted_links.get(purpose, {}).values()])

    def wanted_hosts(self, purpose: Hashable) -> list[HostId]:
        """The hosts a purpose has links to, or tries to have."""
        return list(self._wanted_links.get(purpose, ()))

    def follow(self, hosts: set[HostId], now: float) -> list[Effect]:
        """Pings these hosts; their round trips count from now on, and no others'."""
        self._followed = hosts
        return [Send(host, Ping(now)) for host in sorted(hosts) if host in self.links and self.links[host].up]

    def sampled(self, host: HostId, rtt_ms: float, lost: int, sent: int) -> None:
        """The transport's statistics of a link."""
        link = self.links.get(host)
        if link is None or not link.up:
            return
        if host in self._followed and link.estimate.samples >= SAMPLES_READY:
            link.estimate.count(lost, sent)
        else:
            link.estimate.sample(rtt_ms, lost, sent)

    def to_sample(self, in_use: Container[HostId]) -> list[HostId]:
        """The links whose statistics are wanted before the next tick: those in use and new ones always, others at times."""
        return [
            host
            for host, link in self.links.items()
            if link.up
            and (
                link.estimate.samples < SAMPLES_READY
                or link.ticks % (SAMPLE_TICKS_IN_USE if host in in_use else SAMPLE_TICKS) == 0
            )
        ]

    def release_measured(self, purpose: Hashable) -> None:
        """Lets go of links that were wished for to be measured, and are."""
        wanted = self._wanted_links.get(purpose)
        if not wanted:
            return
        self._wanted_ticks[purpose] = self._wanted_ticks.get(purpose, 0) + 1
        late = self._wanted_ticks[purpose] >= MEASURE_TICKS
        done = [h for h in wanted if late or (h in self.links and self.links[h].estimate.samples >= SAMPLES_READY)]
        for host in done:
            del wanted[host]
        others = {host for each, want_links in self._wanted_links.items() if each != purpose for host in want_links}
        free = [
            h
            for h in done
            if h in self.links and h not in others and h not in self.neighbours() and not self.links[h].needed
        ]
        for host in free:
            self.links[host].idle_ticks = UNNEEDED_TICKS - REPORT_TICKS

    def carrying(self, channel: ChannelName) -> dict[HostId, PathMetrics]:
        """The hosts with a working, measured link that say they carry the channel, and how it reaches them."""
        return {
            host: link.carried[channel]
            for host, link in self.links.items()
            if link.up and channel in link.carried and link.estimate.one_way_ms is not None
        }

    def up(self, host: HostId) -> list[Effect]:
        """The link works; a host we do not know yet is kept for a while, the directory may be slower than its dial."""
        link = self.links.setdefault(host, Link(None))
        link.up, link.dialling, link.leaving, link.slow, link.slow_announced = True, False, False, False, False
        link.silent_ticks = link.failures = link.idle_ticks = 0
        link.ticks = 0
        link.estimate = LinkEstimate()
        return [] if self.placement is None else [Send(host, Hello(self.placement.record))]

    def down(self, host: HostId) -> None:
        """The link broke or could not be opened; it is dialled again after a growing pause."""
        link = self.links.get(host)
        if link is None:
            return
        link.up = link.dialling = False
        link.carried.clear()
        link.redial_in = REDIAL_TICKS[min(link.failures, len(REDIAL_TICKS) - 1)]
        link.failures += 1

    def redial_soon(self) -> None:
        """A stream waits for a parent: what is down is dialled again soon."""
        for link in self.links.values():
            link.redial_in = min(link.redial_in, REDIAL_SOON_TICKS)

    def on_goodbye(self, host: HostId) -> list[Effect]:
        """A host has left: nobody needs to suspect it."""
        link = self.links.get(host)
        return [] if link is None or not link.up else self._drop(host)

    def heard(self, host: HostId, message: Hello | Heartbeat | Ping | Pong, now: float) -> list[Effect]:
        """Who the peer is, what it carries, a question for our clock, or the answer to ours."""
        link = self.links.get(host)
        if link is None or not link.up:
            return []
        match message:
            case Hello(record):
                if record.host == host and link.record is None:
                    link.record = record
            case Heartbeat(carried, needs, slow, sent_s):
                link.needed, link.slow = needs, slow
                link.carried = {each.channel: each.metrics for each in carried}
                link.spare = {each.channel: each.spare for each in carried}
                return [Send(host, Pong(sent_s, now))] if sent_s else []
            case Ping(sent_s):
                return [Send(host, Pong(sent_s, now))]
            case Pong(sent_s, seen_s):
                link.estimate.clock(sent_s, seen_s, now)
                if host in self._followed:
                    link.estimate.pinged(1000 * (now - sent_s))
        return []

    def drop_channel(self, host: HostId, channel: ChannelName) -> None:
        """A host will not pass a channel on, whatever its last beat said; its next one counts again."""
        if host in self.links:
            self.links[host].carried.pop(channel, None)

    def is_leaving(self, host: HostId) -> bool:
        """Whether a host has said that it is about to leave."""
        link = self.links.get(host)
        return link is not None and link.leaving

    def is_silent(self, host: HostId, ticks: int) -> bool:
        """No working link, or nothing heard over it for so many ticks."""
        link = self.links.get(host)
        return link is None or not link.up or link.silent_ticks >= ticks

    def late(self, host: HostId, ticks: int) -> bool:
        """No working link, or the last beat over it should have come so many ticks ago."""
        link = self.links.get(host)
        return link is None or not link.up or link.silent_ticks >= _period(link.slow) + ticks

    def tick(self, needed: Iterable[HostId], heartbeat: Heartbeat, now: float) -> tuple[list[Effect], list[HostId]]:
        """One round: beats where they are due, silent links given up, missing ones dialled.

        Args:
            needed: hosts whose links carry streams, kept even when they are no neighbours any more.
            beat: what to tell of ourselves.

        Returns:
            Effects, and the hosts that fell silent in this round.
        """
        effects: list[Effect] = []
        silent: list[HostId] = []
        neighbours = self.neighbours()
        wanted_hosts = {host for want_links in self._wanted_links.values() for host in want_links}
        close = neighbours.union(needed)
        keep = close | wanted_hosts
        for host, link in list(self.links.items()):
            if link.up:
                link.silent_ticks += 1
                if link.silent_ticks >= SUSPECT_TICKS + (SLOW_HEARTBEAT_TICKS - HEARTBEAT_TICKS if link.slow else 0):
                    silent.append(host)
                    effects.append(Suspect(host))
                    effects += self._drop(host)
                    continue
                slow = host not in close
                if (
                    link.ticks % _period(slow and link.slow_announced) == 0
                ):  # a peer that was not told would call us late
                    link.slow_announced = slow
                    effects += self._heartbeats(
                        host, link, structs.replace(heartbeat, needs=host in keep, slow=slow), now
                    )
                link.ticks += 1
            elif not link.dialling and (
                host in wanted_hosts or host in self._followed or (host in neighbours and self._dials(host))
            ):
                link.redial_in -= 1
                if link.redial_in <= 0:
                    effects += self._dial(link)
            if host not in keep:
                effects += self._forget_later(host, link)
            else:
                link.idle_ticks = 0
        return effects, silent

    def leave(self) -> list[Effect]:
        """Says goodbye to everyone."""
        return [Send(host, Goodbye()) for host, link in self.links.items() if link.up]

    def _learn(self, record: HostRecord) -> list[Effect]:
        """Takes a record in, and dials its host unless that one will dial us."""
        link = self.links.get(record.host)
        effects: list[Effect] = []
        if link is None:
            link = self.links[record.host] = Link(record)
        elif link.record is not None and _moved(link.record, record):
            effects += self._drop(record.host)
            link.failures = link.redial_in = 0
        link.record = record
        wanted_hosts = any(record.host in want_links for want_links in self._wanted_links.values())
        if (wanted_hosts or self._dials(record.host)) and not link.up and not link.dialling and link.redial_in <= 0:
            effects += self._dial(link)
        return effects

    def _heartbeats(self, host: HostId, link: Link, heartbeat: Heartbeat, now: float) -> list[Effect]:
        beats = link.ticks // _period(heartbeat.slow)
        asks = beats % PING_HEARTBEATS == 0 or link.estimate.clock_offset_ms[1] >= CLOCK_UNKNOWN_MS
        effects: list[Effect] = [Send(host, structs.replace(heartbeat, sent_s=now) if asks else heartbeat)]
        if self.placement is not None and (beats < HELLO_HEARTBEATS or beats % HELLO_AGAIN_HEARTBEATS == 0):
            effects.append(Send(host, Hello(self.placement.record)))
        return effects

    def _dials(self, host: HostId) -> bool:
        link = self.links.get(host)
        reachable = link is None or link.record is None or link.record.reachable
        return reachable and (self.hidden or self.host < host)

    def _dial(self, link: Link) -> list[Effect]:
        if link.record is None or not link.record.reachable:
            return []
        link.dialling = True
        return [Dial(link.record)]

    def _drop(self, host: HostId) -> list[Effect]:
        self.down(host)
        return [HangUp(host)]

    def _forget_later(self, host: HostId, link: Link) -> list[Effect]:
        """Lets go of a link that neither end needs."""
        link.idle_ticks = 0 if link.up and link.needed else link.idle_ticks + 1
        if link.idle_ticks < UNNEEDED_TICKS:
            return []
        del self.links[host]
        return [HangUp(host)]


def _period(slow: bool) -> int:
    return SLOW_HEARTBEAT_TICKS if slow else HEARTBEAT_TICKS


def _moved(old: HostRecord, new: HostRecord) -> bool:
    return (old.address, old.fingerprint) != (new.address, new.fingerprint)
