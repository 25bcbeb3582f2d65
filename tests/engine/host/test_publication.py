"""A subscriber stays with the publication it was admitted to, whoever else takes the channel's name."""

import pytest

from cubecast.engine.directory import events as d
from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT
from cubecast.engine.protocol.records import Advice, Tree
from cubecast.errors import DirectoryError
from cubecast.overlay.cube import cube
from cubecast.types import HostId
from tests.engine.host.scripted import CHANNEL, ScriptedHost, record
from tests.engine.in_memory import Overlay, random_delays

OTHER = HostId("q")


def with_another_publication() -> tuple[ScriptedHost, HostId]:
    """A host with a parent, and its other neighbour, which carries another stream of that name with less delay."""
    host = ScriptedHost()
    host.subscribe()
    other = host.other()
    host.peers[other].publication, host.peers[other].above, host.peers[other].delay_ms = 77, (OTHER,), 1.0
    return host, other


def test_a_better_path_of_another_publication_is_no_reason_to_move() -> None:
    host, other = with_another_publication()
    parent = host.parent
    host.handle(ev.Advised(Advice(CHANNEL, record(other))))
    host.run(2 * DEFAULT.switching.return_ticks)
    assert host.parent == parent
    assert not host.parent_changes


def test_a_repair_ends_the_stream_rather_than_continuing_with_another_one() -> None:
    host, other = with_another_publication()
    parent = host.parent
    assert parent is not None
    host.peers[parent].alive = False
    host.run(DEFAULT.tree.repair_ticks + 10)
    assert not host.asked(other)
    assert [ended.finished for ended in host.done(fx.StreamEnded)] == [False]


def test_a_parent_that_turns_to_another_publication_is_left() -> None:
    host = ScriptedHost()
    host.subscribe()
    parent, other = host.parent, host.other()
    assert parent is not None
    host.peers[parent].publication = 77
    host.run(10)
    assert [(change.before, change.after, change.reason) for change in host.parent_changes] == [
        (parent, other, "it carries another stream of that name")
    ]


def test_a_confirmation_of_another_publication_is_declined() -> None:
    host, other = with_another_publication()
    parent = host.parent
    assert parent is not None
    host.peers[other].publication, host.peers[other].confirms_ms = 0, 1.0
    host.run(3)
    host.peers[other].publication = 77  # between its announcement and its answer
    host.peers[parent].alive = False
    host.run(DEFAULT.failure.silent_ticks + DEFAULT.tree.idle_silent_ticks + 5)
    assert host.parent != other


def test_a_subscriber_is_not_admitted_to_the_stream_of_another_publisher_than_the_directory_names() -> None:
    host = ScriptedHost()
    for peer in host.peers.values():
        peer.above = (OTHER,)
    host.run(2)
    host.search()
    host.run(DEFAULT.search.probe_ticks + 5)
    assert not host.done(fx.Admitted)


def test_a_name_is_not_given_to_another_host_while_the_old_stream_is_still_received() -> None:
    overlay = Overlay(random_delays(6, 1), cube(2, 3), seed=1)
    overlay.run(5)
    overlay.publish(0)
    overlay.run(1)
    assert isinstance(overlay.subscribe(1, 2000.0), fx.Admitted)
    overlay.crash(overlay.names[0])
    overlay.run(8)  # its lease has ended; the subscriber still looks for a parent
    announced = d.ChannelAnnounced(overlay.names[2], CHANNEL, Tree.HYBRID)
    with pytest.raises(DirectoryError, match="still received from host h000, which published it before"):
        overlay.supernode.send(announced)
    overlay.run(8)
    assert overlay.names[1] in overlay.ended()
    overlay.supernode.send(announced)
    assert overlay.directory.channels[CHANNEL].publisher == overlay.names[2]
