"""Laws of the host's configuration: how it is read, and what its defaults must give together."""

import msgspec
import pytest
from msgspec.structs import fields

from cubecast.engine.host.config import DEFAULT, EngineConfig

COMPONENTS = [each.name for each in fields(DEFAULT) if isinstance(getattr(DEFAULT, each.name), msgspec.Struct)]


def test_the_defaults_are_within_the_ranges_that_a_scenario_is_held_to() -> None:
    assert msgspec.convert(msgspec.to_builtins(DEFAULT), EngineConfig) == DEFAULT


@pytest.mark.parametrize("component", COMPONENTS)
def test_no_component_takes_a_field_it_does_not_have(component: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({component: {"no_such_field": 1}}, EngineConfig)


def test_a_period_is_at_least_one_tick_and_a_gain_above_zero() -> None:
    config = msgspec.convert({"tree": {"update_ticks": 1}, "estimate": {"rtt_gain": 1.0}}, EngineConfig)
    assert (config.tree.update_ticks, config.estimate.rtt_gain) == (1, 1.0)
    for settings in ({"tree": {"update_ticks": 0}}, {"estimate": {"rtt_gain": 0.0}}, {"estimate": {"rtt_gain": 1.1}}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(settings, EngineConfig)


def test_a_dead_parent_is_found_and_its_slot_given_to_its_orphan_within_half_a_second() -> None:
    found_ticks = DEFAULT.failure.silent_ticks
    assert (found_ticks + DEFAULT.search.answer_ticks) * DEFAULT.tick_s <= 0.5
    assert DEFAULT.tree.dead_ticks <= found_ticks, "the orphan does not wait for its grandparent to notice"
    assert DEFAULT.tree.pause_ticks + DEFAULT.tree.dead_ticks <= found_ticks, "it is asked as soon as media pauses"


def test_one_lost_message_makes_no_host_look_dead() -> None:
    assert 2 * DEFAULT.links.ping_ticks < DEFAULT.links.unanswered_ticks
    assert DEFAULT.tree.pause_ticks < DEFAULT.failure.silent_ticks
    assert DEFAULT.tree.idle_update_ticks < DEFAULT.tree.idle_silent_ticks
    assert 2 * DEFAULT.links.heartbeat_ticks < DEFAULT.tree.child_ticks, "contracts and standby requests go with them"
    assert 2 * DEFAULT.tree.update_ticks < DEFAULT.tree.stale_fed_ticks


def test_a_search_ends_before_what_it_was_offered_expires() -> None:
    search = DEFAULT.search
    assert search.search_ticks < search.offer_ticks
    assert search.probe_ticks < search.search_ticks
    assert search.answer_ticks + search.park_ticks < search.change_ticks, "a parked request is answered in time"
    assert DEFAULT.tree.dead_ticks < search.park_ticks, "an orphan waits until its dead parent's slot is free"


def test_a_stream_is_given_up_only_after_several_parents_were_tried() -> None:
    tree, search = DEFAULT.tree, DEFAULT.search
    tried_ticks = search.answer_ticks + search.park_ticks + search.retry_ticks
    assert DEFAULT.failure.silent_ticks_max + search.shun_ticks + 3 * tried_ticks < tree.repair_ticks
    assert tree.pull_ticks < tree.repair_ticks
    assert DEFAULT.links.redial_soon_ticks < tree.repair_ticks
