"""The directory's part in addresses: one that is not proved belongs to nobody, and is sent to nobody."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.engine.directory import events as d
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.protocol.records import HostRecord
from cubecast.errors import DirectoryError
from cubecast.overlay.cube import Cube
from cubecast.types import HostId

HERE, THERE = "10.0.0.1:1", "10.0.0.2:1"
A, B = HostId("a"), HostId("b")


def engine(sign: bool = False) -> DirectoryEngine:
    def signed(record: HostRecord) -> HostRecord:
        return replace(record, signature=record.signed_content().hex())

    cube, rng = Cube(2, 4), np.random.default_rng(1)
    return DirectoryEngine(cube, rng, sign=signed) if sign else DirectoryEngine(cube, rng)


def joined(host: HostId, address: str = HERE, *, reachable: bool = True) -> d.HostJoined:
    return d.HostJoined(host, address, "f" * 64, f"key of {host}", 8, "", reachable)


def stored(effects: list[d.DirectoryEffect]) -> dict[HostId, HostRecord]:
    return {effect.record.host: effect.record for effect in effects if isinstance(effect, d.SaveHost)}


def test_an_address_that_is_only_named_keeps_nobody_out() -> None:
    directory = engine()
    directory.handle(joined(A, reachable=False), 0.0)
    directory.handle(joined(B), 1.0)
    assert directory.host_at(HERE) == B
    directory.handle(joined(HostId("c"), reachable=False), 2.0)
    with pytest.raises(DirectoryError, match="already belongs to host b"):
        directory.handle(joined(HostId("d")), 3.0)


def test_a_refusal_does_not_say_where_another_host_is() -> None:
    directory = engine()
    directory.handle(joined(A), 0.0)
    with pytest.raises(DirectoryError, match="the name a is taken") as refused:
        directory.handle(replace(joined(A, THERE), key="another"), 1.0)
    assert HERE not in str(refused.value)


def test_an_address_is_free_again_when_its_host_leaves_moves_or_becomes_hidden() -> None:
    for freeing in (d.HostLeft(A), joined(A, THERE), d.HostTested(A, reachable=False), joined(A, reachable=False)):
        directory = engine()
        directory.handle(joined(A), 0.0)
        directory.handle(freeing, 1.0)
        assert directory.host_at(HERE) is None
        directory.handle(joined(B), 2.0)
        assert directory.host_at(HERE) == B


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from((HERE, THERE)), st.booleans(), st.booleans())))
def test_an_address_has_one_reachable_host_and_only_reachable_hosts_have_one_for_others(
    steps: list[tuple[str, str, bool, bool]],
) -> None:
    directory = engine()
    disk: dict[HostId, HostRecord] = {}
    for now, (name, address, reachable, joins) in enumerate(steps):
        host = HostId(name)
        event = joined(host, address, reachable=reachable) if joins else d.HostTested(host, reachable)
        try:
            disk |= stored(directory.handle(event, float(now)))
        except DirectoryError:
            assert directory.host_at(address) not in (None, host)
        members = directory.members
        found = {member.address: member.record.host for member in members.values() if member.record.reachable}
        assert len(found) == sum(member.record.reachable for member in members.values())
        assert all(directory.host_at(each) == found.get(each) for each in (HERE, THERE))
        for host, member in members.items():
            assert member.record.address == (member.address if member.record.reachable else "")
            assert disk[host] == replace(member.record, address=member.address)
            placement = directory.placement(host)
            assert placement.record == member.record
            assert all(near.record == members[near.record.host].record for near in placement.neighbours)


@pytest.mark.parametrize("reachable", [False, True])
def test_a_restart_restores_what_a_host_named_and_what_others_are_sent(reachable: bool) -> None:
    directory, again = engine(sign=True), engine(sign=True)
    disk = stored(directory.handle(joined(A, reachable=reachable), 0.0))
    again.restore((Cube(2, 4), 0), disk.values(), (), 1.0)
    before, after = directory.members[A], again.members[A]
    assert (after.record, after.address) == (before.record, before.address)
    assert after.record.signature == after.record.signed_content().hex()
    again.handle(d.HostTested(A, reachable=True), 2.0)
    assert again.members[A].record.address == HERE
