"""Properties of the directory: seats, placements, channels, leases."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.engine.directory import events as d
from cubecast.engine.directory.config import DIRECTORY_DEFAULTS
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.protocol.records import FAN_OUT_MAX, SubscriptionRecord, Tree
from cubecast.errors import DirectoryError, UsageError
from cubecast.overlay.cube import Cube, format_label, label_count, neighbours
from cubecast.simulation.invariants import broken_labels
from cubecast.types import ChannelName, HostId, Label
from tests.strategies import cubes

CLIP = ChannelName("clip")
LEASE_S, SUSPECT_LEASE_S = DIRECTORY_DEFAULTS.lease.lease_s, DIRECTORY_DEFAULTS.lease.suspect_lease_s
SHRINK_S = DIRECTORY_DEFAULTS.shape.shrink_after_s
CHANNELS_MAX = DIRECTORY_DEFAULTS.channels.channels_per_host_max
SUBSCRIPTIONS_MAX = DIRECTORY_DEFAULTS.channels.subscriptions_per_host_max


def engine(cube: Cube = Cube(2, 4), seed: int = 1) -> DirectoryEngine:  # noqa: B008  an immutable value
    return DirectoryEngine(cube, np.random.default_rng(seed))


def joined(host: str, seat: str = "") -> d.HostJoined:
    return d.HostJoined(HostId(host), f"{host}.example:4443", "f" * 64, f"key of {host}", 8, seat)


def assert_placements_hold(directory: DirectoryEngine) -> None:
    """Every label has one carrier, and each host's neighbours are the carriers of the labels beside its own."""
    carrier: dict[Label, HostId] = {}
    for host in directory.members:
        for label in directory.placement(host).labels:
            assert label not in carrier
            carrier[label] = host
    if directory.members:
        assert len(carrier) == label_count(directory.cube)
    for host in directory.members:
        placement = directory.placement(host)
        around = {near for label in placement.labels for near in neighbours(directory.cube, label)}
        expected = {(near, carrier[near]) for near in around if carrier[near] != host}
        assert {(n.label, n.record.host) for n in placement.neighbours} == expected


@given(cubes(labels_max=64), st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=40))
def test_each_label_has_one_carrier_whichever_hosts_join_and_leave(cube: Cube, moves: list[tuple[bool, int]]) -> None:
    directory = engine(cube)
    for now, (joins, number) in enumerate(moves):
        host = HostId(f"h{number}")
        if joins and host not in directory.members and len(directory.members) == label_count(cube):
            continue  # full: another test
        directory.handle(joined(host) if joins else d.HostLeft(host), float(now))
        assert_placements_hold(directory)


@given(st.sampled_from([Cube(2, 3), Cube(2, 5), Cube(4, 2), Cube(3, 3)]), st.integers(0, 10_000))
def test_few_hosts_on_many_labels_hold_each_of_them_once(cube: Cube, seed: int) -> None:
    rng, directory = np.random.default_rng(seed), engine(cube, seed)
    for now in range(40):
        host = HostId(f"h{rng.integers(8)}")
        directory.handle(d.HostLeft(host) if host in directory.members else joined(host), float(now))
        assert_placements_hold(directory)


def test_versions_rise_over_a_restart_so_that_hosts_accept_the_new_super_node() -> None:
    first = engine()
    first.handle(joined("a"), 100.0)
    before = first.placement(HostId("a")).version
    second = engine()
    second.restore(
        (first.cube, first.epoch), [m.record for m in first.members.values()], first.channels.values(), 100.5
    )
    assert second.placement(HostId("a")).version > before


def test_a_requested_label_is_given_once() -> None:
    directory = engine()
    directory.handle(joined("a", "0110"), 0.0)
    assert format_label(directory.cube, directory.placement(HostId("a")).seat) == "0110"
    with pytest.raises(DirectoryError, match="taken"):
        directory.handle(joined("b", "0110"), 0.0)


SMALL_CUBES = st.sampled_from([Cube(2, 1), Cube(2, 2), Cube(3, 1), Cube(3, 2)])


def assert_channel_follows_its_publisher(directory: DirectoryEngine) -> None:
    record = directory.channels[CLIP]
    seat = directory.members[record.publisher].record.seat
    assert (record.seat, record.epoch) == (seat, directory.epoch)


