"""One search for a parent: what it is for, and where it stands."""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from cubecast.engine.host.effects import Report
from cubecast.engine.protocol.feasibility import FeasibilityDistance
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.records import SubscriptionRecord, Tree
from cubecast.types import ORIGIN, ChannelName, HostId, Label

TRIES = 24
"""Requests one search may send over the cube in all: it bounds the messages of a subscribe, whatever the cube."""
RESHAPED, UNFED = "the cube changes its shape", "looks for a parent itself"
PASSING = (RESHAPED, UNFED)
"""How reasons end that are gone a moment later."""


class Purpose(Enum):
    """What a search is for."""

    JOIN = auto()
    """The local subscriber."""
    RELAY = auto()
    """Another host asks through us."""
    REPAIR = auto()
    """A branch of ours that has lost its parent: late is better than never."""
    CHANGE = auto()
    """A branch of ours that may have a better parent, or has one that is about to leave."""


class Phase(Enum):
    """Where a search stands."""

    RESOLVING = auto()
    WAITING = auto()
    """To resolve again."""
    RELOCATING = auto()
    """The directory looks for a seat nearer to the publisher."""
    PROBING = auto()
    ASKING = auto()
    ATTACHING = auto()
    PARKED = auto()
    OFFERED = auto()
    COMMITTING = auto()


RESERVING = (Phase.PARKED, Phase.OFFERED, Phase.COMMITTING)


class Hop(NamedTuple):
    """A host to ask over the cube, and whom it should ask in turn when that is not its own choice."""

    host: HostId
    onward: HostId | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """What a next hop offered: how the channel would reach this host through it."""

    host: HostId
    ask: int
    metrics: PathMetrics


@dataclass(slots=True)
class Search:
    """One request for a parent. `asker` is this host itself but for RELAY."""

    purpose: Purpose
    asker: HostId
    ask: int
    channel: ChannelName
    contract: Contract
    tries: int = TRIES
    epoch: int = 0
    target: Label = ORIGIN
    trail: tuple[HostId, ...] = ()
    grant: str = ""
    feasibility: FeasibilityDistance = field(default_factory=FeasibilityDistance)
    direct: list[HostId] = field(default_factory=list)
    onward: HostId | None = None
    untried: list[Hop] = field(default_factory=list)
    over_cube: bool = False
    """The cube's next hops were looked up."""
    asked: tuple[HostId, int] | None = None
    best: Offer | None = None
    advised: bool = False
    """The directory asked for a CHANGE: it may be for the others' good."""
    nearest: PathMetrics | None = None
    """The best that was declined, for it does not keep the bound."""
    phase: Phase = Phase.ASKING
    tree: Tree = Tree.HYBRID
    relocations: int = 0
    """How often the directory was asked for a better seat."""
    resolves: int = 0
    """How often the directory was asked again."""
    age_ticks: int = 0
    wait_ticks: int = 0
    reason: str = "no next hop answers"

    def nearest_of(self, best: PathMetrics | None) -> PathMetrics | None:
        """Of a path and those that were declined, the one that comes nearest to the contract."""
        seen = [metrics for metrics in (best, self.nearest) if metrics is not None]
        return min(seen, key=self.contract.rank, default=None)

    def report(
        self,
        state: str,
        promised_ms: float | None = None,
        best_ms: float | None = None,
        path: tuple[HostId, ...] = (),
    ) -> Report:
        """A line of the ledger: how a search of the local subscriber's stands."""
        terms = self.contract
        record = SubscriptionRecord(
            self.channel, self.asker, terms.bound_ms, state, promised_ms, best_ms, path, terms.rate_bps, terms.loss
        )
        return Report(record)
