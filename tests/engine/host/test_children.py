"""What a host does for its children, tick by tick."""

from cubecast.engine.host import effects as fx
from cubecast.engine.host.config import DEFAULT
from cubecast.engine.protocol import messages as m
from cubecast.engine.protocol.path import Contract
from cubecast.types import HostId
from tests.engine.host.scripted import CHANNEL, ScriptedHost

NO_BOUND = Contract(10_000.0)


def feeding() -> tuple[ScriptedHost, HostId]:
    """A host that receives the channel from one of its neighbours and feeds the other one."""
    host = ScriptedHost()
    host.subscribe()
    child = host.other()
    host.receive(child, m.Attach(1, CHANNEL, NO_BOUND, (child,), ""))
    assert host.sent_to(child, m.Confirm)
    return host, child


def test_a_child_that_sends_no_contract_loses_its_copy() -> None:
    host, child = feeding()
    host.run(DEFAULT.tree.child_ticks - 1)
    assert not host.done(fx.Evict)
    host.run(1)
    assert host.done(fx.Evict) == [fx.Evict(CHANNEL, child)]
    assert not host.engine.may_pull(CHANNEL, child)


def test_a_child_that_sends_its_contract_keeps_its_copy() -> None:
    host, child = feeding()
    for _ in range(3):
        host.run(DEFAULT.tree.child_ticks - 1)
        host.receive(child, m.SubtreeContract(CHANNEL, NO_BOUND))
    assert not host.done(fx.Evict)
    assert host.engine.may_pull(CHANNEL, child)
