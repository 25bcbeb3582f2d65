"""The table of phases and moves of a search: what it allows, what an illegal move does, and its diagram in the docs."""

from itertools import product
from pathlib import Path

import pytest

from cubecast.engine.host import effects as fx
from cubecast.engine.host.search.machine import TRANSITIONS, IllegalMove, Machine, Move, Phase, diagram
from cubecast.engine.host.search.state import Search
from cubecast.engine.protocol import messages as m
from cubecast.types import HostId
from tests.engine.host.scripted import CHANNEL, ScriptedHost

DOCS = Path(__file__).parents[3] / "docs"


def test_the_diagram_in_the_docs_is_that_of_the_table() -> None:
    assert f"```mermaid\n{diagram()}\n```" in (DOCS / "search.md").read_text()


@pytest.mark.parametrize(("phase", "move"), [*product(Phase, Move)])
def test_a_move_leads_where_the_table_says_or_raises_and_changes_nothing(phase: Phase, move: Move) -> None:
    machine = Machine(phase)
    after = TRANSITIONS.get((phase, move))
    if after is None:
        with pytest.raises(IllegalMove, match=rf"phase {phase.name} cannot make the move {move.name}"):
            machine.move(move)
    else:
        machine.move(move)
    assert machine.phase is (after or phase)


def test_every_phase_can_be_reached_and_every_search_can_end() -> None:
    reached, new = set[Phase](), {Phase.RESOLVING, Phase.CHOOSING}
    while new:
        reached |= new
        new = {after for (phase, _), after in TRANSITIONS.items() if phase in reached} - reached
    assert reached == set(Phase)
    assert all((phase, Move.END) in TRANSITIONS for phase in Phase if phase is not Phase.ENDED)
    assert not any(phase is Phase.ENDED for phase, _ in TRANSITIONS)


def broken_search(host: ScriptedHost) -> tuple[HostId, m.PathRefusal]:
    """Puts a search into a phase it cannot be in, and gives the answer it waits for."""
    host.peers[HostId("a")].alive = host.peers[HostId("b")].alive = False
    host.search()
    host.run(5)
    (search,) = searches_of(host)
    assert search.phase is Phase.ATTACHING
    assert search.asked is not None
    search.machine = Machine(Phase.OFFERED)
    search.machine.move(Move.CHOOSE)  # waits for nothing, as after a handler that stopped half-way
    peer, ask = search.asked
    return peer, m.PathRefusal(ask, CHANNEL, "full", 0)


def searches_of(host: ScriptedHost) -> list[Search]:
    return host.engine._searches.steps.own(CHANNEL)


def test_an_illegal_move_raises_where_nobody_counts_it() -> None:
    host = ScriptedHost()
    peer, refusal = broken_search(host)
    with pytest.raises(IllegalMove):
        host.receive(peer, refusal)


def test_a_live_host_counts_an_illegal_move_refuses_the_search_and_goes_on() -> None:
    host = ScriptedHost()
    faults: list[IllegalMove] = []
    host.engine._on_illegal_move = faults.append
    peer, refusal = broken_search(host)
    host.receive(peer, refusal)
    assert [fault.move for fault in faults] == [Move.CHOOSE]
    assert [refused.reason for refused in host.done(fx.Refused)] == [
        "an internal fault ended the search; see the host's log"
    ]
    assert not searches_of(host)
    for peer_state in host.peers.values():
        peer_state.alive = True
    host.subscribe()
