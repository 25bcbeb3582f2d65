"""Links of a host: who dials, heartbeats, suspicion, and dialling again."""

import numpy as np

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT
from cubecast.engine.host.engine import HostEngine
from cubecast.engine.protocol.messages import (
    CARRIED_MAX,
    Carried,
    Ended,
    Goodbye,
    Heartbeat,
    Hello,
    Ping,
    Pong,
    Relatives,
)
from cubecast.engine.protocol.path import PathMetrics
from cubecast.engine.protocol.records import HostRecord, Neighbour, Placement
from cubecast.overlay.cube import Cube
from cubecast.overlay.routing import Policy
from cubecast.types import ChannelName, HostId, Label
from tests.engine.host.scripted import ME, PUBLISHER, ScriptedHost, record
from tests.engine.host.test_subscribe import ready
from tests.engine.in_memory import CHANNEL, Overlay, random_delays


def test_of_two_neighbours_one_dials_and_both_measure() -> None:
    overlay = Overlay(random_delays(8, 1), Cube(2, 3))
    overlay.run(3)
    assert all(engine.ready() for engine in overlay.engines.values())
    overlay.run(15)  # links that were needed only before all had joined are closed
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
    for tick in range(300):
        effects = engine.handle(ev.Tick(), overlay.now + tick * DEFAULT.tick_s)
        suspected += [tick for e in effects if e == fx.Suspect(second)]
        for effect in effects:
            if isinstance(effect, fx.Dial):
                dials += 1
                engine.handle(ev.LinkDown(second, "no answer"), overlay.now)
    links = DEFAULT.links
    assert suspected[0] <= links.slow_heartbeat_ticks + links.late_ticks + links.unanswered_ticks
    assert len(suspected) == 1
    assert 3 <= dials <= 12, "it is tried again, and with growing pauses"


def test_a_ping_is_answered_with_both_clocks() -> None:
    overlay = Overlay(random_delays(2, 1), Cube(2, 1))
    overlay.run(3)
    first, second = overlay.names
    effects = overlay.hosts[first].engine.handle(ev.Received(second, Ping(5.0)), 9.0)
    assert effects == [fx.Send(second, Pong(5.0, 9.0))]


def test_messages_of_unknown_hosts_are_ignored() -> None:
    overlay = Overlay(random_delays(2, 1), Cube(2, 1))
    overlay.run(3)
    assert overlay.hosts[overlay.names[0]].engine.handle(ev.Received(HostId("nobody"), Ping(5.0)), 9.0) == []


def test_a_link_is_kept_while_either_end_needs_it() -> None:
    overlay = Overlay(random_delays(6, 1), Cube(2, 3))
    overlay.run(3)
    host = overlay.names[0]
    engine = overlay.engines[host]
    other = next(h for h in overlay.names[1:] if h not in engine.view().neighbours)
    record = overlay.directory.members[other].record
    for wanted in ((record,), ()):
        for effect in engine._neighbourhood.want_links("a test", wanted):
            overlay.shell.perform(overlay.hosts[host], effect)
        overlay.run(30)
        linked = {link.host for link in engine.view().links if link.up}
        assert (other in linked) == bool(wanted), "the link exists while it is wanted"
        assert (host in overlay.hosts[other].dialled) == bool(wanted)


def test_no_host_is_considered_late_where_nothing_is_lost() -> None:
    overlay = ready(12, 168)
    for index in range(1, 12):
        overlay.subscribe(index, 5.0)  # mostly refused
        overlay.run(0.1)
        overlay.subscribe(index, 1e6)
        overlay.run(0.1)
        overlay.handle(overlay.names[index], ev.UnsubscribeRequested(CHANNEL))
        for _ in range(30):  # heartbeats become slow on a link that no longer carries a stream
            overlay.run(DEFAULT.tick_s)
            for engine in overlay.engines.values():
                up = [link.host for link in engine.view().links if link.up]
                assert not [
                    host for host in up if engine._neighbourhood.links.is_overdue(host, DEFAULT.failure.silent_ticks)
                ]


def test_a_host_dials_neighbours_with_a_greater_name_at_once_and_no_others() -> None:
    host = ScriptedHost()
    host.run(10)
    assert not host.done(fx.Dial), "its two neighbours dial it"
    greater, lesser = (HostRecord(HostId(name), f"{name}:1", "", "", Label(0)) for name in ("z", "c"))
    for version, new in ((2, greater), (3, lesser)):
        neighbours = (Neighbour(Label(1), record(HostId("a"))), Neighbour(Label(2), new))
        effects = host.handle(ev.Placed(Placement(version, 0, 2, 2, record(ME), (Label(3),), neighbours)))
        assert [effect.record for effect in effects if isinstance(effect, fx.Dial)] == [greater] * (new == greater)
    host.run(10)
    assert [effect.record for effect in host.done(fx.Dial)] == [greater], "one dial is under way until it is answered"