def grown(first: Cube, hosts: int) -> DirectoryEngine:
    """A directory that has grown to hold some hosts, the first of which publishes a channel."""
    directory = engine(first)
    for number in range(hosts):
        directory.handle(joined(f"h{number}"), 0.0)
        if not number:
            directory.handle(d.ChannelAnnounced(HostId("h0"), CLIP), 0.0)
    return directory


@given(SMALL_CUBES, st.integers(2, 40))
def test_the_cube_changes_its_shape_when_it_is_full_and_only_then(first: Cube, hosts: int) -> None:
    directory = grown(first, 1)
    for number in range(1, hosts):
        cube, epoch = directory.cube, directory.epoch
        is_full = len(directory.members) == label_count(cube)
        effects = directory.handle(joined(f"h{number}"), 0.0)
        assert (directory.cube != cube, directory.epoch - epoch) == (is_full, int(is_full))
        assert not broken_labels(directory), "each host has a seat of its own"
        assert_channel_follows_its_publisher(directory)
        if is_full:
            assert d.SaveShape(directory.cube, directory.epoch) in effects
            pushed = [e.host for e in effects if isinstance(e, d.PushPlacement)]
            epochs = {host: directory.placement(host).epoch for host in pushed}
            assert epochs == dict.fromkeys(directory.members, directory.epoch), "every host is sent its new seat"


@given(SMALL_CUBES, st.integers(10, 40), st.integers(1, 9))
def test_the_cube_shrinks_once_it_was_too_large_for_long_enough_but_not_below_its_first_shape(
    first: Cube, most: int, remaining: int
) -> None:
    directory = grown(first, most)
    cube, epoch = directory.cube, directory.epoch
    for number in range(remaining, most):
        directory.handle(d.HostLeft(HostId(f"h{number}")), 0.0)
    left_at = 1.0
    for now in np.arange(left_at, left_at + SHRINK_S, 1.0).tolist():
        refresh_all(directory, now)
        directory.handle(d.LeaseTick(), now)
        assert (directory.cube, directory.epoch) == (cube, epoch), "hosts that left may come back"
    refresh_all(directory, left_at + SHRINK_S)
    directory.handle(d.LeaseTick(), left_at + SHRINK_S)
    assert directory.cube == first or label_count(first) <= label_count(directory.cube)
    assert max(remaining, label_count(first)) <= label_count(directory.cube) <= label_count(cube)
    assert directory.epoch - epoch == int(directory.cube != cube)
    assert not broken_labels(directory)
    assert_channel_follows_its_publisher(directory)


def test_a_cube_that_has_grown_by_one_host_returns_to_its_first_shape_without_it() -> None:
    directory = grown(Cube(2, 2), 5)
    assert directory.epoch == 1
    directory.handle(d.HostLeft(HostId("h4")), 1.0)
    directory.handle(d.LeaseTick(), 1.0)
    refresh_all(directory, 1.0 + SHRINK_S)
    effects = directory.handle(d.LeaseTick(), 1.0 + SHRINK_S)
    assert (directory.cube, directory.epoch) == (Cube(2, 2), 2)
    assert {e.host for e in effects if isinstance(e, d.PushPlacement)} == set(directory.members)


@given(cubes(labels_max=40))
def test_a_full_cube_keeps_its_shape_while_nobody_else_joins(first: Cube) -> None:
    directory = engine(first)
    for number in range(label_count(first)):
        directory.handle(joined(f"h{number}"), 0.0)
    for now in np.arange(0.0, 3 * SHRINK_S, 2.0).tolist():
        refresh_all(directory, now)
        directory.handle(d.LeaseTick(), now)
    assert (directory.cube, directory.epoch) == (first, 0)


def refresh_all(directory: DirectoryEngine, now: float) -> None:
    for host in directory.members:
        directory.handle(d.HostRefreshed(host), now)


def test_a_label_requested_of_the_shape_before_is_ignored_when_the_cube_grows() -> None:
    directory = engine(Cube(2, 2))
    for n in range(4):
        directory.handle(joined(f"h{n}"), 0.0)
    effects = directory.handle(joined("late", "00"), 1.0)
    assert directory.epoch == 1, "the label was one of the shape before"
    assert {e.host for e in effects if isinstance(e, d.PushPlacement)} == set(directory.members)
    assert not broken_labels(directory)


