"""Properties of the contract monitor: every second with frames is judged once, by the frames that arrived of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import Compliance
from cubecast.host.local.contract_monitor import RATE_S, ContractMonitor

FPS, SIZE = 10, 1000
RATE_BPS = 8.0 * FPS * SIZE
BOUND_MS = 200.0
START_S = 1_000_000.0


def fare(
    contract: Contract, delays_ms: list[float], gone: frozenset[int] = frozenset(), size: int = SIZE
) -> Compliance:
    """The compliance after frames at an even pace; those in `gone` never arrive."""
    ledger = ContractMonitor(contract)
    arrivals = sorted((round(n / FPS + ms / 1000, 6), n, ms) for n, ms in enumerate(delays_ms) if n not in gone)
    for _, number, ms in arrivals:
        ledger.add(0, number, START_S + number / FPS, ms, size)
    ledger.close()
    return ledger.compliance


@given(st.integers(1, 200), st.floats(0, BOUND_MS))
def test_a_stream_in_time_keeps_every_second(frames: int, delay_ms: float) -> None:
    assert fare(Contract(BOUND_MS), [delay_ms] * frames) == Compliance(kept_s=-(-frames // FPS))


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_a_second_with_a_late_frame_is_violated_and_no_other(late: list[bool]) -> None:
    delays = [BOUND_MS + 100 if each and n == 4 else 50.0 for each in late for n in range(FPS)]
    assert fare(Contract(BOUND_MS), delays) == Compliance(late.count(False), sum(late), late_s=sum(late))


@given(st.floats(1.5, 8.0))
def test_a_stall_violates_the_seconds_it_makes_late(stall_s: float) -> None:
    """Everything captured during a stall comes at its end, in order."""
    captured = [n / FPS for n in range(20 * FPS)]
    delays = [1000 * max(0.05, 5.0 + stall_s - at) if 5.0 <= at < 5.0 + stall_s else 50.0 for at in captured]
    compliance = fare(Contract(BOUND_MS), delays)
    broken = {int(at) for at, ms in zip(captured, delays, strict=True) if ms > BOUND_MS}
    assert compliance.kept_s + compliance.violated_s == 20
    assert compliance.violated_s == compliance.late_s == len(broken)
    assert compliance.lost_s == 0


def test_frames_that_never_come_are_lost() -> None:
    compliance = fare(Contract(BOUND_MS), [50.0] * 100, gone=frozenset({33, 34, 71}))
    assert compliance == Compliance(kept_s=8, violated_s=2, late_s=2, lost_s=2)


@given(st.integers(1, 30))
def test_every_second_of_an_outage_is_violated(lost_s: int) -> None:
    gone = frozenset(range(5 * FPS, (5 + lost_s) * FPS))
    compliance = fare(Contract(BOUND_MS), [50.0] * FPS * (10 + lost_s), gone)
    assert compliance == Compliance(kept_s=10, violated_s=lost_s, late_s=lost_s, lost_s=lost_s)


def test_a_share_of_loss_that_is_allowed_violates_nothing() -> None:
    gone = frozenset({33, 34, 71})
    assert fare(Contract(BOUND_MS, loss=0.2), [50.0] * 100, gone) == Compliance(kept_s=10)
    assert fare(Contract(BOUND_MS, loss=0.1), [50.0] * 100, gone) == Compliance(9, 1, 1, 1)


@pytest.mark.parametrize(("wanted", "slow"), [(0.9, 0), (1.1, 20 - RATE_S + 1)])
def test_less_than_the_rate_is_slow_once_there_was_time_to_measure(wanted: float, slow: int) -> None:
    compliance = fare(Contract(BOUND_MS, rate_bps=wanted * RATE_BPS), [50.0] * FPS * 20)
    assert (compliance.slow_s, compliance.violated_s, compliance.kept_s) == (slow, slow, 20 - slow)


def test_seconds_without_a_frame_are_slow_where_a_rate_was_asked_for_and_nothing_else() -> None:
    def silent(contract: Contract) -> Compliance:
        ledger = ContractMonitor(contract)
        for second in [*range(10), *range(20, 30)]:
            for n in range(FPS):
                ledger.add(
                    0, min(second, second - 10 + 10 * (second < 20)) * FPS + n, START_S + second + n / FPS, 50.0, SIZE
                )
        ledger.close()
        return ledger.compliance

    assert silent(Contract(BOUND_MS)) == Compliance(kept_s=20)
    asked = silent(Contract(BOUND_MS, rate_bps=0.9 * RATE_BPS))
    assert asked.kept_s + asked.violated_s == 30
    assert 10 <= asked.slow_s <= 10 + RATE_S
