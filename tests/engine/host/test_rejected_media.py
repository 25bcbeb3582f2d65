"""A parent from which media came that is not the publisher's is left at once, and avoided for a while."""

import pytest

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT
from cubecast.engine.host.tree.shunned import Shunned
from cubecast.engine.protocol import messages as m
from cubecast.engine.protocol.records import Advice
from cubecast.types import ChannelName, HostId
from tests.engine.host.scripted import CHANNEL, PUBLISHER, ScriptedHost, record

BLAME, SHUN = DEFAULT.tree.blame_ticks, DEFAULT.tree.rejected_ticks
LEFT_TICKS = round(2.0 / DEFAULT.tick_s)


def receiving() -> tuple[ScriptedHost, HostId, HostId]:
    """A host that has had its parent for a while, that parent, and the other neighbour, which is worse."""
    host = ScriptedHost()
    host.subscribe()
    assert host.parent is not None
    host.peers[host.other()].delay_ms += 20
    host.run(BLAME)
    return host, host.parent, host.other()


def test_the_parent_is_left_within_two_seconds_and_not_taken_again_while_it_is_shunned() -> None:
    host, bad, good = receiving()
    before = host.ticks
    effects = host.handle(ev.MediaRejected(CHANNEL, bad, "altered"))
    assert fx.StopPull(CHANNEL, bad) in effects, "its media no longer flows"
    assert m.Release(CHANNEL) in host.sent_to(bad, m.Release)
    host.run(LEFT_TICKS)
    assert host.parent == good
    assert "not the publisher's (altered)" in host.parent_changes[-1].reason
    host.peers[good].delay_ms = 400.0  # much worse than the one that is shunned
    host.handle(ev.Advised(Advice(CHANNEL, record(bad))))
    host.run(SHUN - 2 * LEFT_TICKS)
    assert host.parent == good
    assert not [tick for tick in host.asked(bad) if tick > before and host.parent != good]
    host.run(4 * LEFT_TICKS + DEFAULT.switching.return_ticks)
    assert host.parent == bad, "the fault may have been further up: it is not for good"


def test_a_host_below_the_shunned_one_is_not_taken_either() -> None:
    host, bad, other = receiving()
    host.peers[other].above = (PUBLISHER, bad)
    host.run(3)
    host.handle(ev.MediaRejected(CHANNEL, bad, "altered"))
    host.run(LEFT_TICKS)
    assert host.parent is None
    host.peers[other].above = (PUBLISHER,)
    host.run(DEFAULT.search.search_ticks)  # the search under way has asked over the cube, where nobody answers
    assert host.parent == other


def test_without_another_parent_the_stream_ends_and_its_subscriber_reads_why() -> None:
    host, bad, other = receiving()
    host.peers[other].alive = False
    host.handle(ev.MediaRejected(CHANNEL, bad, "unsigned"))
    host.run(DEFAULT.tree.repair_ticks + 5)
    (ended,) = host.done(fx.StreamEnded)
    assert ended == fx.StreamEnded(CHANNEL, False, bad, "media from it is not the publisher's (unsigned)")


def test_an_offer_over_the_shunned_host_is_declined() -> None:
    host, bad, other = receiving()
    host.peers[other].above, host.peers[other].offers = (PUBLISHER, bad), True
    host.handle(ev.MediaRejected(CHANNEL, bad, "altered"))
    before = len(host.sent_to(bad, m.PathRequest))
    host.run(LEFT_TICKS)
    assert host.parent is None
    assert len(host.sent_to(bad, m.PathRequest)) == before, "nor is it asked for a way over the cube"


@pytest.mark.parametrize("ticks", range(0, BLAME - 1, 3))
def test_a_new_parent_is_not_blamed_for_what_is_left_of_the_former_one(ticks: int) -> None:
    host, bad, good = receiving()
    host.handle(ev.MediaRejected(CHANNEL, bad, "altered"))
    while host.parent is None:
        host.run(1)
    host.run(ticks)
    host.handle(ev.MediaRejected(CHANNEL, good, "altered"))
    assert host.parent == good


def test_a_host_that_is_not_the_parent_is_not_blamed() -> None:
    host, parent, other = receiving()
    assert host.handle(ev.MediaRejected(CHANNEL, other, "altered")) == []
    assert host.handle(ev.MediaRejected(ChannelName("other"), parent, "altered")) == []
    assert host.parent == parent


def test_of_too_many_shunned_hosts_the_first_is_forgotten() -> None:
    shunned, most = Shunned(DEFAULT.tree, DEFAULT.tick_s), DEFAULT.tree.rejected_max
    hosts = [HostId(f"h{n}") for n in range(most + 1)]
    for host in hosts:
        shunned.add(CHANNEL, host, 0.0)
    assert [shunned.on(CHANNEL, (host,), 1.0) for host in hosts] == [False] + [True] * most
    assert not shunned.on(ChannelName("other"), hosts, 1.0)
    assert not shunned.on(CHANNEL, hosts, SHUN * DEFAULT.tick_s)