def test_a_host_that_joins_again_keeps_its_seat_and_another_cannot_take_its_name() -> None:
    directory = engine()
    directory.handle(joined("a"), 0.0)
    seat = directory.placement(HostId("a")).seat
    directory.handle(d.ChannelAnnounced(HostId("a"), CLIP), 0.5)
    directory.handle(joined("a"), 1.0)
    assert directory.placement(HostId("a")).seat == seat
    with pytest.raises(DirectoryError, match="the name a is taken"):
        directory.handle(d.HostJoined(HostId("a"), joined("a").address, "e" * 64, "another key", 8), 1.0)
    with pytest.raises(DirectoryError, match="already belongs to host a"):
        directory.handle(d.HostJoined(HostId("z"), joined("a").address, "f" * 64, "z", 8), 1.0)


def test_a_silent_host_is_removed_with_its_channels_sooner_when_suspected() -> None:
    directory = engine()
    for host in ("a", "b"):
        directory.handle(joined(host), 0.0)
    directory.handle(d.ChannelAnnounced(HostId("a"), CLIP), 0.0)
    directory.handle(d.HostRefreshed(HostId("b")), 3.0)
    directory.handle(d.HostSuspected(HostId("b"), HostId("a")), 3.0)
    directory.handle(d.HostRefreshed(HostId("b")), 4.0)  # it is alive
    directory.handle(d.HostSuspected(HostId("a"), HostId("b")), 3.5)
    effects = directory.handle(d.LeaseTick(), 3.5 + SUSPECT_LEASE_S + 0.1)
    assert d.DeleteHost(HostId("a")) in effects
    assert d.DeleteChannel(CLIP) in effects
    assert set(directory.members) == {HostId("b")}
    assert directory.placement(HostId("b")).labels == tuple(range(16))
    assert directory.handle(d.LeaseTick(), 4.0 + LEASE_S - 0.1) == []


def test_a_channel_belongs_to_its_publisher() -> None:
    directory = engine()
    for host in ("a", "b"):
        directory.handle(joined(host), 0.0)
    directory.handle(d.ChannelAnnounced(HostId("a"), CLIP), 0.0)
    with pytest.raises(DirectoryError, match="already published by host a"):
        directory.handle(d.ChannelAnnounced(HostId("b"), CLIP), 0.0)
    assert directory.handle(d.ChannelWithdrawn(HostId("b"), CLIP), 0.0) == []
    assert directory.handle(d.ChannelWithdrawn(HostId("a"), CLIP), 0.0) == [d.DeleteChannel(CLIP)]


def test_a_host_that_has_not_joined_is_asked_to() -> None:
    directory = engine()
    for event in (d.HostRefreshed(HostId("x")), d.ChannelAnnounced(HostId("x"), CLIP)):
        with pytest.raises(DirectoryError, match="join again"):
            directory.handle(event, 0.0)


def test_only_a_neighbour_can_report_a_host_as_silent() -> None:
    directory = engine(Cube(2, 3))
    for host, seat in (("a", "000"), ("b", "001"), ("far", "111"), ("c", "010"), ("e", "100"), ("f", "110")):
        directory.handle(joined(host, seat), 0.0)
    directory.handle(d.HostSuspected(HostId("a"), HostId("far")), 0.0)
    assert directory.handle(d.LeaseTick(), SUSPECT_LEASE_S + 0.1) == []
    directory.handle(d.HostSuspected(HostId("a"), HostId("b")), 0.0)
    assert d.DeleteHost(HostId("a")) in directory.handle(d.LeaseTick(), SUSPECT_LEASE_S + 0.1)


def test_a_host_stays_a_member_to_the_last_moment_of_its_lease() -> None:
    directory = engine()
    directory.handle(joined("a"), 0.0)
    assert directory.handle(d.LeaseTick(), LEASE_S) == []
    directory.handle(d.HostRefreshed(HostId("a")), LEASE_S)
    assert directory.handle(d.LeaseTick(), 2 * LEASE_S) == [], "it has renewed its lease in time"
    assert d.DeleteHost(HostId("a")) in directory.handle(d.LeaseTick(), 2 * LEASE_S + 0.1)


def test_a_shape_with_too_many_labels_is_refused() -> None:
    with pytest.raises(UsageError, match="the maximum of a live overlay"):
        engine(Cube(2, 26))


