"""Properties of the directory's configuration: it is read from a dict, checked, and each component obeys its part."""

import contextlib
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import fields

from cubecast.engine.directory import events as d
from cubecast.engine.directory.config import (
    DIRECTORY_DEFAULTS,
    DirectoryConfig,
    LeaseConfig,
    PlannerConfig,
    RelocationConfig,
)
from cubecast.engine.directory.cube.relocation import CubeSubscription, Relocation
from cubecast.engine.directory.delay_table import DelayTable
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.engine.directory.job_placement import AUTO
from cubecast.engine.directory.planner import Planner
from cubecast.engine.protocol.job_records import Job
from cubecast.engine.protocol.records import SubscriptionRecord, Verdict
from cubecast.errors import DirectoryError, UsageError
from cubecast.overlay.cube import Cube
from cubecast.types import ChannelName, HostId, Label
from tests.engine.directory.test_directory import joined
from tests.engine.directory.test_planner import Group

P, A, CLIP = HostId("p"), HostId("a"), ChannelName("clip")


def test_a_dict_gives_the_fields_it_names_and_leaves_the_others_at_their_defaults() -> None:
    config = msgspec.convert({"lease": {"lease_s": 9}, "relocation": {"form": "off"}}, DirectoryConfig)
    assert (config.lease.lease_s, config.relocation.form) == (9.0, "off")
    assert config.lease.suspect_lease_s == DIRECTORY_DEFAULTS.lease.suspect_lease_s
    assert config.planner == DIRECTORY_DEFAULTS.planner
    assert msgspec.convert(msgspec.to_builtins(config), DirectoryConfig) == config


@pytest.mark.parametrize("settings", [{"leases": {}}, {"lease": {"lease": 9}}, {"jobs": {"lease_s": "long"}}])
def test_an_unknown_field_or_a_wrong_type_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(settings, DirectoryConfig)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"lease": {"lease_s": -1}}, "lease_s"),
        ({"lease": {"lease_s": float("nan")}}, "lease_s"),
        ({"lease": {"suspect_lease_s": 7}}, "suspect_lease_s"),
        ({"shape": {"labels_max": 0}}, "labels_max"),
        ({"channels": {"proposals_max": -1}}, "proposals_max"),
        ({"delay_table": {"increase_gain": 1.5}}, "increase_gain"),
        ({"planner": {"moves_min": 0}}, "moves_min"),
        ({"relocation": {"depth": 17}}, "depth"),
        ({"jobs": {"sites_max": 0}}, "sites_max"),
    ],
)
def test_a_value_out_of_range_is_refused_in_one_line_that_names_it(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError, match=field) as refused:
        msgspec.convert(settings, DirectoryConfig)
    assert "\n" not in str(refused.value)


COMPONENTS = {each.name: type(getattr(DIRECTORY_DEFAULTS, each.name)) for each in fields(DIRECTORY_DEFAULTS)}
NUMBERS = [
    (component, each.name, each.type)
    for component, config in COMPONENTS.items()
    for each in fields(config)
    if each.type in (int, float)
]


@pytest.mark.parametrize(("component", "field", "kind"), NUMBERS)
def test_no_number_may_be_negative_or_unlimited(component: str, field: str, kind: type) -> None:
    for value in (-1, 1 << 30, *([float("nan"), float("inf")] if kind is float else [])):
        with pytest.raises(UsageError, match=field):
            msgspec.convert({component: {field: value}}, DirectoryConfig)


@pytest.mark.parametrize("component", COMPONENTS)
def test_no_component_takes_a_field_it_does_not_have(component: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({component: {"no_such_field": 1}}, DirectoryConfig)


@pytest.mark.parametrize("limit", ["hosts_max", "subscribers_max"])
def test_relocation_is_off_where_it_may_consider_no_host_or_no_subscription(limit: str) -> None:
    seats, requested = {A: Label(1), P: Label(0)}, CubeSubscription(A, P, 10.0, False)
    for most, verdict in ((8, Verdict.LATER), (0, Verdict.STAYS)):
        settings = msgspec.convert({limit: most}, RelocationConfig)
        relocation = Relocation(DelayTable(DIRECTORY_DEFAULTS.delay_table), settings)
        assert relocation.partner(Cube(2, 1), seats, set(), requested, []) == verdict


@pytest.mark.parametrize("most", [8, 0])
def test_no_tree_is_planned_where_a_planned_group_may_have_no_host(most: int) -> None:
    group = Group(8, 7, 5)
    for above, below in pairwise(group.names):  # a chain
        group.parents[below] = above
    group.planner = Planner(group.delay_table, np.random.default_rng(1), PlannerConfig(group_max=most))
    assert bool(sum(group.run(20.0))) == bool(most)


def directory_with(settings: dict[str, Any]) -> DirectoryEngine:
    """A directory with two hosts."""
    config = msgspec.convert(settings, DirectoryConfig)
    directory = DirectoryEngine(Cube(2, 2), np.random.default_rng(1), config)
    for host in (P, A):
        directory.handle(joined(host), 0.0)
    return directory


@pytest.mark.parametrize("most", [8, 0])
def test_no_parent_is_proposed_no_subscription_stored_and_no_channel_announced_where_none_is_allowed(most: int) -> None:
    directory = directory_with({"channels": {"proposals_max": most, "subscriptions_per_host_max": most}})
    directory.handle(d.ChannelAnnounced(P, CLIP), 0.0)
    directory.handle(d.SubscriptionReported(SubscriptionRecord(CLIP, A, 10.0, "searching")), 0.0)
    assert bool(directory.proposals(A, CLIP)) == bool(directory.subscriptions()) == bool(most)
    refusing = directory_with({"channels": {"channels_per_host_max": most}})
    with contextlib.nullcontext() if most else pytest.raises(DirectoryError, match="already publishes 0"):
        refusing.handle(d.ChannelAnnounced(P, CLIP), 0.0)


@pytest.mark.parametrize("most", [8, 0])
def test_no_job_is_accepted_where_none_is_allowed(most: int) -> None:
    directory = directory_with({"jobs": {"jobs_max": most}})
    job = Job(ChannelName("small"), CLIP, "me", "ab" * 32)
    with contextlib.nullcontext() if most else pytest.raises(DirectoryError, match="there are 0"):
        directory.handle(d.JobWanted(job, AUTO, has_module=True), 0.0)


def test_the_engine_obeys_its_configuration() -> None:
    lease = LeaseConfig(lease_s=1.0, suspect_lease_s=0.5)
    directory = DirectoryEngine(Cube(2, 2), np.random.default_rng(1), DirectoryConfig(lease=lease))
    directory.handle(joined("a"), 0.0)
    assert directory.handle(d.LeaseTick(), 0.9) == []
    assert d.DeleteHost(HostId("a")) in directory.handle(d.LeaseTick(), 1.1)
