"""Copies that children leave to other hosts, to make room for them."""

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
    host, child, heir, other = ScriptedHost(fan_out=1), HostId("child"), HostId("heir"), HostId("other")
    host.handle(ev.PublishRequested(CHANNEL, Tree.HYBRID))
    for each in (child, heir, other):
        host.handle(ev.LinkUp(each))
    host.receive(child, m.Attach(1, CHANNEL, NO_BOUND, (child,), ""))
    assert host.sent_to(child, m.Confirm)
    return host, child, heir, other


def wait(host: ScriptedHost, ticks: int, alive: list[HostId]) -> None:
    """Some time, in which these hosts show that they live."""
    for _ in range(ticks):
        for each in alive:
            host.receive(each, m.SubtreeContract(CHANNEL, NO_BOUND))
        host.run(1)


def asks(host: ScriptedHost, asker: HostId, ask: int) -> bool:
    """Whether a host becomes a child when it asks."""
    before = len(host.sent_to(asker, m.Confirm))
    host.receive(asker, m.Attach(ask, CHANNEL, NO_BOUND, (asker,), ""))
    return len(host.sent_to(asker, m.Confirm)) > before


def test_a_copy_that_a_child_has_left_to_another_host_goes_to_that_one_only() -> None:
    host, child, heir, other = full_of_one()
    host.receive(child, m.Release(CHANNEL, heir))
    wait(host, DEFAULT.tree.heir_ticks - 1, [heir, other])
    assert not asks(host, other, 1)
    assert asks(host, heir, 1)
    assert not asks(host, other, 2), "that was the only copy"
    assert host.engine.may_pull(CHANNEL, heir)


def test_a_copy_that_was_left_to_a_host_which_does_not_come_goes_to_others_after_a_while() -> None:
    host, child, heir, other = full_of_one()
    host.receive(child, m.Release(CHANNEL, heir))
    wait(host, DEFAULT.tree.heir_ticks, [heir, other])
    assert asks(host, other, 1)
    assert not asks(host, heir, 1)


def test_nobody_can_leave_a_copy_that_is_not_his() -> None:
    host, child, heir, other = full_of_one()
    host.receive(other, m.Release(CHANNEL, heir))
    assert not asks(host, heir, 1)
    host.receive(child, m.Release(CHANNEL))
    host.receive(child, m.Release(CHANNEL, heir))
    assert asks(host, other, 1), "it had released its copy already"


def test_a_host_that_leaves_keeps_no_copy_for_anybody() -> None:
    host, child, heir, _ = full_of_one()
    host.receive(child, m.Release(CHANNEL, heir))
    host.handle(ev.LeaveRequested())
    assert not asks(host, heir, 1)
