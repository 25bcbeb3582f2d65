"""What a join, a leave, a lease tick and a read of a placement cost: the work is counted, not timed, and does not follow the number of hosts."""

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar

import numpy as np
import pytest

from cubecast.engine.directory import events as d
from cubecast.engine.directory.config import DIRECTORY_DEFAULTS
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.directory.state import Member
from cubecast.engine.protocol.records import HostRecord
from cubecast.overlay.cube import label_count
from cubecast.overlay.region import live_region
from cubecast.types import HostId, Label

LEASE_S = DIRECTORY_DEFAULTS.lease.lease_s
FEW, MANY = 200, 2000
CHANGES = 30
OPERATIONS = ("join", "leave", "tick", "read")
MORE_MAX = 1.5
"""Maximum work for each placement marked, and for each neighbour in those read, with ten times as many hosts."""
Key = TypeVar("Key")
Value = TypeVar("Value")


class Counted(dict[Key, Value]):
    """A dict that counts how many of its keys are visited by iteration."""

    visited = 0

    def __iter__(self) -> Iterator[Key]:
        for key in super().__iter__():
            self.visited += 1
            yield key

    def keys(self) -> object:  # type: ignore[override]
        self.visited += len(self)
        return super().keys()

    def values(self) -> object:  # type: ignore[override]
        self.visited += len(self)
        return super().values()

    def items(self) -> object:  # type: ignore[override]
        self.visited += len(self)
        return super().items()


def request(number: int) -> d.HostJoined:
    return d.HostJoined(HostId(f"h{number}"), f"h{number}:1", "f" * 64, f"{number}", 8)


def filled(hosts: int) -> DirectoryEngine:
    cube = live_region(hosts)
    directory = DirectoryEngine(cube, np.random.default_rng(1))
    seats = np.random.default_rng(2).permutation(label_count(cube))[:hosts].tolist()
    records = [
        HostRecord(each.host, each.address, each.fingerprint, each.key, Label(seat))
        for each, seat in zip(map(request, range(hosts)), seats, strict=True)
    ]
    directory.restore((cube, 0), records, (), 0.0)
    return directory


def instructions(run: Callable[[], None]) -> int:
    """How many instructions of Python some code runs."""
    count, before = 0, sys.gettrace()

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def work(hosts: int, operation: str) -> tuple[float, int]:
    """Instructions for each placement marked as changed, or each neighbour in those read; how many members were visited."""
    directory = filled(hosts)
    leaving = list(directory.members)[:CHANGES]
    members: Counted[HostId, Member] = Counted(directory.members)
    directory._state.members = members
    pushed: list[HostId] = []

    def handle(event: d.DirectoryEvent, now: float) -> None:
        pushed.extend(effect.host for effect in directory.handle(event, now) if isinstance(effect, d.PushPlacement))

    def tick() -> None:
        handle(d.LeaseTick(), LEASE_S + 1.0)

    def leave() -> None:
        for host in leaving:
            handle(d.HostLeft(host), 0.0)

    def join() -> None:
        for number in range(CHANGES):
            handle(request(hosts + number), 0.0)

    def read() -> None:
        for host in pushed:
            directory.placement(host)

    if operation in ("join", "read"):
        for host in directory.members.copy():
            directory.placement(host)
        leave()
    if operation == "tick":
        for host in [host for host in members if host not in leaving]:
            handle(d.HostRefreshed(host), 2.0)
    pushed.clear()
    if operation == "read":
        join()
    members.visited = 0
    count = instructions({"join": join, "leave": leave, "tick": tick, "read": read}[operation])
    assert len(pushed) >= CHANGES
    if operation == "read":
        return count / sum(len(directory.placement(host).neighbours) for host in pushed), members.visited
    return count / len(pushed), members.visited


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_work_for_each_placement_does_not_follow_the_number_of_hosts(operation: str) -> None:
    few, _ = work(FEW, operation)
    many, visited = work(MANY, operation)
    assert many < MORE_MAX * few
    assert visited == 0, "no change visits all members"
