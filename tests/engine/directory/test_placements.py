"""Properties of placements: which hosts are marked, and that what they read is what a computation from nothing gives."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cubecast.engine.directory import events as d
from cubecast.engine.directory.cube.placements import Placements
from cubecast.engine.protocol.records import HostRecord, Placement
from cubecast.overlay.cube import Cube, label_count
from cubecast.types import HostId, Label
from tests.engine.directory.test_directory import engine, joined
from tests.strategies import cubes


def from_scratch(cube: Cube, epoch: int, records: Iterable[HostRecord]) -> dict[HostId, Placement]:
    """The placements of some hosts, computed from nothing."""
    placements = Placements(cube, epoch, records)
    return {host: placements.placement(host) for host in placements.mark_changed(0)}


@given(cubes(labels_max=64), st.integers(0, 10_000))
def test_the_hosts_whose_placements_differ_are_marked_and_no_others(cube: Cube, seed: int) -> None:
    rng, placements = np.random.default_rng(seed), Placements(cube)
    free = [Label(seat) for seat in rng.permutation(label_count(cube)).tolist()]
    records: dict[HostId, HostRecord] = {}
    known: dict[HostId, Placement] = {}
    for step in range(1, 21):
        leaves = bool(records) and (not free or rng.random() < 0.3)
        if leaves:
            gone = records.pop(sorted(records)[rng.integers(len(records))])
            placements.remove(gone.host)
            free.append(gone.seat)
        else:
            host = HostId(f"h{step}")
            records[host] = HostRecord(host, "", "", "", free.pop(0))
            placements.put(records[host])
        if not records:
            continue
        every = from_scratch(cube, 0, records.values())
        marked = placements.mark_changed(step)
        assert sorted(marked) == sorted(host for host, placement in every.items() if known.get(host) != placement)
        assert all(placements.placement(host).version == step for host in marked)
        assert all(placements.placement(host).says_the_same(every[host]) for host in every)
        known = every


@given(st.sampled_from([Cube(2, 2), Cube(3, 2), Cube(2, 4), Cube(5, 1)]), st.integers(0, 10_000))
def test_what_each_host_was_pushed_last_is_its_placement_whenever_the_pushes_are_read(cube: Cube, seed: int) -> None:
    """Hosts join, leave, swap, become hidden; the cube grows; pushes wait for a while, and are read in any order."""
    rng, directory = np.random.default_rng(seed), engine(cube, seed)
    waiting: set[HostId] = set()
    received: dict[HostId, Placement] = {}

    def read(host: HostId) -> None:
        placement, before = directory.placement(host), received.get(host)
        if before is not None:
            assert (placement.version > before.version) == (not placement.says_the_same(before))
            assert placement.version >= before.version
        received[host] = placement

    for step in range(40):
        members = sorted(directory.members)
        kind = str(rng.choice(["join", "again", "leave", "swap", "test"])) if len(members) > 1 else "join"
        one, other = rng.permutation(members).tolist()[:2] if len(members) > 1 else ("", "")
        if kind == "swap":
            effects = directory._seats.swap(HostId(one), HostId(other), 1.0)
        else:
            events: dict[str, d.DirectoryEvent] = {
                "join": replace(joined(f"h{step}"), reachable=bool(rng.random() < 0.7)),
                "again": joined(one),
                "leave": d.HostLeft(HostId(one)),
                "test": d.HostTested(HostId(one), reachable=bool(rng.random() < 0.5)),
            }
            effects = directory.handle(events[kind], 1.0)
        waiting |= {effect.host for effect in effects if isinstance(effect, d.PushPlacement)}
        waiting &= directory.members.keys()
        received = {host: placement for host, placement in received.items() if host in directory.members}
        assert directory._seats._placements._known.keys() <= directory.members.keys(), (
            "nothing is kept of a host that left"
        )
        for host in sorted(waiting):
            if rng.random() < 0.3:
                read(host)
                waiting.remove(host)
        expected = from_scratch(directory.cube, directory.epoch, [each.record for each in directory.members.values()])
        assert all(received[host].says_the_same(expected[host]) for host in expected.keys() - waiting)


def test_a_placement_that_changes_and_changes_back_before_it_is_read_is_not_a_new_one() -> None:
    directory = engine(Cube(2, 2))
    directory.handle(joined("a"), 1.0)
    before = directory.placement(HostId("a"))
    directory.handle(joined("b"), 2.0)
    directory.handle(d.HostLeft(HostId("b")), 3.0)
    assert directory.placement(HostId("a")) is before
    directory.handle(joined("b"), 4.0)
    assert directory.placement(HostId("a")).version > before.version


@given(cubes(labels_max=40), st.integers(0, 10_000))
def test_placements_that_are_kept_up_to_date_are_those_computed_from_nothing_hidden_hosts_among_them(
    cube: Cube, seed: int
) -> None:
    rng, directory = np.random.default_rng(seed), engine(cube, seed)
    for step in range(25):
        members = list(directory.members)
        chosen = members[int(rng.integers(len(members)))] if members else HostId("h")
        kind = rng.choice(["join", "leave", "test"])
        if kind == "join" and len(members) < label_count(cube):
            hidden = bool(rng.random() < 0.6)
            directory.handle(replace(joined(f"h{rng.integers(100)}-{step}"), reachable=not hidden), 0.0)
        elif kind == "leave":
            directory.handle(d.HostLeft(chosen), 0.0)
        elif members:
            directory.handle(d.HostTested(chosen, reachable=bool(rng.random() < 0.4)), 0.0)
        records = [member.record for member in directory.members.values()]
        for host, expected in from_scratch(cube, 0, records).items():
            assert directory.placement(host).says_the_same(expected)
