"""Patience with silent parents: the slow are waited for, the dead are not."""

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.failure_detector import (
    CALM_TICKS,
    REVIVED_TICKS,
    SILENT_TICKS,
    SILENT_TICKS_MAX,
    FailureDetector,
)
from cubecast.simulation.overlay import SimulatedHost
from cubecast.types import HostId
from tests.engine.host.test_subscribe import NO_BOUND_MS, ready
from tests.engine.in_memory import Overlay

PARENT = HostId("parent")
PAUSE_S = 0.8
PAUSES = 12


def ticking(patience: FailureDetector, ticks: int) -> None:
    for _ in range(ticks):
        patience.tick(0.0)


def test_each_false_alarm_doubles_the_patience_up_to_a_limit_and_calm_brings_it_back() -> None:
    patience = FailureDetector()
    for _ in range(10):
        before = patience.ticks
        patience.declared_dead(PARENT)
        ticking(patience, REVIVED_TICKS // 2)
        patience.heard(PARENT)
        assert patience.ticks == min(SILENT_TICKS_MAX, 2 * before)
    ticking(patience, 10 * CALM_TICKS)
    assert patience.ticks == SILENT_TICKS


def test_a_parent_that_stays_silent_was_rightly_given_up() -> None:
    patience = FailureDetector()
    patience.declared_dead(PARENT)
    patience.heard(HostId("another"))
    ticking(patience, REVIVED_TICKS + 1)
    patience.heard(PARENT)  # it has come back: that says nothing of how slow it was
    assert patience.ticks == SILENT_TICKS


def test_a_host_that_pauses_again_and_again_is_left_a_few_times_and_not_at_every_pause() -> None:
    overlay: Overlay = ready(8, 3)
    for index in range(1, 8):
        overlay.subscribe(index, NO_BOUND_MS)
    overlay.run(30.0)
    slow = overlay.names[0]  # the publisher: whoever leaves it comes back
    alarms: list[int] = []

    def trace(_here: SimulatedHost, _event: ev.Event, effects: list[fx.Effect]) -> None:
        alarms[-1] += sum(isinstance(each, fx.ParentChanged) and "heartbeat" in each.reason for each in effects)

    overlay.trace = trace
    for _ in range(PAUSES):
        alarms.append(0)
        overlay.stall(slow)
        overlay.run(PAUSE_S)
        overlay.go_on(slow)
        overlay.run(2.0)
    assert alarms[0] > 0, "the pauses are long enough for an alarm"
    assert not any(alarms[PAUSES // 2 :]), "those who were wrong have learnt"
