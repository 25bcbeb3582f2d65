"""Derived channels: their promised delays include the source's delay and the processing time, also when these change."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.protocol.records import Tree
from cubecast.overlay.region import live_region
from cubecast.types import ChannelName
from tests.engine.in_memory import CHANNEL, Overlay, random_delays

DERIVED = ChannelName("half")
BOUND_MS = 5000.0
WARM_S, SETTLE_S = 4.0, 2.0


def making(hosts: int, seed: int, delay_ms: float, spread_ms: float, maker: int = 1) -> Overlay:
    """Host 0 publishes, another one makes the derived channel."""
    overlay = Overlay(random_delays(hosts, seed), live_region(hosts), seed=seed)
    overlay.run(WARM_S)
    overlay.publish(0)
    assert isinstance(overlay.subscribe(maker, BOUND_MS), fx.Admitted)
    here = overlay.names[maker]
    overlay.handle(here, ev.PublishRequested(DERIVED, Tree.HYBRID, CHANNEL))
    overlay.handle(here, ev.ProcessingMeasured(DERIVED, delay_ms, spread_ms))
    overlay.run(SETTLE_S)
    return overlay


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 300), st.floats(0, 50))
def test_every_promise_counts_the_way_to_the_maker_and_the_making(seed: int, delay_ms: float, spread_ms: float) -> None:
    overlay = making(6, seed, delay_ms, spread_ms)
    outcome = overlay.subscribe(4, BOUND_MS, DERIVED)
    assert isinstance(outcome, fx.Admitted)
    overlay.run(SETTLE_S)
    source = overlay.engines[overlay.names[1]].metrics(CHANNEL)
    made = overlay.engines[overlay.names[1]].metrics(DERIVED)
    there = overlay.engines[overlay.names[4]].metrics(DERIVED)
    assert source is not None
    assert made is not None
    assert there is not None
    assert made.delay_ms == pytest.approx(source.delay_ms + delay_ms, abs=2)
    assert made.spread_ms >= spread_ms
    assert made.path == (overlay.names[1],)
    assert there.delay_ms > made.delay_ms
    assert there.least_bound_ms >= source.least_bound_ms + delay_ms + spread_ms - 2


def test_a_bound_that_the_making_breaks_is_refused_with_one_that_holds() -> None:
    overlay = making(6, 3, 400.0, 20.0)
    refused = overlay.subscribe(4, 300.0, DERIVED)
    assert isinstance(refused, fx.Refused)
    assert refused.best is not None
    offer = refused.contract.counter(refused.best)
    assert offer.bound_ms > 420.0
    assert isinstance(overlay.subscribe(4, offer.bound_ms + 50, DERIVED), fx.Admitted)


def test_a_change_in_the_making_reaches_those_who_receive() -> None:
    overlay = making(6, 5, 10.0, 1.0)
    assert isinstance(overlay.subscribe(3, BOUND_MS, DERIVED), fx.Admitted)
    overlay.run(SETTLE_S)
    before = overlay.engines[overlay.names[3]].metrics(DERIVED)
    overlay.handle(overlay.names[1], ev.ProcessingMeasured(DERIVED, 210.0, 1.0))
    overlay.run(SETTLE_S)
    after = overlay.engines[overlay.names[3]].metrics(DERIVED)
    assert before is not None
    assert after is not None
    assert after.delay_ms == pytest.approx(before.delay_ms + 200.0, abs=5)


def test_a_channel_made_from_a_made_one_adds_both_up() -> None:
    overlay = making(6, 7, 50.0, 1.0)
    third = ChannelName("quarter")
    assert isinstance(overlay.subscribe(2, BOUND_MS, DERIVED), fx.Admitted)
    overlay.handle(overlay.names[2], ev.PublishRequested(third, Tree.HYBRID, DERIVED))
    overlay.handle(overlay.names[2], ev.ProcessingMeasured(third, 70.0, 1.0))
    overlay.run(SETTLE_S)
    made = overlay.engines[overlay.names[2]].metrics(third)
    source = overlay.engines[overlay.names[1]].metrics(CHANNEL)
    assert made is not None
    assert source is not None
    assert made.delay_ms > source.delay_ms + 50.0 + 70.0


def test_the_maker_may_be_the_publisher_itself() -> None:
    overlay = Overlay(random_delays(4, 2), live_region(4), seed=2)
    overlay.run(WARM_S)
    overlay.publish(0)
    overlay.handle(overlay.names[0], ev.PublishRequested(DERIVED, Tree.HYBRID, CHANNEL))
    overlay.handle(overlay.names[0], ev.ProcessingMeasured(DERIVED, 30.0, 0.0))
    overlay.run(SETTLE_S)
    made = overlay.engines[overlay.names[0]].metrics(DERIVED)
    assert made is not None
    assert made.delay_ms == pytest.approx(30.0)
