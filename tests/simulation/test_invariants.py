"""The laws of a simulation: a healthy overlay keeps them all, and each one sees what breaks it."""

from dataclasses import replace
from pathlib import Path

import pytest

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.tree.branch import Branch
from cubecast.engine.protocol.path import Contract
from cubecast.overlay.cube import Cube
from cubecast.simulation import run as simulation
from cubecast.simulation.invariants import broken_at, broken_labels, forgotten, hangs
from cubecast.simulation.overlay import SimulatedHost
from cubecast.simulation.scenario import load_scenario
from cubecast.types import HostId
from tests.engine.in_memory import CHANNEL, Overlay, random_delays

HOSTS = 6
BOUND_MS = 5000.0
SCENARIO = """
hosts = 12
network = "transit-stub:3x2x3x2"
tick_s = 0.5
warm_s = 15.0
seconds = 100.0
"""


@pytest.fixture
def overlay() -> Overlay:
    """Host 0 publishes, all others subscribe, in a chain of their own making."""
    overlay = Overlay(random_delays(HOSTS, 3), Cube(2, 3), seed=3, fan_out=2)
    overlay.run(4.0)
    overlay.publish(0)
    for index in range(1, HOSTS):
        assert isinstance(overlay.subscribe(index, BOUND_MS), fx.Admitted)
    overlay.run(2.0)
    overlay.check = None
    return overlay


def a_child(overlay: Overlay) -> tuple[SimulatedHost, SimulatedHost]:
    """A host that neither publishes nor hangs on the publisher, and its parent."""
    for host in overlay.names[1:]:
        upstream = overlay.engines[host].upstream(CHANNEL)
        assert upstream is not None
        if upstream != overlay.names[0]:
            return overlay.hosts[host], overlay.hosts[upstream]
    raise AssertionError("nobody relays")


def branch_of(here: SimulatedHost) -> Branch:
    (branch,) = here.engine.branches()
    return branch


def laws(overlay: Overlay, here: SimulatedHost) -> str:
    return "\n".join(broken_at(overlay, here, {}))


def test_a_healthy_overlay_keeps_every_law(overlay: Overlay) -> None:
    assert [laws(overlay, here) for here in overlay.hosts.values()] == [""] * HOSTS
    assert broken_labels(overlay.directory) == []
    for host in overlay.names[1:]:
        assert not forgotten(overlay.hosts[host], CHANNEL, 1)
        assert not hangs(overlay, host, CHANNEL)


def test_a_loop_of_parents_is_seen(overlay: Overlay) -> None:
    child, parent = a_child(overlay)
    branch_of(parent).upstream = child.host
    assert "loop" in laws(overlay, parent)
    assert "loop" in laws(overlay, child)


def test_a_copy_too_many_is_seen(overlay: Overlay) -> None:
    _, parent = a_child(overlay)
    copies = len(branch_of(parent).children)
    parent.fan_out = copies
    assert laws(overlay, parent) == ""
    parent.fan_out = copies - 1
    assert f"sends {copies} copies, {copies - 1} are allowed" in laws(overlay, parent)


def test_two_hosts_that_cannot_be_dialled_and_hang_on_each_other_are_seen(overlay: Overlay) -> None:
    child, parent = a_child(overlay)
    overlay.hidden = {child.host}
    assert laws(overlay, child) == ""
    overlay.hidden = {child.host, parent.host}
    assert "cannot be dialled" in laws(overlay, child)


def test_labels_that_two_hosts_hold_or_nobody_are_seen(overlay: Overlay) -> None:
    first, second = (overlay.directory.members[host] for host in overlay.names[:2])
    assert first.placement is not None
    assert second.placement is not None
    kept = second.placement
    second.placement = replace(kept, labels=first.placement.labels)
    found = broken_labels(overlay.directory)
    assert any(f"held by {overlay.names[0]} and {overlay.names[1]}" in law for law in found)
    assert any("held by nobody" in law for law in found)
    second.placement = None
    assert any("has no place" in law for law in broken_labels(overlay.directory))
    second.placement = replace(kept, epoch=kept.epoch + 1)
    assert any("has no place" in law for law in broken_labels(overlay.directory))


def test_a_subscriber_without_an_answer_is_forgotten_unless_its_search_is_under_way(overlay: Overlay) -> None:
    here = overlay.hosts[overlay.names[1]]
    assert forgotten(here, CHANNEL, 2)
    late = overlay.join(HostId("late"), 0)
    overlay.run(2.0)
    overlay.handle(late.host, ev.SubscribeRequested(CHANNEL, Contract(BOUND_MS)))
    assert late.engine.searching(CHANNEL)
    assert not forgotten(late, CHANNEL, 1)


def test_a_subscriber_that_gets_nothing_and_does_not_know_hangs(overlay: Overlay) -> None:
    child, _ = a_child(overlay)
    child.sessions[CHANNEL].clear()
    assert hangs(overlay, child.host, CHANNEL)
    child.outcomes.append(fx.StreamEnded(CHANNEL, finished=False, host=child.host, reason="it was told"))
    assert not hangs(overlay, child.host, CHANNEL)


@pytest.mark.parametrize(
    ("law", "said"), [("hangs", "it was not told"), ("forgotten", "was forgotten"), ("broken_labels", "label 7")]
)
def test_a_run_reports_broken_laws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, law: str, said: str) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SCENARIO)
    assert simulation.simulate(load_scenario(path), 1).invariants_broken == []
    broken = ["label 7: held by two"] if law == "broken_labels" else True
    monkeypatch.setattr(simulation, law, lambda *_: broken)
    path.write_text(SCENARIO + "[churn]\nshare = 0.3\n")
    told = simulation.simulate(load_scenario(path), 1).invariants_broken
    assert told
    assert all(said in each for each in told)
