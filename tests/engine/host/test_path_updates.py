"""What a host tells its children of the path to it, and when."""

from itertools import pairwise
from typing import Any

import pytest
from msgspec import structs

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT
from cubecast.engine.protocol import messages as m
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import Tree
from cubecast.types import ChannelName, HostId, Label
from tests.engine.host.scripted import CHANNEL, ME, PUBLISHER, ScriptedHost, feeding

NO_BOUND = Contract(10_000.0)


def update_of(host: ScriptedHost, peer: HostId, above: tuple[HostId, ...] = (PUBLISHER,)) -> m.PathUpdate:
    """A path update of a peer that names no newer sequence number than before."""
    metrics = structs.replace(host.metrics_at(peer, 100.0), path=(*above, peer))
    return m.PathUpdate(CHANNEL, metrics, 0, Label(0), flowing=False, fed=True)


def test_children_hear_at_once_of_another_path_of_the_same_length() -> None:
    host, child = feeding()
    parent = host.parent
    assert parent is not None
    host.run(1)
    for above in ("b", "c", "b"):
        (sent,) = host.receive(parent, update_of(host, parent, (PUBLISHER, HostId(above))))
        assert isinstance(sent, fx.Send)
        assert isinstance(sent.message, m.PathUpdate)
        assert (sent.host, sent.message.metrics.path) == (child, (PUBLISHER, HostId(above), parent, ME))
        assert host.receive(parent, update_of(host, parent, (PUBLISHER, HostId(above)))) == [], "nothing has changed"


@pytest.mark.parametrize("moved", [{"epoch": 1}, {"target": Label(1)}, {"tree": Tree.GRAFT}])
def test_children_hear_at_once_where_the_publisher_has_moved_to(moved: dict[str, Any]) -> None:
    host, child = feeding()
    parent = host.parent
    assert parent is not None
    host.run(1)
    before = update_of(host, parent)
    assert host.receive(parent, before) == []
    (sent,) = host.receive(parent, structs.replace(before, **moved))
    assert isinstance(sent, fx.Send)
    assert sent.host == child
    assert {name: getattr(sent.message, name) for name in moved} == moved


def test_children_are_told_whether_media_flows_once_it_has_for_long_enough() -> None:
    host, child = feeding()
    parent = host.parent
    assert parent is not None
    host.run(DEFAULT.tree.flowing_ticks)
    assert host.sent_to(child, m.PathUpdate)[-1].flowing
    host.peers[parent].media = False
    host.run(DEFAULT.failure.silent_ticks + 1)
    assert not host.sent_to(child, m.PathUpdate)[-1].flowing
    host.peers[parent].media = True
    host.run(DEFAULT.tree.flowing_ticks - 1)
    assert not host.sent_to(child, m.PathUpdate)[-1].flowing
    host.run(2)
    assert host.sent_to(child, m.PathUpdate)[-1].flowing


def test_children_get_a_path_update_every_tick_while_media_pauses_and_fewer_once_the_channel_is_idle() -> None:
    host, child = feeding()
    parent = host.parent
    assert parent is not None
    host.peers[parent].seqno, host.peers[parent].media = host.ticks, False
    begun = host.ticks
    for _ in range(DEFAULT.tree.idle_ticks + 3 * DEFAULT.tree.idle_update_ticks):
        host.receive(child, m.SubtreeContract(CHANNEL, NO_BOUND))
        host.run(1)
    ticks = [tick - begun for tick, to, each in host.sent if to == child and isinstance(each, m.PathUpdate)]
    assert set(range(DEFAULT.tree.pause_ticks, DEFAULT.tree.idle_ticks - 1)) <= set(ticks)
    idle = [later - earlier for earlier, later in pairwise(ticks) if later >= DEFAULT.tree.idle_ticks]
    assert len(idle) >= 2
    assert set(idle) == {DEFAULT.tree.idle_update_ticks}


def test_the_numbers_of_a_publisher_whose_clock_stands_still_follow_each_other() -> None:
    host, own, child = ScriptedHost(), ChannelName("own"), HostId("x")
    host.handle(ev.LinkUp(child))
    host.handle(ev.PublishRequested(own, Tree.HYBRID))
    host.receive(child, m.Attach(1, own, NO_BOUND, (child,)))
    updates: list[m.PathUpdate] = []
    for _ in range(2 * DEFAULT.tree.update_ticks):
        sent = (each for each in host.engine.handle(ev.Tick(0.0), host.now) if isinstance(each, fx.Send))
        updates += [each.message for each in sent if isinstance(each.message, m.PathUpdate)]
    newest = int(1000 * host.now)
    assert sorted({update.metrics.seqno for update in updates} - {0}) == [newest, newest + 1]
