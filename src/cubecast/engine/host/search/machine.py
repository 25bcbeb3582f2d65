"""The state machine of a search for a parent: one table of phases and moves, and the only writer of a search's phase.

A handler of a message, a tick or an answer decides which move a search makes; whether the move is possible is decided
here alone. A move that the table does not have is a fault of this program, never of a peer: messages that do not fit a
search's phase are answered or ignored before any move is made. In tests and simulations it raises; a live host counts
it, ends the search and goes on (`HostRuntime.illegal_moves`).

The diagram in docs/search.md is made from the table; a test compares them.
"""

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType


class Phase(Enum):
    """Where a search stands."""

    RESOLVING = auto()
    """The directory was asked who publishes the channel."""
    PROBING = auto()
    """The links to proposed parents, or to the next host of a route, are being measured."""
    WIDENING = auto()
    """The directory was asked for routes over hosts that do not carry the channel yet."""
    CHOOSING = auto()
    """The search waits for no answer: the next candidate is being chosen. Lasts only while one event is handled."""
    ATTACHING = auto()
    """A host that carries the channel was sent Attach."""
    REQUESTING = auto()
    """A next hop over the cube was sent PathRequest."""
    COMMITTING = auto()
    """Commit was sent for the best offer."""
    RELOCATING = auto()
    """The directory was asked for a label nearer to the publisher."""
    WAITING = auto()
    """A pause before the channel is resolved again."""
    PARKED = auto()
    """Another host's Attach waits for a sequence number new enough, or for a slot."""
    OFFERED = auto()
    """Another host has this host's offer."""
    ENDED = auto()
    """Admitted, refused, answered, or given up."""


class Move(Enum):
    """What moves a search from one phase to the next."""

    PROBE = auto()
    """Links are measured first."""
    WIDEN = auto()
    """No host that is known to carry the channel will do: the directory is asked for routes over others."""
    CHOOSE = auto()
    """What the search waited for has come, or will not come: the next candidate is chosen."""
    ATTACH = auto()
    """A host that carries the channel is asked to be the parent."""
    REQUEST = auto()
    """A next hop over the cube is asked for a path."""
    COMMIT = auto()
    """The best offer is accepted."""
    OFFER = auto()
    """Another host is offered a path."""
    PARK = auto()
    """Another host's Attach cannot be decided yet."""
    RELOCATE = auto()
    """The directory is asked for a better label."""
    PAUSE = auto()
    """The search is repeated after a pause."""
    RESOLVE = auto()
    """The pause is over: the directory is asked again."""
    END = auto()
    """The search is over."""


_FROM: Mapping[Phase, Mapping[Move, Phase]] = {
    Phase.RESOLVING: {Move.PROBE: Phase.PROBING, Move.CHOOSE: Phase.CHOOSING},
    Phase.PROBING: {Move.CHOOSE: Phase.CHOOSING},
    Phase.WIDENING: {Move.PROBE: Phase.PROBING, Move.CHOOSE: Phase.CHOOSING},
    Phase.CHOOSING: {
        Move.PROBE: Phase.PROBING,
        Move.WIDEN: Phase.WIDENING,
        Move.ATTACH: Phase.ATTACHING,
        Move.REQUEST: Phase.REQUESTING,
        Move.COMMIT: Phase.COMMITTING,
        Move.OFFER: Phase.OFFERED,
        Move.PARK: Phase.PARKED,
        Move.RELOCATE: Phase.RELOCATING,
        Move.PAUSE: Phase.WAITING,
    },
    Phase.ATTACHING: {Move.CHOOSE: Phase.CHOOSING},
    Phase.REQUESTING: {Move.CHOOSE: Phase.CHOOSING},
    Phase.COMMITTING: {Move.CHOOSE: Phase.CHOOSING},
    Phase.RELOCATING: {Move.PAUSE: Phase.WAITING},
    Phase.WAITING: {Move.RESOLVE: Phase.RESOLVING, Move.WIDEN: Phase.WIDENING},
    Phase.PARKED: {Move.CHOOSE: Phase.CHOOSING},
    Phase.OFFERED: {Move.CHOOSE: Phase.CHOOSING},
}

TRANSITIONS: Mapping[tuple[Phase, Move], Phase] = MappingProxyType(
    {(phase, move): after for phase, moves in _FROM.items() for move, after in moves.items()}
    | {(phase, Move.END): Phase.ENDED for phase in _FROM}
)
"""The next phase by phase and move. What is not in it cannot happen."""


class IllegalMove(AssertionError):
    """A search was to make a move that its phase does not allow: a fault of this program."""

    def __init__(self, phase: Phase, move: Move) -> None:
        """The phase, and the move that it does not have."""
        super().__init__(f"a search in phase {phase.name} cannot make the move {move.name}")
        self.phase, self.move = phase, move


class Machine:
    """The phase of one search."""

    __slots__ = ("_phase",)

    def __init__(self, phase: Phase) -> None:
        self._phase = phase

    @property
    def phase(self) -> Phase:
        """The phase now."""
        return self._phase

    def move(self, move: Move) -> None:
        """Makes a move.

        Raises:
            IllegalMove: the phase does not have it; the phase stays.
        """
        after = TRANSITIONS.get((self._phase, move))
        if after is None:
            raise IllegalMove(self._phase, move)
        self._phase = after


def diagram() -> str:
    """The table as a Mermaid state diagram; moves to ENDED, which every phase has, are left out."""
    lines = ["stateDiagram-v2"]
    for (phase, move), after in TRANSITIONS.items():
        if move is not Move.END:
            lines.append(f"    {phase.name} --> {after.name}: {move.name}")
    return "\n".join(lines)
