"""What a lease tick does for running streams: which hosts are advised, asked to measure, or moved."""

import pytest

from cubecast.engine.directory import events as d
from cubecast.engine.directory.config import DIRECTORY_DEFAULTS
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.protocol.records import SubscriptionRecord, Tree
from cubecast.overlay.cube import Cube
from cubecast.types import ChannelName, HostId
from tests.engine.directory.test_directory import CLIP, engine, joined

PUBLISHER, NEAR, FAR = HOSTS = tuple(map(HostId, ("p", "near", "far")))
FIRST = ChannelName("another")
DELAY_MS = {frozenset((PUBLISHER, NEAR)): 50.0, frozenset((NEAR, FAR)): 100.0, frozenset((PUBLISHER, FAR)): 60.0}
TICK_S = 1.0
PLANNED_S = DIRECTORY_DEFAULTS.planner.settle_s + 3 * TICK_S


def chain(hidden: HostId | None = None, before: Tree | None = None, tree: Tree = Tree.HYBRID) -> DirectoryEngine:
    """A stream that `far` receives through `near`, although it would be sooner without that detour.

    Args:
        hidden: a host that cannot be dialled.
        before: the tree of another channel that is announced first.
    """
    directory = engine(Cube(2, 2))
    for host in HOSTS:
        directory.handle(joined(host), 0.0)
    if hidden is not None:
        directory.handle(d.HostTested(hidden, reachable=False), 0.0)
    if before is not None:
        directory.handle(d.ChannelAnnounced(NEAR, FIRST, before), 0.0)
    directory.handle(d.ChannelAnnounced(PUBLISHER, CLIP, tree), 0.0)
    for host, path in ((NEAR, (PUBLISHER, NEAR)), (FAR, (PUBLISHER, NEAR, FAR))):
        report = SubscriptionRecord(CLIP, host, 1000.0, "receiving", 150.0, 150.0, path)
        directory.handle(d.SubscriptionReported(report), 0.0)
    return directory


def report_links(directory: DirectoryEngine) -> None:
    for host in HOSTS:
        links_ms = {other: DELAY_MS[frozenset((host, other))] for other in HOSTS if other != host}
        directory.handle(d.LinksReported(host, links_ms), 0.0)


def ticks(directory: DirectoryEngine, seconds: float = PLANNED_S) -> list[d.DirectoryEffect]:
    effects: list[d.DirectoryEffect] = []
    for tick in range(1, round(seconds / TICK_S) + 1):
        for host in HOSTS:
            directory.handle(d.HostRefreshed(host), tick * TICK_S)
        effects += directory.handle(d.LeaseTick(), tick * TICK_S)
    return effects


def advised(effects: list[d.DirectoryEffect]) -> list[tuple[HostId, ChannelName, HostId]]:
    return [(e.host, e.advice.channel, e.advice.parent.host) for e in effects if isinstance(e, d.Advise)]


@pytest.mark.parametrize("before", [None, *Tree])
def test_a_host_of_a_hybrid_tree_is_advised_to_leave_a_detour_whatever_other_channels_there_are(
    before: Tree | None,
) -> None:
    directory = chain(before=before)
    report_links(directory)
    assert advised(ticks(directory)) == [(FAR, CLIP, PUBLISHER)]


@pytest.mark.parametrize("tree", [Tree.CUBE, Tree.GRAFT])
def test_nobody_is_advised_where_the_cube_gives_the_parents(tree: Tree) -> None:
    directory = chain(tree=tree)
    report_links(directory)
    assert not advised(ticks(directory))


def test_delays_that_a_plan_needs_are_measured_first() -> None:
    directory = chain()
    asked = {
        frozenset((effect.host, record.host))
        for effect in ticks(directory)
        if isinstance(effect, d.AskProbes)
        for record in effect.others
    }
    assert asked
    assert asked <= set(DELAY_MS)


@pytest.mark.parametrize("hidden", [None, PUBLISHER])
def test_an_advised_parent_that_cannot_be_dialled_is_asked_to_dial(hidden: HostId | None) -> None:
    directory = chain(hidden)
    report_links(directory)
    effects = ticks(directory)
    assert advised(effects) == [(FAR, CLIP, PUBLISHER)]
    dials = [e for e in effects if isinstance(e, d.AskProbes) and e.host == PUBLISHER]
    assert [record.host for effect in dials for record in effect.others] == ([FAR] if hidden else [])


def late_over_the_cube(best_ms: float, state: str = "receiving", tree: Tree = Tree.CUBE) -> DirectoryEngine:
    """A subscriber at the far end of a cube whose delay to the publisher is short; all other delays are long."""
    directory = engine(Cube(2, 3))
    names = [HostId(f"h{seat:03b}") for seat in range(8)]
    near = {names[0], names[-1]}
    for name in names:
        directory.handle(joined(name, name.removeprefix("h")), 0.0)
    directory.handle(d.ChannelAnnounced(names[0], CLIP, tree), 0.0)
    for name in names:
        links_ms = {other: 10.0 if {name, other} == near else 100.0 for other in names if other != name}
        directory.handle(d.LinksReported(name, links_ms), 0.0)
    path = (names[0], names[-1])
    report = SubscriptionRecord(CLIP, names[-1], 50.0, state, best_ms=best_ms, path=path)
    directory.handle(d.SubscriptionReported(report), 0.0)
    return directory


def moved(effects: list[d.DirectoryEffect]) -> set[HostId]:
    return {effect.record.host for effect in effects if isinstance(effect, d.SaveHost)}


def test_of_the_subscribers_over_the_cube_only_those_whose_bound_is_broken_are_moved() -> None:
    assert HostId("h111") in moved(late_over_the_cube(300.0).handle(d.LeaseTick(), 1.0))
    for kept in (
        late_over_the_cube(50.0),
        late_over_the_cube(300.0, state="refused"),
        late_over_the_cube(300.0, tree=Tree.HYBRID),
    ):
        assert not moved(kept.handle(d.LeaseTick(), 1.0))


def test_a_subscriber_is_moved_past_others_whose_bounds_stay_kept() -> None:
    directory = late_over_the_cube(300.0)
    for host in (HostId("h001"), HostId("h110")):
        path = (HostId("h000"), host)
        report = SubscriptionRecord(CLIP, host, 5000.0, "receiving", best_ms=100.0, path=path)
        directory.handle(d.SubscriptionReported(report), 0.0)
    assert HostId("h111") in moved(directory.handle(d.LeaseTick(), 1.0))


def test_a_late_subscriber_of_a_hybrid_tree_does_not_keep_one_over_the_cube_from_being_moved() -> None:
    directory = late_over_the_cube(300.0)
    other, late = HostId("h011"), HostId("h101")  # looked at before the one over the cube
    directory.handle(d.ChannelAnnounced(other, FIRST, Tree.HYBRID), 0.0)
    report = SubscriptionRecord(FIRST, late, 5.0, "receiving", best_ms=300.0, path=(other, late))
    directory.handle(d.SubscriptionReported(report), 0.0)
    assert HostId("h111") in moved(directory.handle(d.LeaseTick(), 1.0))
