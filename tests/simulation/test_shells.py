"""The simulated super-node answers as the live one does."""

from cubecast.engine.directory.events import HostLeft
from cubecast.engine.host import events as ev
from cubecast.engine.protocol.records import Verdict
from cubecast.overlay.cube import Cube
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
