"""The failure detector: slow parents are waited for, dead ones are not."""

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.host.config import DEFAULT
from cubecast.engine.host.failure_detector import FailureDetector
from cubecast.simulation.shells.host import SimulatedHost
from cubecast.types import HostId
from tests.engine.host.test_subscribe import NO_BOUND_MS, ready
from tests.engine.in_memory import Overlay

PARENT = HostId("parent")
PAUSE_S = 0.8
PAUSES = 12


def ticking(detector: FailureDetector, ticks: int) -> None:
    for _ in range(ticks):
        detector.tick(0.0)


def test_each_false_alarm_doubles_the_silence_allowed_up_to_a_limit_and_calm_brings_it_back() -> None:
    detector = FailureDetector(DEFAULT.failure)
    for _ in range(10):
        before = detector.silence_ticks
        detector.declared_dead(PARENT)
        ticking(detector, DEFAULT.failure.revived_ticks // 2)
        detector.on_message(PARENT)
        assert detector.silence_ticks == min(DEFAULT.failure.silent_ticks_max, 2 * before)
    ticking(detector, 10 * DEFAULT.failure.calm_ticks)
    assert detector.silence_ticks == DEFAULT.failure.silent_ticks


def test_each_calm_period_halves_the_silence_allowed() -> None:
    detector = FailureDetector(DEFAULT.failure)
    for _ in range(3):
        detector.declared_dead(PARENT)
        detector.on_message(PARENT)
    for halvings in range(1, 3):
        ticking(detector, DEFAULT.failure.calm_ticks)
        assert detector.silence_ticks == 8 * DEFAULT.failure.silent_ticks // 2**halvings


def test_a_parent_that_stays_silent_was_rightly_given_up() -> None:
    detector = FailureDetector(DEFAULT.failure)
    detector.declared_dead(PARENT)
    detector.on_message(HostId("another"))
    ticking(detector, DEFAULT.failure.revived_ticks + 1)
    detector.on_message(PARENT)  # it sent a message only after it had been forgotten: no false alarm
    assert detector.silence_ticks == DEFAULT.failure.silent_ticks


def test_a_host_that_pauses_again_and_again_is_left_a_few_times_and_not_at_every_pause() -> None:
    overlay: Overlay = ready(8, 3)
    for index in range(1, 8):
        overlay.subscribe(index, NO_BOUND_MS)
    overlay.run(30.0)
    slow = overlay.names[0]  # the publisher: a host that leaves it comes back
    alarms: list[int] = []

    def trace(_here: SimulatedHost, _event: ev.Event, effects: list[fx.Effect]) -> None:
        alarms[-1] += sum(isinstance(each, fx.ParentChanged) and "heartbeat" in each.reason for each in effects)

    overlay.trace = trace
    for _ in range(PAUSES):
        alarms.append(0)
        overlay.stall(slow)
        overlay.run(PAUSE_S)
        overlay.resume(slow)
        overlay.run(2.0)
    assert alarms[0] > 0, "the pauses are long enough for an alarm"
    assert not any(alarms[PAUSES // 2 :]), "those who were wrong have learnt"
