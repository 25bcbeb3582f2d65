"""Properties of contracts: terms hop by hop, counter-offers that are granted, uplinks and reserved copies that are respected."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.engine.protocol.ranges import NUMBER_MAX
from cubecast.engine.protocol.records import Compliance, Tree
from cubecast.overlay.cube import Cube
from cubecast.simulation.shells.media import FRAME_BYTES
from cubecast.types import ChannelName, HostId
from tests.engine.in_memory import CHANNEL, Overlay, random_delays

COPY_BPS = 8 * FRAME_BYTES / 0.1
OTHER = ChannelName("other")
NO_BOUND_MS = 100_000.0

delays = st.floats(0, 1000)
losses = st.floats(0, 0.9)
contracts = st.builds(
    Contract, bound_ms=st.floats(1, 5000), rate_bps=st.floats(0, 1e9), loss=st.one_of(losses, st.just(1.0))
)


def overlay_of(hosts: int, seed: int, uplink_bps: float = NUMBER_MAX, **reserve: int) -> Overlay:
    overlay = Overlay(
        random_delays(hosts, seed), Cube(2, 4), seed=seed, fan_out=4, uplink_bps=uplink_bps,
        reserve={ChannelName(name): copies for name, copies in reserve.items()},
    )  # fmt: skip
    overlay.run(4.0)
    return overlay


@given(contracts, delays, delays, losses, losses, st.floats(0, 1e9))
def test_what_must_hold_at_the_parent_is_what_must_hold_behind_the_link(
    contract: Contract, there_ms: float, link_ms: float, there_loss: float, link_loss: float, rate_bps: float
) -> None:
    there = PathMetrics(there_ms, 0.0, (HostId("p"),), loss=there_loss, rate_bps=rate_bps)
    loss = 1 - (1 - there_loss) * (1 - link_loss)
    here = PathMetrics(there_ms + link_ms, 0.0, (HostId("p"), HostId("c")), loss=loss, rate_bps=rate_bps)
    before = contract.before(link_ms, link_loss)
    close = abs(here.delay_ms - contract.bound_ms) < 1e-6 or abs(loss - contract.loss) < 1e-6
    assert close or before.kept_by(there) == contract.kept_by(here)


@given(contracts, contracts, delays, losses, st.floats(0, 1e9))
def test_what_keeps_both_contracts_keeps_each(
    one: Contract, other: Contract, delay_ms: float, loss: float, rate_bps: float
) -> None:
    metrics = PathMetrics(delay_ms, 1.0, (HostId("p"),), loss=loss, rate_bps=rate_bps)
    assert one.both(other).kept_by(metrics) == (one.kept_by(metrics) and other.kept_by(metrics))


def test_a_relay_leaves_a_lossy_parent_for_those_below_it() -> None:
    """The relay itself has no bound on loss; its child has one, and no other parent keeps the child's bound on delay."""
    delay_ms = np.full((4, 4), 10.0)
    delay_ms[0, 2] = delay_ms[2, 0] = delay_ms[3, 2] = delay_ms[2, 3] = 400.0
    overlay = Overlay(delay_ms, Cube(2, 2), seed=2, fan_out=4)
    overlay.run(6.0)
    publisher, relay, below, other = overlay.names
    overlay.publish(0)
    strict = Contract(200.0, loss=0.05)
    for index, contract in ((3, Contract(NO_BOUND_MS)), (1, Contract(NO_BOUND_MS)), (2, strict)):
        assert isinstance(overlay.subscribe(index, contract), fx.Admitted)
    overlay.run(5.0)
    assert [overlay.engines[host].upstream(CHANNEL) for host in (relay, below)] == [publisher, relay]
    for count in range(1, 200):
        overlay.run(0.1)
        overlay.handle(relay, ev.LinkSampled(publisher, 20.0, 20 * count, 100 * count))
    assert [overlay.engines[host].upstream(CHANNEL) for host in (relay, below)] == [other, relay]
    metrics = overlay.engines[below].metrics(CHANNEL)
    assert metrics is not None
    assert strict.kept_by(metrics)


@given(contracts, delays, losses, st.floats(0, 1e9))
def test_a_counter_offer_is_kept_and_gives_no_more_away_than_it_must(
    contract: Contract, delay_ms: float, loss: float, rate_bps: float
) -> None:
    metrics = PathMetrics(delay_ms, 1.0, (HostId("p"),), loss=loss, rate_bps=rate_bps)
    offer = contract.counter(metrics)
    assert offer.kept_by(metrics)
    assert (offer == contract) == contract.kept_by(metrics)
    assert offer.bound_ms >= contract.bound_ms
    assert offer.rate_bps <= contract.rate_bps
    assert offer.loss >= contract.loss


