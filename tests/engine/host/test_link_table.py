"""What a host takes into the estimates of its links."""

import pytest

from cubecast.engine.host.config import DEFAULT
from cubecast.engine.host.link_estimate import LinkEstimate
from cubecast.engine.host.link_table import Link, LinkTable
from cubecast.types import HostId

PARENT = HostId("p")


def test_of_a_parent_the_transports_round_trips_count_only_until_there_are_enough_samples() -> None:
    table = LinkTable(DEFAULT.links, DEFAULT.tick_s)
    table.by_host[PARENT] = Link(None, LinkEstimate(), up=True)
    table.followed = {PARENT}
    for _ in range(DEFAULT.links.samples_ready):
        table.sampled(PARENT, 40.0, 0, 0)
    assert table.samples(PARENT) == DEFAULT.links.samples_ready
    assert table.one_way_ms(PARENT) == pytest.approx(20.0)
    for second in range(1, 5):
        table.sampled(PARENT, 400.0, 50 * second, 100 * second)
    assert table.samples(PARENT) == DEFAULT.links.samples_ready
    assert table.one_way_ms(PARENT) == pytest.approx(20.0)
    assert table.loss(PARENT) > 0.1, "losses count all the time"


def test_new_links_are_sampled_every_tick_and_others_with_the_period_of_their_use() -> None:
    table = LinkTable(DEFAULT.links, DEFAULT.tick_s)
    table.by_host[PARENT] = link = Link(None, LinkEstimate(), up=True)
    sampled = {True: 0, False: 0}
    for link.ticks in range(DEFAULT.links.sample_ticks * 4):
        assert table.to_sample(()) == [PARENT], "it is new"
    for _ in range(DEFAULT.links.samples_ready):
        table.sampled(PARENT, 40.0, 0, 0)
    for link.ticks in range(DEFAULT.links.sample_ticks * 4):
        for in_use in sampled:
            sampled[in_use] += len(table.to_sample({PARENT} if in_use else ()))
    assert sampled[False] == 4
    assert sampled[True] == 4 * DEFAULT.links.sample_ticks // DEFAULT.links.sample_ticks_in_use
    link.up = False
    assert not table.to_sample({PARENT})


def test_statistics_that_come_once_a_link_is_down_or_gone_change_nothing() -> None:
    table = LinkTable(DEFAULT.links, DEFAULT.tick_s)
    table.by_host[PARENT] = link = Link(None, LinkEstimate(), up=True)
    table.sampled(PARENT, 40.0, 0, 100)
    link.up = False
    table.sampled(PARENT, 400.0, 50, 200)
    assert link.estimate.one_way_ms == pytest.approx(20.0)
    assert (link.estimate.samples, table.loss(PARENT)) == (1, 0.0)
    del table.by_host[PARENT]
    table.sampled(PARENT, 400.0, 50, 200)
    assert PARENT not in table


def test_a_link_that_is_down_or_unknown_has_no_samples() -> None:
    table = LinkTable(DEFAULT.links, DEFAULT.tick_s)
    assert table.samples(PARENT) == 0
    table.by_host[PARENT] = link = Link(None, LinkEstimate(), up=True)
    for _ in range(DEFAULT.links.samples_ready):
        table.sampled(PARENT, 40.0, 0, 0)
    link.up = False
    assert table.samples(PARENT) == 0, "what was measured before may no longer hold"
