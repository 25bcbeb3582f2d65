"""Scenarios of a simulation: TOML files, checked; docs/testbed.md describes every field."""

import tomllib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from cubecast.engine.directory.config import DirectoryConfig
from cubecast.engine.host.config import DEFAULT, EngineConfig
from cubecast.engine.protocol.records import FAN_OUT_MAX, Tree
from cubecast.errors import LabError, UsageError
from cubecast.overlay.routing import Policy

BOUND_MS_MAX = 3_600_000.0
"""Largest bound and processing time of a scenario, ms: one hour."""
Share = Annotated[float, Meta(ge=0, le=1)]
Moment = Annotated[float, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class Churn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How hosts leave and join, evenly over the simulated time.

    Attributes:
        share: share of the hosts that leave; as many join.
        crashes: share of those that leave which crash instead.
    """

    share: Share = 0.0
    crashes: Share = 0.5


class Partition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A share of the hosts is cut off from all others, and from the super-node, for a while."""

    at_s: Moment
    for_s: Seconds
    share: Share = 0.1


class DirectoryOutage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The super-node is stopped, and starts again from its store."""

    at_s: Moment
    for_s: Seconds


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A scenario; its fields are those of the TOML file.

    Attributes:
        hosts: number of hosts at a time, about.
        subscribers: share of the hosts that subscribe, each to one channel, derived ones included.
        bound_ms: bounds are drawn evenly between the two.
        tick_s: time between two ticks of a host, s; detection and repair take longer in proportion.
        engine: tunables of the hosts' engines (cubecast.engine.host.config), but for tick_s.
        directory: tunables of the directory's engine (cubecast.engine.directory.config).
        warm_s: time to join and subscribe before anything is measured, s.
        seconds: simulated time after that, s.
        loss: share of messages between hosts that are lost.
        hidden: share of the hosts that can dial but cannot be dialled; publishers never are.
        jobs: number of derived channels, each made from one of the channels and wanted by an owner.
        willing: share of the hosts that process for others.
        process_slots: extensions that each of those runs at a time.
        processing_ms: processing times are drawn evenly between the two, one for each start of a job.
    """

    hosts: Annotated[int, Meta(ge=2, le=8192)]
    network: str = "transit-stub"
    tree: Tree = Tree.HYBRID
    policy: Policy = Policy.GREEDY
    channels: Annotated[int, Meta(ge=1, le=256)] = 1
    subscribers: Share = 0.5
    fan_out: Annotated[int, Meta(ge=1, le=FAN_OUT_MAX)] = 8
    bound_ms: tuple[float, float] = (500.0, 2000.0)
    tick_s: Annotated[float, Meta(ge=0.05, le=10)] = 1.0
    engine: EngineConfig = EngineConfig()
    directory: DirectoryConfig = DirectoryConfig()
    warm_s: Seconds = 60.0
    seconds: Seconds = 600.0
    loss: Share = 0.0
    hidden: Share = 0.0
    jobs: Annotated[int, Meta(ge=0, le=256)] = 0
    willing: Share = 0.3
    process_slots: Annotated[int, Meta(ge=1, le=64)] = 1
    processing_ms: tuple[float, float] = (5.0, 50.0)
    churn: Churn = Churn()
    partitions: tuple[Partition, ...] = ()
    directory_outages: tuple[DirectoryOutage, ...] = ()


def load_scenario(path: Path) -> Scenario:
    """The scenario of a file.

    Raises:
        LabError: the file cannot be read, is no TOML, or has a field that is unknown or out of range.
    """
    try:
        scenario = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Scenario)
    except OSError as error:
        raise LabError(f"cannot read scenario {path}: {error.strerror}") from error
    except RecursionError as error:
        raise LabError(f"scenario {path}: nested too deeply") from error
    except (ValueError, UsageError) as error:  # of TOML, of UTF-8, of a field, or of a number with thousands of digits
        raise LabError(f"scenario {path}: {error}") from error
    problem = _problem(scenario)
    if problem:
        raise LabError(f"scenario {path}: {problem}")
    return scenario


def _problem(scenario: Scenario) -> str:
    """What is wrong with fields that have the right types, in one line; empty if nothing is."""
    low, high = scenario.bound_ms
    if not 0 < low <= high <= BOUND_MS_MAX:
        return f"bound_ms is [least, most], above 0 and at most {BOUND_MS_MAX:g}"
    low, high = scenario.processing_ms
    if not 0 <= low <= high <= BOUND_MS_MAX:
        return f"processing_ms is [least, most], from 0 to {BOUND_MS_MAX:g}"
    if scenario.channels >= scenario.hosts:
        return f"{scenario.channels} channels need as many hosts to publish them, and one more"
    if scenario.engine.tick_s != DEFAULT.tick_s:
        return "tick_s is a field of the scenario, not of its table engine"
    if scenario.jobs and not scenario.willing:
        return f"{scenario.jobs} jobs need hosts that process for others; let willing be above 0"
    return _misplaced("partition", scenario.partitions, scenario.seconds) or _misplaced(
        "directory outage", scenario.directory_outages, scenario.seconds
    )


def _misplaced(what: str, faults: Sequence[Partition | DirectoryOutage], seconds: float) -> str:
    """Why faults cannot take place one after the other within the run; empty if they can."""
    ends = sorted((fault.at_s, fault.at_s + fault.for_s) for fault in faults)
    if any(end > begin for (_, end), (begin, _) in pairwise(ends)):
        return f"{what}s overlap; let one end before the next begins"
    late = [fault.at_s for fault in faults if not fault.at_s < seconds]
    return f"a {what} at {late[0]:g} s; the run ends after {seconds:g} s" if late else ""
