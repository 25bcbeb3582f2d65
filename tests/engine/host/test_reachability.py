"""Properties of hidden hosts: they take part, and one never feeds another."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cubecast.engine.directory.events import HostTested
from cubecast.engine.host import effects as fx
from cubecast.engine.protocol.records import Tree
from cubecast.overlay.region import live_region
from tests.engine.in_memory import CHANNEL, Overlay, random_delays

NO_BOUND_MS = 100_000.0


def overlay_of(hosts: int, hidden: set[int], seed: int, fan_out: int = 8) -> Overlay:
    overlay = Overlay(random_delays(hosts, seed), live_region(hosts), seed=seed, hidden=hidden, fan_out=fan_out)
    overlay.run(6.0)
    return overlay


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 14), st.integers(0, 10_000), st.sampled_from(list(Tree)), st.data())
def test_all_receive_if_some_hosts_can_be_dialled(hosts: int, seed: int, tree: Tree, data: st.DataObject) -> None:
    hidden = data.draw(st.sets(st.integers(0, hosts - 1), max_size=hosts // 2))
    overlay = overlay_of(hosts, hidden, seed)
    overlay.publish(0, tree=tree)
    overlay.run(3.0)
    for index in range(1, hosts):
        outcome = overlay.subscribe(index, NO_BOUND_MS)
        assert isinstance(outcome, fx.Admitted), (sorted(hidden), index, outcome)
    overlay.run(5.0)
    assert not overlay.ended()
    assert all(overlay.flows(host, CHANNEL) for host in overlay.names)


def test_a_link_between_two_hidden_hosts_is_relayed_by_a_third() -> None:
    overlay = overlay_of(8, {1, 2, 3, 4}, 3)
    carried = 0
    for host in (overlay.names[index] for index in (1, 2, 3, 4)):
        placement = overlay.directory.placement(host)
        for near in placement.neighbours:
            if near.record.reachable:
                assert near.via is None
                continue
            carried += 1
            assert near.via is not None
            assert near.via.reachable
            other = overlay.directory.placement(near.record.host)
            assert near.via in [back.via for back in other.neighbours], "both ends know the same host between them"
            assert near.via.host in overlay.hosts[host].dialled
    assert carried


def test_two_hidden_hosts_alone_get_the_reason_why_there_is_no_path() -> None:
    overlay = overlay_of(2, {0, 1}, 1)
    overlay.publish(0, tree=Tree.CUBE)
    overlay.run(2.0)
    refused = overlay.subscribe(1, NO_BOUND_MS)
    assert isinstance(refused, fx.Refused)
    assert "a reachable host must join" in refused.reason


@settings(max_examples=10, deadline=None)
@given(st.integers(6, 14), st.integers(0, 10_000), st.data())
def test_a_dead_parent_is_replaced_among_hidden_hosts_too(hosts: int, seed: int, data: st.DataObject) -> None:
    hidden = data.draw(st.sets(st.integers(1, hosts - 1), min_size=1, max_size=hosts // 3))
    overlay = overlay_of(hosts, hidden, seed, fan_out=3)
    overlay.publish(0)
    for index in range(1, hosts):
        overlay.subscribe(index, NO_BOUND_MS)
    overlay.run(5.0)
    relays = {e.upstream(CHANNEL) for e in overlay.engines.values()} - {overlay.names[0], None}
    victims = sorted(relays, key=str)
    assume(victims)
    victim = data.draw(st.sampled_from(victims))
    assert victim is not None
    overlay.crash(victim)
    overlay.run(15.0)
    living = [host for host in overlay.names if host != victim]
    ended = overlay.ended()
    assert all(overlay.flows(host, CHANNEL) for host in living if host not in ended)
    assert not ended


def test_a_host_that_becomes_reachable_is_dialled() -> None:
    overlay = overlay_of(6, {2}, 5)
    assert not overlay.directory.members[overlay.names[2]].record.reachable
    overlay.hidden.clear()
    overlay.supernode.send(HostTested(overlay.names[2], reachable=True))
    overlay.run(1.0)
    known = [n.record for e in overlay.engines.values() for n in (e.placement.neighbours if e.placement else ())]
    assert all(record.reachable for record in known)


def test_nobody_is_sent_the_address_of_a_hidden_host_and_its_links_remain_when_it_becomes_hidden() -> None:
    overlay = overlay_of(6, {2}, 5)
    overlay.run(1.0)
    host = overlay.names[4]

    def sessions() -> dict[str, object]:
        """Of each host that has a working link to this one, what it has measured since the link came up."""
        links = {name: engine._neighbourhood.links.get(host) for name, engine in overlay.engines.items()}
        return {name: link.estimate for name, link in links.items() if link is not None and link.up}

    before = sessions()
    assert before
    overlay.supernode.send(HostTested(host, reachable=False))
    overlay.run(1.0)
    records = [n.record for e in overlay.engines.values() for n in (e.placement.neighbours if e.placement else ())]
    assert {record.host for record in records if not record.address} == {overlay.names[2], host}
    assert all(record.reachable == bool(record.address) for record in records)
    assert all(sessions().get(name) is estimate for name, estimate in before.items())
