"""Slots that displaced children free, reserved for the newcomers for which they have moved."""

from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT
from cubecast.engine.protocol import messages as m
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import Tree
from cubecast.types import HostId
from tests.engine.host.scripted import CHANNEL, ScriptedHost

NO_BOUND = Contract(10_000.0)


def full_of_one() -> tuple[ScriptedHost, HostId, HostId, HostId]:
    """A host that publishes, feeds its only child, and has links to two others that would be children."""
    host, child, newcomer, other = ScriptedHost(fan_out=1), HostId("child"), HostId("newcomer"), HostId("other")
    host.handle(ev.PublishRequested(CHANNEL, Tree.HYBRID))
    for each in (child, newcomer, other):
        host.handle(ev.LinkUp(each))
    host.receive(child, m.Attach(1, CHANNEL, NO_BOUND, (child,)))
    assert host.sent_to(child, m.Confirm)
    return host, child, newcomer, other


def wait(host: ScriptedHost, ticks: int, alive: list[HostId]) -> None:
    """Some time, in which these hosts show that they live."""
    for _ in range(ticks):
        for each in alive:
            host.receive(each, m.SubtreeContract(CHANNEL, NO_BOUND))
        host.run(1)


def asks(host: ScriptedHost, requester: HostId, ask: int) -> bool:
    """Whether a host becomes a child when it asks."""
    before = len(host.sent_to(requester, m.Confirm))
    host.receive(requester, m.Attach(ask, CHANNEL, NO_BOUND, (requester,)))
    return len(host.sent_to(requester, m.Confirm)) > before


def test_a_slot_that_a_child_has_freed_for_another_host_goes_to_that_one_only() -> None:
    host, child, newcomer, other = full_of_one()
    host.receive(child, m.Release(CHANNEL, newcomer))
    wait(host, DEFAULT.tree.reserved_ticks - 1, [newcomer, other])
    assert not asks(host, other, 1)
    assert asks(host, newcomer, 1)
    assert not asks(host, other, 2), "that was the only slot"
    assert host.engine.may_pull(CHANNEL, newcomer)


def test_a_slot_reserved_for_a_host_that_does_not_come_goes_to_others_after_a_while() -> None:
    host, child, newcomer, other = full_of_one()
    host.receive(child, m.Release(CHANNEL, newcomer))
    wait(host, DEFAULT.tree.reserved_ticks, [newcomer, other])
    assert asks(host, other, 1)
    assert not asks(host, newcomer, 1)


def test_no_host_can_have_a_slot_reserved_that_is_not_its_own() -> None:
    host, child, newcomer, other = full_of_one()
    host.receive(other, m.Release(CHANNEL, newcomer))
    assert not asks(host, newcomer, 1)
    host.receive(child, m.Release(CHANNEL))
    host.receive(child, m.Release(CHANNEL, newcomer))
    assert asks(host, other, 1), "it had freed its slot already"


def test_a_host_that_leaves_honours_no_reservation() -> None:
    host, child, newcomer, _ = full_of_one()
    host.receive(child, m.Release(CHANNEL, newcomer))
    host.handle(ev.LeaveRequested())
    assert not asks(host, newcomer, 1)
