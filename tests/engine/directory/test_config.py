"""Properties of the directory's configuration: it is read from a dict, checked, and each component obeys its part."""

from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import fields

from cubecast.engine.directory import events as d
from cubecast.engine.directory.config import DIRECTORY_DEFAULTS, DirectoryConfig, LeaseConfig
from cubecast.engine.directory.engine import DirectoryEngine
from cubecast.errors import UsageError
from cubecast.overlay.cube import Cube
from cubecast.types import HostId
from tests.engine.directory.test_directory import joined


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


@pytest.mark.parametrize(
    "settings",
    [
        {"relocation": {"hosts_max": 0}},
        {"relocation": {"subscribers_max": 0}},
        {"planner": {"group_max": 0}},
        {"channels": {"proposals_max": 0}},
        {"jobs": {"jobs_max": 0}},
    ],
)
def test_a_limit_of_zero_is_allowed_and_turns_off_what_it_limits(settings: dict[str, Any]) -> None:
    config = msgspec.convert(settings, DirectoryConfig)
    assert {
        component: {name: getattr(getattr(config, component), name) for name in given}
        for component, given in settings.items()
    } == settings


def test_the_engine_obeys_its_configuration() -> None:
    lease = LeaseConfig(lease_s=1.0, suspect_lease_s=0.5)
    directory = DirectoryEngine(Cube(2, 2), np.random.default_rng(1), DirectoryConfig(lease=lease))
    directory.handle(joined("a"), 0.0)
    assert directory.handle(d.LeaseTick(), 0.9) == []
    assert d.DeleteHost(HostId("a")) in directory.handle(d.LeaseTick(), 1.1)
