"""Links of a host: who dials, heartbeats, suspicion, and dialling again."""

from cubecast.engine import effects as fx
from cubecast.engine import events as ev
from cubecast.engine.membership import SUSPECT_TICKS, TICK_S
from cubecast.engine.messages import Ping, Pong
from cubecast.overlay.cube import Cube
from cubecast.types import HostId
from tests.engine.in_memory import Overlay, random_delays


def test_of_two_neighbours_one_dials_and_both_measure() -> None:
    overlay = Overlay(random_delays(8, 1), Cube(2, 3))
    overlay.run(3)
    assert all(engine.ready() for engine in overlay.engines.values())
    overlay.run(15)  # links of the time before everyone had joined are let go
    for host, engine in overlay.engines.items():
        view = engine.view()
        assert tuple(link.host for link in view.links if link.up) == view.neighbours
        for link in view.links:
            assert link.one_way_ms is not None
            assert abs(link.one_way_ms - 1000 * overlay.delay_s(host, link.host)) < 0.1


def test_a_silent_neighbour_is_suspected_after_its_ticks_and_dialled_again() -> None:
    overlay = Overlay(random_delays(2, 1), Cube(2, 1))
    overlay.run(3)
    first, second = overlay.names
    engine = overlay.hosts[first].engine
    overlay.crash(overlay.names[1])
    suspected, dials = [], 0
    for tick in range(20 * SUSPECT_TICKS):
        effects = engine.handle(ev.Tick(), overlay.now + tick * TICK_S)
        suspected += [tick for e in effects if e == fx.Suspect(second)]
        for effect in effects:
            if isinstance(effect, fx.Dial):
                dials += 1
                engine.handle(ev.LinkDown(second, "no answer"), overlay.now)
    assert suspected[0] < SUSPECT_TICKS
    assert len(suspected) == 1
    assert 3 <= dials <= 12, "it is tried again, and with growing pauses"


def test_a_ping_is_answered_with_both_clocks() -> None:
    overlay = Overlay(random_delays(2, 1), Cube(2, 1))
    overlay.run(3)
    first, second = overlay.names
    effects = overlay.hosts[first].engine.handle(ev.Received(second, Ping(5.0)), 9.0)
    assert effects == [fx.Send(second, Pong(5.0, 9.0))]


def test_messages_of_strangers_are_ignored() -> None:
    overlay = Overlay(random_delays(2, 1), Cube(2, 1))
    overlay.run(3)
    assert overlay.hosts[overlay.names[0]].engine.handle(ev.Received(HostId("nobody"), Ping(5.0)), 9.0) == []


def test_a_link_to_a_host_that_is_no_neighbour_any_more_is_let_go() -> None:
    overlay = Overlay(random_delays(3, 1), Cube(2, 2))
    overlay.run(3)
    stranger = HostId("zz")
    host = overlay.names[0]
    overlay.handle(host, ev.LinkUp(stranger))
    hung_up = []
    for _ in range(100):
        overlay.handle(host, ev.Received(stranger, Pong(0.0, 0.0)))
        hung_up += [e for e in overlay.hosts[host].engine.handle(ev.Tick(), overlay.now) if e == fx.HangUp(stranger)]
    assert len(hung_up) == 1
