"""One search for a parent: its purpose, what it asks for, and its results so far."""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from cubecast.engine.host.effects import Report
from cubecast.engine.host.search.machine import Machine, Move, Phase
from cubecast.engine.protocol.feasibility import FeasibilityDistance
from cubecast.engine.protocol.http_bodies import RoutesAnswer
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.records import SubscriptionRecord, Tree
from cubecast.types import NOBODY, ORIGIN, ChannelName, HostId, Label

RESHAPED = "the cube changes its shape"
"""Reason for a refusal: the labels of the request are of another epoch."""
UNFED = "looks for a parent itself"
"""Reason for a refusal, after a host's name: the host has no parent for the channel at the moment."""
EXPIRED = "the offer has expired"
"""Reason for a refusal: the requester has accepted an offer too late."""
FULL = "is full"
"""Reason for a refusal, after a host's name: it has no spare fan-out."""
SILENT = "is silent"
"""Reason, after a host's name: its link broke while a search waited for it."""
LATE = "did not answer in time"
"""Reason, after a host's name."""
NOT_CARRIED = "does not carry the channel"
"""Reason for a refusal, after a host's name: it no longer carries it."""
ENDED_MEANWHILE = "the stream ended meanwhile"
"""Reason for a refusal: the host that made an offer has lost the stream since."""
UNLINKED = "has no link to the next host yet"
"""Reason for a refusal, after a host's name."""
DESCENDANT = "may be a descendant of"
"""Reason for a refusal, between two hosts' names: no sequence number has come yet that rules it out."""
TRANSIENT = (UNLINKED, RESHAPED, UNFED, EXPIRED, SILENT, LATE, NOT_CARRIED, ENDED_MEANWHILE)
"""Endings of reasons that may soon no longer hold: a search that was refused for one of them is repeated."""

FULL_ROUNDS = 3
"""Rounds of a search in which a full host counts as transient: a report of its spare fan-out takes up to 2 s."""


class Purpose(Enum):
    """What a search is for."""

    JOIN = auto()
    """The local subscriber; only a path that keeps its contract is accepted."""
    RELAY = auto()
    """Another host asks through this one."""
    REPAIR = auto()
    """A branch that has lost its parent; any path is accepted, since a late stream is better than none."""
    CHANGE = auto()
    """A branch for which a better parent is known, or whose parent is about to leave."""


RESERVING = (Phase.PARKED, Phase.OFFERED, Phase.COMMITTING)
"""Phases in which a request of another host reserves a copy."""


class Hop(NamedTuple):
    """A host to ask for a path, and the hosts to be asked after it; empty if it may choose."""

    host: HostId
    onward: tuple[HostId, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """A next hop's offer, and the path to this host through it."""

    host: HostId
    ask: int
    metrics: PathMetrics


@dataclass(slots=True)
class Search:
    """One search for a parent."""

    purpose: Purpose
    requester: HostId
    """This host itself, except for RELAY."""
    ask: int
    """The requester's number for it."""
    channel: ChannelName
    contract: Contract
    tries: int
    """Requests over the cube it may still send."""
    epoch: int = 0
    target: Label = ORIGIN
    """The publisher's seat, a label of that epoch."""
    trail: tuple[HostId, ...] = ()
    """Hosts that the request has passed, the subscriber first."""
    """The subscriber's permission, signed by the super-node."""
    publisher: HostId | None = None
    """Of a JOIN: the publisher that the directory names; a path from another one is not accepted."""
    feasibility: FeasibilityDistance = field(default_factory=FeasibilityDistance)
    direct: list[HostId] = field(default_factory=list)
    """Hosts known to carry the channel that are still to be asked."""
    onward: tuple[HostId, ...] = ()
    """The next hops that the requester prescribes."""
    offers: bool = False
    """Of a RELAY that waits for a newer sequence number: it is answered with an offer, not attached at once."""
    routes: RoutesAnswer | None = None
    """The directory's answer to the last request for routes; None before the first, and when it did not answer."""
    rounds: int = 0
    """Times that the directory was asked for routes."""
    unchanged_rounds: int = 0
    """Rounds since the number of hosts that carry the channel last grew, as far as the directory knows."""
    transient: bool = False
    """In this round, a candidate was refused for a reason that may soon no longer hold."""
    untried: list[Hop] = field(default_factory=list)
    """Next hops over the cube that are still to be asked."""
    over_cube: bool = False
    """Whether `untried` was filled."""
    asked: tuple[HostId, int] | None = None
    """The host asked last, and the number of that request; None when it has answered."""
    best: Offer | None = None
    advised: bool = False
    """The directory advised this CHANGE: it may help other hosts rather than this one."""
    slot_for: HostId = NOBODY
    """The host for which the slot at the former parent of this CHANGE is to be reserved; empty for none."""
    nearest: PathMetrics | None = None
    """The best path that was declined because it does not keep the contract."""
    promising: dict[HostId, PathMetrics] = field(default_factory=dict)
    """Of a JOIN: hosts that announced a path which keeps the contract, and that path to this host."""
    declined: dict[HostId, str] = field(default_factory=dict)
    """Hosts that did not accept this one when they were last asked, and why."""
    machine: Machine = field(default_factory=lambda: Machine(Phase.CHOOSING))
    tree: Tree = Tree.HYBRID
    relocations: int = 0
    """Requests for a better label so far."""
    resolves: int = 0
    """Repetitions from resolving the channel on, so far."""
    total_ticks: int = 0
    """Since it began."""
    age_ticks: int = 0
    """Since it last began to ask."""
    wait_ticks: int = 0
    reason: str = "no next hop answers"
    """Why it has not succeeded so far; one line for the user."""

    @property
    def phase(self) -> Phase:
        """Where it stands."""
        return self.machine.phase

    def move(self, move: Move) -> None:
        """Moves on to the next phase.

        Raises:
            IllegalMove: the phase does not have the move.
        """
        self.machine.move(move)

    @property
    def waits_for(self) -> HostId | None:
        """The host whose answer the search waits for; None if it waits for none, or for the directory."""
        if self.asked is not None:
            return self.asked[0]
        return self.best.host if self.best is not None and self.phase is Phase.COMMITTING else None

    @property
    def more_is_measured(self) -> bool:
        """Whether the directory has asked for measurements, here or elsewhere, so that asking it again may give more."""
        return self.routes is not None and (self.routes.pending or bool(self.routes.probes))

    def note(self, reason: str) -> None:
        """Records why a candidate did not become the parent.

        A full host may lose a child, but that counts in the first rounds only: then the directory knows that it is full.
        """
        self.reason = reason
        passes = reason.endswith(TRANSIENT) or DESCENDANT in reason
        passes = passes or (reason.endswith(FULL) and self.rounds < FULL_ROUNDS)
        self.transient = self.transient or passes

    def nearest_of(self, best: PathMetrics | None) -> PathMetrics | None:
        """The one of a path and the declined ones that comes nearest to the contract."""
        seen = [metrics for metrics in (best, self.nearest) if metrics is not None]
        return min(seen, key=self.contract.rank, default=None)

    def report(
        self,
        state: str,
        promised_ms: float | None = None,
        best_ms: float | None = None,
        path: tuple[HostId, ...] = (),
    ) -> Report:
        """The report on the local subscriber's search to the directory."""
        terms = self.contract
        record = SubscriptionRecord(
            self.channel, self.requester, terms.bound_ms, state, promised_ms, best_ms, path, terms.rate_bps, terms.loss
        )
        return Report(record)
