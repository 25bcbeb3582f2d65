"""The neighbourhood of a host: its place in the cube, the links to its neighbours, heartbeats and suspicion.

Of two neighbours the one with the smaller name dials. Either end sends a beat a tick, now and then one that asks for
the peer's clock; silence is counted in our own
ticks, so a host that was stalled itself does not blame its peers for it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from cubecast.engine.effects import Dial, Effect, HangUp, Send, Suspect
from cubecast.engine.links import CLOCK_UNKNOWN_MS, LinkEstimate
from cubecast.engine.messages import Beat, Goodbye, Ping, Pong
from cubecast.engine.records import HostRecord, Placement
from cubecast.overlay.cube import Cube
from cubecast.types import HostId, Label

TICK_S = 0.25
SUSPECT_TICKS = 5
PING_TICKS = 16
"""Every so many ticks a beat asks for the peer's clock; while that is unknown every beat does."""
REDIAL_TICKS = (1, 2, 4, 8, 16, 20)
STRANGER_TICKS = 40


@dataclass(slots=True)
class Link:
    """One link to another host; `record` is None until the directory told us about a host that dialled us."""

    record: HostRecord | None
    up: bool = False
    dialling: bool = False
    silent_ticks: int = 0
    redial_in: int = 0
    failures: int = 0
    idle_ticks: int = 0
    beats: int = 0
    estimate: LinkEstimate = field(default_factory=LinkEstimate)


class Neighbourhood:
    """Links by host. The engine owns one; it never performs anything itself."""

    def __init__(self, host: HostId) -> None:
        self.host = host
        self.placement: Placement | None = None
        self.links: dict[HostId, Link] = {}
        self._carriers: dict[Label, HostId] = {}

    @property
    def cube(self) -> Cube | None:
        """The overlay's shape; None before the directory answered."""
        return None if self.placement is None else Cube(self.placement.radix, self.placement.dimensions)

    def carrier(self, label: Label) -> HostId | None:
        """The neighbour that carries a label next to one of ours."""
        return self._carriers.get(label)

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

    def record(self, host: HostId) -> HostRecord | None:
        """What the directory told of a host we have a link to."""
        link = self.links.get(host)
        return None if link is None else link.record

    def place(self, placement: Placement) -> list[Effect]:
        """Takes a new place in: dials new neighbours, lets go of former ones over the next ticks."""
        if self.placement is not None and placement.version <= self.placement.version:
            return []
        self.placement = placement
        self._carriers = {n.label: n.record.host for n in placement.neighbours}
        effects: list[Effect] = []
        for record in {n.record.host: n.record for n in placement.neighbours}.values():
            link = self.links.get(record.host)
            if link is None:
                link = self.links[record.host] = Link(record)
            elif link.record is not None and _moved(link.record, record):
                effects += self._drop(record.host, link)
                link.failures = link.redial_in = 0
            link.record = record
            if self._dials(record.host) and not link.up and not link.dialling:
                effects += self._dial(link)
        return effects

    def up(self, host: HostId) -> list[Effect]:
        """The link works; a host we do not know yet is kept for a while, the directory may be slower than its dial."""
        link = self.links.setdefault(host, Link(None))
        link.up, link.dialling = True, False
        link.silent_ticks = link.failures = link.idle_ticks = 0
        link.estimate = LinkEstimate()
        return []

    def down(self, host: HostId) -> None:
        """The link broke or could not be opened; it is dialled again after a growing pause."""
        link = self.links.get(host)
        if link is None:
            return
        link.up = link.dialling = False
        link.redial_in = REDIAL_TICKS[min(link.failures, len(REDIAL_TICKS) - 1)]
        link.failures += 1

    def heard(self, host: HostId, message: Ping | Pong, now: float) -> list[Effect]:
        """A question for our clock, or the answer to ours."""
        link = self.links.get(host)
        if link is None or not link.up:
            return []
        if isinstance(message, Ping):
            return [Send(host, Pong(message.sent_s, now))]
        link.estimate.clock(message.sent_s, message.seen_s, now)
        return []

    def quiet(self, host: HostId) -> bool:
        """No working link, or nothing heard over it for SUSPECT_TICKS."""
        link = self.links.get(host)
        return link is None or not link.up or link.silent_ticks >= SUSPECT_TICKS

    def tick(self, needed: Iterable[HostId], now: float) -> tuple[list[Effect], list[HostId]]:
        """One heartbeat round.

        Args:
            needed: hosts whose links carry streams, kept even when they are no neighbours any more.

        Returns:
            Effects, and the hosts that fell silent in this round.
        """
        effects: list[Effect] = []
        silent: list[HostId] = []
        keep = set(needed) | set(self._carriers.values())
        for host, link in list(self.links.items()):
            if link.up:
                link.silent_ticks += 1
                if link.silent_ticks == SUSPECT_TICKS:
                    silent.append(host)
                    effects.append(Suspect(host))
                    effects += self._drop(host, link)
                    continue
                link.beats += 1
                asks = link.beats % PING_TICKS == 0 or link.estimate.clock_offset_ms[1] >= CLOCK_UNKNOWN_MS
                effects.append(Send(host, Ping(now) if asks else Beat()))
            elif not link.dialling and host in self._carriers.values() and self._dials(host):
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

    def _dials(self, host: HostId) -> bool:
        return self.host < host

    def _dial(self, link: Link) -> list[Effect]:
        if link.record is None:
            return []
        link.dialling = True
        return [Dial(link.record)]

    def _drop(self, host: HostId, link: Link) -> list[Effect]:
        self.down(host)
        link.silent_ticks = SUSPECT_TICKS
        return [HangUp(host)]

    def _forget_later(self, host: HostId, link: Link) -> list[Effect]:
        link.idle_ticks += 1
        if link.idle_ticks < STRANGER_TICKS:
            return []
        del self.links[host]
        return [HangUp(host)]


def _moved(old: HostRecord, new: HostRecord) -> bool:
    return (old.address, old.fingerprint) != (new.address, new.fingerprint)
