"""The store writes what has changed, and nothing else."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from cubecast.engine.directory import events as d
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.overlay.cube import Cube
from cubecast.supernode.access.names import HOLD_S
from cubecast.supernode.sqlite import SqliteStore
from cubecast.types import ChannelName, HostId

SHAPE = Cube(2, 4)
A, CLIP = HostId("a"), ChannelName("clip")


def joined(host: str) -> d.HostJoined:
    return d.HostJoined(HostId(host), f"{host}:1", "f" * 64, hashlib.sha256(host.encode()).hexdigest(), 8)


def test_each_event_writes_the_rows_that_it_changes(tmp_path: Path) -> None:
    store, directory = SqliteStore(tmp_path / "state.db"), DirectoryEngine(SHAPE, np.random.default_rng(1))
    store.first_shape(SHAPE, SHAPE)
    statements: list[str] = []
    store._db.set_trace_callback(statements.append)

    def written(event: d.DirectoryEvent) -> int:
        statements.clear()
        effects = directory.handle(event, 0.0)
        store.apply(effects, 0.0)
        return sum(each.startswith(("INSERT", "DELETE")) and " names " not in each for each in statements)

    for host in ("a", "b", "c"):
        assert written(joined(host)) == 1, "the others' placements change, not their records"
    assert written(d.ChannelAnnounced(A, CLIP)) == 1
    assert written(d.HostLeft(HostId("c"))) == 1
    again = d.ChannelAnnounced(A, CLIP, publication=directory.channels[CLIP].publication)
    for unchanged in (joined("a"), again, d.HostRefreshed(A), d.LeaseTick()):
        assert written(unchanged) == 0
        assert not statements, "there is no transaction, which would wait for the disk"
    assert store.hosts() == sorted((m.record for m in directory.members.values()), key=lambda record: record.host)
    assert store.channels() == list(directory.channels.values())
    store.close()


def test_effects_are_stored_in_their_order_and_names_with_them(tmp_path: Path) -> None:
    store, directory = SqliteStore(tmp_path / "state.db"), DirectoryEngine(SHAPE, np.random.default_rng(1))
    store.first_shape(SHAPE, SHAPE)
    for host in ("a", "b"):
        directory.handle(joined(host), 0.0)
    a, b = (directory.members[HostId(host)].record for host in ("a", "b"))
    moved = replace(a, seat=b.seat)
    effects: list[d.DirectoryEffect] = [
        d.SaveHost(a),
        d.SaveHost(b),
        d.DeleteHost(A),
        d.DeleteHost(b.host),
        d.SaveHost(a),
        d.SaveHost(moved),
    ]
    store.apply(effects, 1.0)
    assert store.hosts() == [moved]
    assert store.names() == [(A, a.key, None), (b.host, b.key, 1.0 + HOLD_S)]
    store.apply([d.SaveHost(replace(b, key="another key"))], 2.0)
    assert store.names() == [(A, a.key, None), (b.host, "another key", None)]
    store.close()
