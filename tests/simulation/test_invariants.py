"""The invariants of a simulation: a healthy overlay keeps them all, and each one reports what breaks it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cubecast.engine.host import effects as fx
from cubecast.engine.host.config import EngineConfig, TreeConfig
from cubecast.engine.host.tree.branch import Branch
from cubecast.engine.protocol.path import Contract
from cubecast.overlay.cube import Cube
from cubecast.simulation import observation
from cubecast.simulation.invariants import broken_at, broken_labels, lacks_decision, lost_without_notice
from cubecast.simulation.job_invariants import JobInvariants
from cubecast.simulation.observation import Observation
from cubecast.simulation.overlay import SimulatedOverlay
from cubecast.simulation.run import simulate
from cubecast.simulation.scenario import Scenario, load_scenario
from cubecast.simulation.shells.host import SimulatedHost
from cubecast.simulation.shells.subscribers import LocalSubscriber
from cubecast.simulation.simulated_run import SimulatedRun
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
    """Host 0 publishes, all others subscribe, over several levels."""
    overlay = Overlay(random_delays(HOSTS, 3), Cube(2, 3), seed=3, fan_out=2)
    overlay.run(4.0)
    overlay.publish(0)
    for index in range(1, HOSTS):
        assert isinstance(overlay.subscribe(index, BOUND_MS), fx.Admitted)
    overlay.run(2.0)
    overlay.check = None
    return overlay


def child_of_relay(overlay: Overlay) -> tuple[SimulatedHost, SimulatedHost]:
    """A host that is no child of the publisher, and its parent."""
    for host in overlay.names[1:]:
        upstream = overlay.engines[host].upstream(CHANNEL)
        assert upstream is not None
        if upstream != overlay.names[0]:
            return overlay.hosts[host], overlay.hosts[upstream]
    raise AssertionError("no host relays")


def branch_of(here: SimulatedHost) -> Branch:
    (branch,) = here.engine.branches()
    return branch


def broken(overlay: Overlay, here: SimulatedHost) -> str:
    return "\n".join(broken_at(overlay, here, {}))


def test_a_healthy_overlay_keeps_every_invariant(overlay: Overlay) -> None:
    assert [broken(overlay, here) for here in overlay.hosts.values()] == [""] * HOSTS
    assert broken_labels(overlay.directory) == []
    for host in overlay.names[1:]:
        here = overlay.hosts[host]
        subscriber = LocalSubscriber(CHANNEL, Contract(BOUND_MS), requests=1, outcomes=here.outcomes)
        assert not lacks_decision(here, subscriber)
        assert not lost_without_notice(overlay, here, subscriber)


def test_a_loop_of_parents_is_reported(overlay: Overlay) -> None:
    child, parent = child_of_relay(overlay)
    branch_of(parent).upstream = child.host
    assert "loop" in broken(overlay, parent)
    assert "loop" in broken(overlay, child)


def test_a_copy_too_many_is_reported(overlay: Overlay) -> None:
    _, parent = child_of_relay(overlay)
    copies = len(branch_of(parent).below.children)
    parent.fan_out = copies
    assert broken(overlay, parent) == ""
    parent.fan_out = copies - 1
    assert f"sends {copies} copies, {copies - 1} are allowed" in broken(overlay, parent)


def test_a_hidden_host_with_a_hidden_parent_is_reported(overlay: Overlay) -> None:
    child, parent = child_of_relay(overlay)
    overlay.hidden = {child.host}
    assert broken(overlay, child) == ""
    overlay.hidden = {child.host, parent.host}
    assert "hidden" in broken(overlay, child)


def test_labels_that_two_hosts_hold_or_none_are_reported(overlay: Overlay, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = overlay.directory
    shown = {host: directory.placement(host) for host in directory.members}
    monkeypatch.setattr(directory, "placement", shown.__getitem__)
    first, second = overlay.names[:2]
    kept = shown[second]
    shown[second] = replace(kept, labels=shown[first].labels)
    found = broken_labels(directory)
    assert any(f"held by {first} and {second}" in line for line in found)
    assert any("held by no host" in line for line in found)
    shown[second] = replace(kept, epoch=kept.epoch + 1)
    assert any("has no placement" in line for line in broken_labels(directory))


def test_a_subscriber_without_a_decision_is_reported_unless_its_search_is_under_way(overlay: Overlay) -> None:
    here = overlay.hosts[overlay.names[1]]
    assert lacks_decision(here, LocalSubscriber(CHANNEL, Contract(BOUND_MS), requests=2, outcomes=here.outcomes))
    late = overlay.join(HostId("late"), 0)
    overlay.run(2.0)
    subscriber = LocalSubscriber(CHANNEL, Contract(BOUND_MS))
    late.subscribers.ask(subscriber)
    assert subscriber.unanswered
    assert late.engine.searching(CHANNEL)
    assert not lacks_decision(late, subscriber)


def test_a_subscriber_that_gets_nothing_without_notice_is_reported(overlay: Overlay) -> None:
    child, _ = child_of_relay(overlay)
    subscriber = LocalSubscriber(CHANNEL, Contract(BOUND_MS), requests=1, outcomes=list(child.outcomes))
    child.sessions[CHANNEL].clear()
    assert lost_without_notice(overlay, child, subscriber)
    subscriber.outcomes.append(fx.StreamEnded(CHANNEL, finished=False, host=child.host, reason="no parent"))
    assert not lost_without_notice(overlay, child, subscriber)


@pytest.mark.parametrize(
    ("invariant", "reported"),
    [("lost_without_notice", "without notice"), ("lacks_decision", "has no decision"), ("broken_labels", "label 7")],
)
def test_a_run_reports_broken_invariants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invariant: str, reported: str
) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SCENARIO)
    assert simulate(load_scenario(path), 1).invariants_broken == []
    broken = ["label 7: held by two"] if invariant == "broken_labels" else True
    monkeypatch.setattr(observation, invariant, lambda *_: broken)
    path.write_text(SCENARIO + "[churn]\nshare = 0.3\n")
    lines = simulate(load_scenario(path), 1).invariants_broken
    assert lines
    assert all(reported in line for line in lines)


def test_a_stream_may_be_dead_without_notice_for_longer_where_a_repair_may_take_longer() -> None:
    def patience_s(config: EngineConfig) -> float:
        scenario = Scenario(2, tick_s=config.tick_s, engine=config)
        overlay = SimulatedOverlay(random_delays(2, 1), Cube(2, 1), config=config)
        run = SimulatedRun(scenario, 1, overlay, np.random.default_rng(1), np.random.default_rng(2))
        return Observation(run, JobInvariants(overlay, [], set())).patience_s

    usual, slow = EngineConfig(tick_s=0.5), EngineConfig(tick_s=0.5, tree=TreeConfig(repair_ticks=300))
    assert patience_s(slow) - patience_s(usual) == pytest.approx(slow.repair_s - usual.repair_s)
