"""What an outbox pushes to a host: the latest of each kind, and no placement twice."""

import numpy as np

from cubecast.engine.directory import events as d
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.protocol.http_bodies import Pushed
from cubecast.engine.protocol.records import Placement
from cubecast.overlay.cube import Cube
from cubecast.supernode.outbox import Outbox
from cubecast.types import HostId

A = HostId("a")


def joined(host: str) -> d.HostJoined:
    return d.HostJoined(HostId(host), f"{host}:1", "f" * 64, f"key of {host}", 8)


class Reader:
    """A directory with host a, whose pushes this reads."""

    def __init__(self) -> None:
        self.directory = DirectoryEngine(Cube(2, 2), np.random.default_rng(1))
        self.outbox = Outbox()
        self.computed = 0
        self.handle(joined("a"))

    def handle(self, event: d.DirectoryEvent) -> None:
        for effect in self.directory.handle(event, 1.0):
            if isinstance(effect, d.PushPlacement) and effect.host == A:
                self.outbox.put(effect)

    def placement(self) -> Placement:
        self.computed += 1
        return self.directory.placement(A)

    def read(self) -> Pushed | None:
        return self.outbox.take(self.placement)


def test_a_placement_that_changed_several_times_is_computed_and_pushed_once_as_it_is_now() -> None:
    reader = Reader()
    for host in ("b", "c", "e"):
        reader.handle(joined(host))
    assert reader.read() == Pushed(reader.directory.placement(A))
    assert reader.computed == 1
    assert reader.read() is None
    assert reader.computed == 1, "nothing has changed"


def test_a_placement_is_not_pushed_twice_over_a_stream_but_over_the_next_one() -> None:
    reader = Reader()
    reader.read()
    reader.handle(joined("a"))
    assert reader.outbox.filled.is_set(), "a host that joins again is marked"
    assert reader.read() is None, "nothing in its placement has changed"
    reader.handle(joined("b"))
    reader.handle(d.HostLeft(HostId("b")))
    assert reader.read() is None, "it has changed back"
    reader.outbox = Outbox(placed=True)
    reader.outbox.filled.set()
    assert reader.read() == Pushed(reader.directory.placement(A))


def test_what_waits_beside_an_unchanged_placement_is_pushed_without_it() -> None:
    reader = Reader()
    reader.read()
    reader.handle(joined("a"))
    reader.outbox.put(d.Assign(A, ()))
    assert reader.read() == Pushed(jobs=())
