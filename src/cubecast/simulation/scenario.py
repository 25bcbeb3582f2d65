"""Scenarios of a simulation: TOML files, checked; docs/testbed.md describes every field."""

import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from cubecast.engine.host.config import EngineConfig
from cubecast.engine.protocol.records import FAN_OUT_MAX, Tree
from cubecast.errors import LabError
from cubecast.overlay.routing import Policy

BOUND_MS_MAX = 3_600_000.0
Share = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class Churn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How hosts come and go, evenly over the simulated time.

    Attributes:
        share: of the hosts that leave; as many join.
        crashes: of those that leave, the share that crash instead.
    """

    share: Share = 0.0
    crashes: Share = 0.5


class Partition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A share of the hosts is cut off from all others for a while."""

    at_s: Annotated[float, Meta(ge=0)]
    for_s: Seconds
    share: Share = 0.1


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is simulated.

    Attributes:
        hosts: at a time, about.
        subscribers: the share of hosts that subscribe, each to one channel.
        bound_ms: bounds are drawn evenly between the two.
        tick_s: how often hosts tick; detection and repair take so many times longer than live.
        warm_s: for joining and subscribing, before anything is counted.
        seconds: simulated after that.
        loss: share of messages between hosts that get lost.
        engine: tunables of the hosts' engines (cubecast.engine.host.config); its tick_s is that of the scenario.
        hidden: share of the hosts that can dial and not be dialled, publishers left aside.
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
    warm_s: Seconds = 60.0
    seconds: Seconds = 600.0
    loss: Share = 0.0
    hidden: Share = 0.0
    engine: EngineConfig = EngineConfig()
    churn: Churn = Churn()
    partitions: tuple[Partition, ...] = ()


def load_scenario(path: Path) -> Scenario:
    """The scenario of a file.

    Raises:
        LabError: it cannot be read, is no TOML, or a field is unknown or out of range.
    """
    try:
        scenario = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Scenario)
    except OSError as error:
        raise LabError(f"cannot read scenario {path}: {error.strerror}") from error
    except RecursionError as error:
        raise LabError(f"scenario {path}: nested too deeply") from error
    except ValueError as error:  # of TOML, of UTF-8, of a field, or of a number with thousands of digits
        raise LabError(f"scenario {path}: {error}") from error
    low, high = scenario.bound_ms
    if not 0 < low <= high <= BOUND_MS_MAX:
        raise LabError(f"scenario {path}: bound_ms is [least, most], above 0 and at most {BOUND_MS_MAX:g}")
    ends = sorted((part.at_s, part.at_s + part.for_s) for part in scenario.partitions)
    if any(end > begin for (_, end), (begin, _) in pairwise(ends)):
        raise LabError(f"scenario {path}: partitions overlap; let one end before the next begins")
    late = [part.at_s for part in scenario.partitions if not part.at_s < scenario.seconds]
    if late:
        raise LabError(f"scenario {path}: a partition at {late[0]:g} s; the run ends after {scenario.seconds:g} s")
    if scenario.channels >= scenario.hosts:
        raise LabError(
            f"scenario {path}: {scenario.channels} channels need as many hosts to publish them, and one more"
        )
    return scenario
