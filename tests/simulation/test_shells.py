"""The simulated super-node answers as the live one does."""

from cubecast.engine.directory.events import HostJoined, HostLeft, HostTested
from cubecast.engine.host import events as ev
from cubecast.engine.protocol.records import Verdict
from cubecast.overlay.cube import Cube
from cubecast.types import HostId
from tests.engine.in_memory import CHANNEL, Overlay, random_delays


def test_a_host_whose_lease_ends_before_its_relocation_is_decided_stays() -> None:
    overlay = Overlay(random_delays(4, 1), Cube(2, 2))
    overlay.run(3)
    host, answers = overlay.names[1], []
    overlay.trace = lambda here, event, _: answers.append((here.host, event))
    overlay.supernode.relocate(overlay.hosts[host], CHANNEL, 1.0)
    overlay.supernode.send(HostLeft(host))
    overlay.run(0.1)
    assert (host, ev.Relocated(CHANNEL, Verdict.STAYS)) in answers


def test_the_changes_of_a_placement_within_the_delay_of_a_push_are_one_push_of_the_last() -> None:
    overlay = Overlay(random_delays(3, 1), Cube(2, 2))
    overlay.run(3)
    placed = []
    overlay.trace = lambda here, event, _: placed.append((here.host, event)) if isinstance(event, ev.Placed) else None
    first, second, third = overlay.names
    for reachable in (False, True, False):
        overlay.supernode.send(HostTested(second, reachable=reachable))
    overlay.run(0.1)
    assert placed.count((first, ev.Placed(overlay.directory.placement(first)))) == 1
    assert len(placed) == len({host for host, _ in placed})
    placed.clear()
    overlay.supernode.send(HostJoined(HostId("late"), "late:1", "f" * 64, "late", 8))
    overlay.supernode.send(HostLeft(HostId("late")))
    overlay.run(0.1)
    assert placed == [], "all placements are what they were"
    overlay.supernode.join(overlay.hosts[third], "")
    overlay.run(0.1)
    assert placed == [(third, ev.Placed(overlay.directory.placement(third)))], "a host that joins again gets its own"