@settings(max_examples=8, deadline=None)
@given(st.integers(5, 14), st.integers(0, 1000), st.sampled_from(list(Tree)), st.integers(1, 3))
@example(12, 677, Tree.GRAFT, 2)  # a relay whose rate was measured from before its media arrived
def test_no_uplink_is_promised_more_than_it_carries(hosts: int, seed: int, tree: Tree, copies: int) -> None:
    uplink_bps = (copies + 0.5) * COPY_BPS
    overlay = overlay_of(hosts, seed, uplink_bps)
    overlay.publish(0, tree=tree)
    overlay.run(8.0)  # the rate is measured
    admitted = 0
    for index in range(1, hosts):
        admitted += isinstance(overlay.subscribe(index, NO_BOUND_MS), fx.Admitted)
        overlay.run(6.0)  # every relay has measured it too
        for host, engine in overlay.engines.items():
            for branch in engine.branches():
                assert len(branch.below.children) <= copies, f"{host} sends more than its uplink takes"
    assert admitted >= copies


def test_a_rate_nobody_can_carry_is_refused_with_one_that_is_granted() -> None:
    overlay = overlay_of(8, 3, uplink_bps=10 * COPY_BPS)
    overlay.publish(0)
    overlay.run(12.0)
    refused = overlay.subscribe(5, Contract(NO_BOUND_MS, rate_bps=3 * COPY_BPS))
    assert isinstance(refused, fx.Refused)
    assert refused.best is not None
    offer = refused.contract.counter(refused.best)
    assert COPY_BPS / 2 < offer.rate_bps < 1.5 * COPY_BPS, "the channel has no more"
    assert offer.bound_ms == NO_BOUND_MS
    assert isinstance(overlay.subscribe(5, Contract(NO_BOUND_MS, rate_bps=0.9 * offer.rate_bps)), fx.Admitted)


def test_a_lossy_path_is_refused_where_loss_is_bounded_and_taken_where_it_is_not() -> None:
    overlay = overlay_of(8, 4)
    overlay.publish(0)
    strict, easy, here = Contract(NO_BOUND_MS, loss=0.01), Contract(NO_BOUND_MS), overlay.names[6]
    handle, sent = overlay.handle, Counter[HostId]()

    def lossy(host: HostId, event: ev.Event) -> None:
        if host == here and isinstance(event, ev.LinkSampled):
            sent[event.host] += 100
            event = replace(event, packets_lost=sent[event.host] // 5, packets_sent=sent[event.host])
        handle(host, event)

    overlay.handle = lossy  # type: ignore[method-assign]
    overlay.run(6.0)
    refused = overlay.subscribe(6, strict)
    assert isinstance(refused, fx.Refused)
    assert refused.best is not None
    assert refused.best.loss == pytest.approx(0.2, rel=0.5)
    assert isinstance(overlay.subscribe(6, easy), fx.Admitted)


def test_copies_kept_for_a_channel_are_there_for_it_and_for_no_other() -> None:
    overlay = overlay_of(12, 5, clip=3)
    overlay.publish(0, tree=Tree.HYBRID)
    overlay.publish(0, OTHER, tree=Tree.HYBRID)
    for index in (1, 2, 3):
        overlay.subscribe(index, NO_BOUND_MS, OTHER)
        assert len(children(overlay, OTHER)) <= 1, "takes copies kept for another channel"
    for index in range(4, 12):
        assert isinstance(overlay.subscribe(index, NO_BOUND_MS), fx.Admitted)
    assert len(children(overlay, CHANNEL)) >= 3


def children(overlay: Overlay, channel: ChannelName) -> list[HostId]:
    return [c for b in overlay.engines[overlay.names[0]].branches() if b.channel == channel for c in b.below.children]


def test_the_compliance_with_a_contract_is_reported_to_the_directory() -> None:
    overlay = overlay_of(6, 6)
    overlay.publish(0)
    overlay.subscribe(4, Contract(NO_BOUND_MS, rate_bps=1.0, loss=0.5))
    compliance = Compliance(kept_s=7, violated_s=2, late_s=2)
    overlay.handle(overlay.names[4], ev.ContractMeasured(CHANNEL, compliance))
    overlay.run(6.0)
    (line,) = (line for line in overlay.directory.subscriptions() if line.subscriber == overlay.names[4])
    assert (line.compliance, line.rate_bps, line.loss) == (compliance, 1.0, 0.5)
