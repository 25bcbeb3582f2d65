"""One search for a parent: its purpose, what it asks for, and its results so far."""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from cubecast.engine.host.effects import Report
from cubecast.engine.host.search.machine import Machine, Move, Phase
from cubecast.engine.protocol.feasibility import FeasibilityDistance
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.records import SubscriptionRecord, Tree
from cubecast.types import ORIGIN, ChannelName, HostId, Label

RESHAPED = "the cube changes its shape"
"""Reason for a refusal: the labels of the request are of another epoch."""
UNFED = "looks for a parent itself"
"""Reason for a refusal, after a host's name: the host has no parent for the channel at the moment."""
TRANSIENT = (RESHAPED, UNFED)
"""Endings of reasons that soon no longer hold: a search refused for one of them is repeated."""


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
    """A host to ask over the cube, and the host it must ask next; None if it may choose."""

    host: HostId
    onward: HostId | None = None


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
    asker: HostId
    """This host itself, except for RELAY."""
    ask: int
    """The asker's number for it."""
    channel: ChannelName
    contract: Contract
    tries: int
    """Requests over the cube it may still send."""
    epoch: int = 0
    target: Label = ORIGIN
    """The publisher's seat, a label of that epoch."""
    trail: tuple[HostId, ...] = ()
    """Hosts that the request has passed, the subscriber first."""
    grant: str = ""
    """The subscriber's permission, signed by the super-node."""
    feasibility: FeasibilityDistance = field(default_factory=FeasibilityDistance)
    direct: list[HostId] = field(default_factory=list)
    """Hosts known to carry the channel that are still to be asked."""
    onward: HostId | None = None
    """The next hop that the asker prescribes."""
    untried: list[Hop] = field(default_factory=list)
    """Next hops over the cube that are still to be asked."""
    over_cube: bool = False
    """Whether `untried` was filled."""
    asked: tuple[HostId, int] | None = None
    """The host asked last, and the number of that request; None when it has answered."""
    best: Offer | None = None
    advised: bool = False
    """The directory advised this CHANGE: it may help other hosts rather than this one."""
    nearest: PathMetrics | None = None
    """The best path that was declined because it does not keep the contract."""
    machine: Machine = field(default_factory=lambda: Machine(Phase.CHOOSING))
    tree: Tree = Tree.HYBRID
    relocations: int = 0
    """Requests for a better label so far."""
    resolves: int = 0
    """Repetitions from resolving the channel on, so far."""
    age_ticks: int = 0
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
            self.channel, self.asker, terms.bound_ms, state, promised_ms, best_ms, path, terms.rate_bps, terms.loss
        )
        return Report(record)