def test_limits_hold() -> None:
    directory = engine()
    directory.handle(joined("a"), 0.0)
    for n in range(CHANNELS_MAX):
        directory.handle(d.ChannelAnnounced(HostId("a"), ChannelName(f"c{n}")), 0.0)
    with pytest.raises(DirectoryError, match="already publishes"):
        directory.handle(d.ChannelAnnounced(HostId("a"), ChannelName("more")), 0.0)
    renewed = directory.handle(d.ChannelAnnounced(HostId("a"), ChannelName("c0"), Tree.CUBE), 0.0)
    assert d.SaveChannel(directory.channels[ChannelName("c0")]) in renewed, "those it has are renewed"
    assert directory.channels[ChannelName("c0")].tree is Tree.CUBE
    for n in range(SUBSCRIPTIONS_MAX + 5):
        line = SubscriptionRecord(ChannelName(f"c{n}"), HostId("a"), 100.0, "searching")
        directory.handle(d.SubscriptionReported(line), 0.0)
    assert len(directory.subscriptions()) == SUBSCRIPTIONS_MAX
    with pytest.raises(DirectoryError, match="fan-out"):
        directory.handle(d.HostJoined(HostId("b"), "10.0.0.2:1", "f" * 64, "b", -1), 0.0)


@pytest.mark.parametrize("tree", Tree)
def test_parents_are_proposed_for_hybrid_trees_only(tree: Tree) -> None:
    directory = engine()
    for host in ("p", "a", "b"):
        directory.handle(joined(host), 0.0)
    assert directory.proposals(HostId("b"), CLIP) == (), "it is not announced"
    directory.handle(d.ChannelAnnounced(HostId("p"), CLIP, tree), 0.0)
    path = (HostId("p"), HostId("a"))
    report = SubscriptionRecord(CLIP, HostId("a"), 100.0, "receiving", 10.0, 10.0, path)
    directory.handle(d.SubscriptionReported(report), 0.0)
    proposed = {record.host for record in directory.proposals(HostId("b"), CLIP)}
    assert proposed == ({"p", "a"} if tree is Tree.HYBRID else set())


def test_the_greatest_fan_out_is_accepted_and_one_more_is_not() -> None:
    directory = engine()
    directory.handle(replace(joined("a"), fan_out=int(str(FAN_OUT_MAX))), 0.0)
    assert directory.members[HostId("a")].record.fan_out == FAN_OUT_MAX
    with pytest.raises(DirectoryError, match="fan-out"):
        directory.handle(replace(joined("b"), fan_out=FAN_OUT_MAX + 1), 0.0)


def test_two_hosts_cannot_share_a_name_however_their_keys_compare() -> None:
    for key in ("0", "z"):
        directory = engine()
        directory.handle(joined("m"), 0.0)
        with pytest.raises(DirectoryError, match="the name m is taken"):
            directory.handle(replace(joined("m"), key=key), 0.0)


@pytest.mark.parametrize("hidden", [set(), {"a"}, {"b"}, {"a", "b"}])
def test_a_third_host_relays_between_two_neighbours_only_where_neither_can_be_dialled(hidden: set[str]) -> None:
    directory = engine(Cube(2, 2))
    for host, seat in (("a", "00"), ("b", "01"), ("c", "10"), ("e", "11")):
        directory.handle(joined(host, seat), 0.0)
    for host in hidden:
        directory.handle(d.HostTested(HostId(host), reachable=False), 0.0)
    for host, other in (("a", "b"), ("b", "a")):
        (near,) = (n for n in directory.placement(HostId(host)).neighbours if n.record.host == other)
        assert (near.via is not None) == (len(hidden) == 2)
        assert near.first.reachable or other in hidden


@pytest.mark.parametrize("label", ["0150", "011", "west"])
def test_a_requested_label_that_the_cube_does_not_have_is_refused_with_the_reason(label: str) -> None:
    directory = engine()
    with pytest.raises(DirectoryError, match=label):
        directory.handle(joined("a", label), 0.0)
    assert HostId("a") not in directory.members


def test_a_host_restored_with_more_channels_than_the_limit_may_not_announce_another_one() -> None:
    """The limit may have been lowered before the restart."""
    before = engine()
    before.handle(joined("a"), 0.0)
    before.handle(d.ChannelAnnounced(HostId("a"), CLIP), 0.0)
    stored = [replace(before.channels[CLIP], channel=ChannelName(f"c{n}")) for n in range(CHANNELS_MAX + 1)]
    directory = engine()
    directory.restore((before.cube, before.epoch), [m.record for m in before.members.values()], stored, 1.0)
    with pytest.raises(DirectoryError, match="already publishes"):
        directory.handle(d.ChannelAnnounced(HostId("a"), ChannelName("more")), 1.0)