def test_a_host_that_leaves_is_hung_up_on_and_not_suspected() -> None:
    host, gone = ScriptedHost(), HostId("a")
    host.peers[gone].alive = False
    assert fx.HangUp(gone) in host.receive(gone, Goodbye())
    host.run(2 * (DEFAULT.links.slow_heartbeat_ticks + DEFAULT.links.unanswered_ticks))
    assert not host.done(fx.Suspect)


def test_a_link_is_closed_once_neither_end_has_needed_it_for_long_enough() -> None:
    host, stranger = ScriptedHost(), HostId("x")
    host.handle(ev.LinkUp(stranger))
    host.receive(stranger, Heartbeat(needs=True))
    for _ in range(2 * DEFAULT.links.unneeded_ticks):
        host.run(1)
        host.receive(stranger, Heartbeat(needs=True))
    assert not host.done(fx.HangUp)
    for _ in range(DEFAULT.links.unneeded_ticks):
        assert not host.done(fx.HangUp)
        host.receive(stranger, Heartbeat(needs=False))
        host.run(1)
    assert host.done(fx.HangUp) == [fx.HangUp(stranger)]


def test_a_link_opened_to_be_measured_stays_until_the_directory_has_the_result_and_no_longer() -> None:
    host, measured = ScriptedHost(), HostRecord(HostId("x"), "x:1", "", "", Label(0))
    assert host.handle(ev.ProbesWanted((measured,))) == [fx.Dial(measured)]
    host.handle(ev.LinkUp(measured.host))
    for sample in range(DEFAULT.links.samples_ready):
        host.handle(ev.LinkSampled(measured.host, 40.0, 0, 0))
        assert (measured.host in host.engine.links_ms()) == (sample + 1 == DEFAULT.links.samples_ready)
        host.receive(measured.host, Heartbeat())
        host.run(1)
    for _ in range(DEFAULT.links.measured_ticks - 2):
        host.receive(measured.host, Heartbeat())
        host.run(1)
    assert not host.done(fx.HangUp)
    host.run(2)
    assert host.done(fx.HangUp) == [fx.HangUp(measured.host)]


def test_a_host_that_cannot_be_measured_is_not_dialled_for_ever() -> None:
    host, absent = ScriptedHost(), HostRecord(HostId("x"), "x:1", "", "", Label(0))
    host.handle(ev.ProbesWanted((absent,)))
    answered = 0

    def dials_within(ticks: int) -> int:
        nonlocal answered
        before = answered
        for _ in range(ticks):
            if len(host.done(fx.Dial)) > answered:
                answered += 1
                host.handle(ev.LinkDown(absent.host, "no answer"))
            host.run(1)
        return answered - before

    assert dials_within(DEFAULT.links.measure_ticks) > 1
    assert dials_within(4 * max(DEFAULT.links.redial_ticks)) == 0


def test_a_neighbour_hears_that_this_host_has_moved() -> None:
    host = ScriptedHost()
    period = DEFAULT.links.slow_heartbeat_ticks
    host.run(10 * period)
    moved = HostRecord(ME, "elsewhere:1", "", "", Label(0))
    neighbours = tuple(Neighbour(record(peer).seat, record(peer)) for peer in host.peers)
    host.handle(ev.Placed(Placement(2, 0, 2, 2, moved, (Label(0),), neighbours)))
    host.run(period)
    for peer in host.peers:
        hellos = host.sent_to(peer, Hello)
        assert hellos[-1].record == moved
        assert len(hellos) <= DEFAULT.links.hello_heartbeats + 2, (
            "the first of them when the link came up, the last now"
        )


def test_the_link_to_a_parent_is_kept_wherever_the_parent_is_in_the_cube() -> None:
    host = ScriptedHost()
    host.subscribe()
    parent = host.parent
    assert parent is not None
    host.handle(ev.Placed(Placement(2, 0, 2, 2, record(ME), (Label(3),), ())))
    for peer in host.peers.values():
        peer.needs = False
    host.run(3 * DEFAULT.links.unneeded_ticks)
    assert host.parent == parent
    assert fx.HangUp(parent) not in host.done(fx.HangUp)


def test_probes_that_arrive_meanwhile_do_not_make_a_host_wait_longer_for_one_that_is_absent() -> None:
    host = ScriptedHost()
    absent = HostRecord(HostId("x"), "x:1", "", "", Label(0))
    host.handle(ev.ProbesWanted((absent,)))
    near = host.engine._neighbourhood
    for number in range(4):
        assert absent.host in near.wanted_hosts("probes")
        later = HostRecord(HostId(f"y{number}"), "y:1", "", "", Label(0))
        host.handle(ev.ProbesWanted((later,)))
        host.run(DEFAULT.links.measure_ticks // 4)
    assert absent.host not in near.wanted_hosts("probes")
    assert near.wanted_hosts("probes"), "the last ones have their own time"


def test_the_record_of_a_host_that_restarts_elsewhere_is_what_the_host_itself_says() -> None:
    host, moved = ScriptedHost(), HostRecord(HostId("a"), "elsewhere:1", "f", "", Label(1))
    host.receive(HostId("b"), Hello(moved))
    assert host.engine._neighbourhood.links.record(HostId("a")) == record(HostId("a")), "no other can say it"
    host.receive(HostId("a"), Hello(moved))
    assert host.engine._neighbourhood.links.record(HostId("a")) == moved


def test_a_link_that_is_hung_up_counts_as_one_failure_although_the_transport_reports_its_end_too() -> None:
    host, peer = ScriptedHost(), HostId("a")
    host.peers[peer].alive = False
    while not host.done(fx.HangUp):
        host.run(1)
    link = host.engine._neighbourhood.links[peer]
    assert link.failures == 1
    host.handle(ev.LinkDown(peer, "closed"))
    assert link.failures == 1


def carried(number: int, spare: int = 1) -> Carried:
    return Carried(ChannelName(f"c{number}"), PathMetrics(1.0, 0.0, (HostId("a"),)), spare)


def test_a_heartbeat_that_names_all_channels_replaces_what_was_announced() -> None:
    host, peer = ScriptedHost(), HostId("x")
    host.handle(ev.LinkUp(peer))
    host.receive(peer, Heartbeat((carried(0), carried(1))))
    host.receive(peer, Heartbeat((carried(1),)))
    assert set(host.engine._neighbourhood.links[peer].carried) == {ChannelName("c1")}


def test_channels_that_do_not_fit_into_one_heartbeat_are_remembered_until_their_next_turn_and_not_for_ever() -> None:
    host, peer = ScriptedHost(), HostId("x")
    host.handle(ev.LinkUp(peer))
    link, turns = host.engine._neighbourhood.links[peer], DEFAULT.links.carried_heartbeats
    first, second = ([carried(offset + n) for n in range(CARRIED_MAX)] for offset in (0, CARRIED_MAX))
    host.receive(peer, Heartbeat(tuple(first)))
    for _ in range(turns - 1):
        host.receive(peer, Heartbeat(tuple(second)))
        assert set(link.carried) == set(link.spare) == {each.channel for each in (*first, *second)}
    host.receive(peer, Heartbeat(tuple(second)))
    assert set(link.carried) == set(link.spare) == {each.channel for each in second}


def test_a_host_introduces_itself_on_every_new_link() -> None:
    host, stranger = ScriptedHost(), HostId("x")
    assert fx.Send(stranger, Hello(record(ME))) in host.handle(ev.LinkUp(stranger))


def test_while_a_stream_has_no_parent_hosts_out_of_reach_are_dialled_again_sooner() -> None:
    host, absent = ScriptedHost(), HostRecord(HostId("x"), "x:1", "", "", Label(0))
    host.subscribe()
    parent, failed = host.parent, 0
    assert parent is not None
    host.receive(parent, Relatives(CHANNEL, (absent,)))

    def fail() -> bool:
        """Whether a dial of the absent host was under way, which fails now."""
        nonlocal failed
        dialled = len([dial for dial in host.done(fx.Dial) if dial.record == absent]) > failed
        if dialled:
            failed += 1
            host.handle(ev.LinkDown(absent.host, "no answer"))
        return dialled

    while failed < len(DEFAULT.links.redial_ticks):
        fail()
        host.run(1)
    host.run(2 * DEFAULT.links.redial_soon_ticks)
    assert not fail(), "the pauses have grown"
    assert host.parent == parent
    host.receive(parent, Ended(CHANNEL, False, PUBLISHER, "it has gone"))
    for peer in host.peers.values():
        peer.alive = False
    host.run(DEFAULT.links.redial_soon_ticks + 1)
    assert fail()
    assert host.parent is None


def test_a_host_is_not_ready_before_the_directory_has_placed_it() -> None:
    engine = HostEngine(ME, Policy.GREEDY, 8, np.random.default_rng(0))
    assert not engine.ready()
    engine.handle(ev.Placed(Placement(1, 0, 2, 2, record(ME), (Label(3),), ())), 1.0)
    assert engine.ready(), "it is alone"
