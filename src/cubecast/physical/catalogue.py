"""Networks by the names users give them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from cubecast.errors import NetworkFileError, UsageError
from cubecast.physical.backbone import backbone
from cubecast.physical.measured import measured
from cubecast.physical.network import PhysicalNetwork, check_hosts, unrouted
from cubecast.physical.saved import SUFFIX, load_saved
from cubecast.physical.transit_stub import ACCESS_MS, HIGH_ACCESS_MS, TransitStub, transit_stub

NO_DELAY = "none"
PUBLISHED_HOSTS = 65_536
"""Hosts of the slides' experiments."""
NAMES = "none (no delay at all), transit-stub, transit-stub-high-access, transit-stub:10x5x10x10 (domains, routers, stubs, routers), a topohub name such as sndlib/germany50, or a file: RTTs in ms, or a saved network"


def load_network(name: str, hosts: int | None, seed: int) -> PhysicalNetwork:
    """A network by name, or from a file of RTTs in ms or of `save_network`.

    Args:
        hosts: how many; None for all hosts of a file.

    Raises:
        NetworkFileError: no such file, or it holds no network.
        UsageError: the name is unknown, or the network cannot seat the hosts.
    """
    path = Path(name)
    if not name:
        raise UsageError(f"a network without a name; give {NAMES}")
    if name == NO_DELAY:
        hosts = _needed(name, hosts)
        check_hosts(hosts)
        return unrouted(name, np.zeros((hosts, hosts)))
    if name.startswith("transit-stub"):
        return replace(transit_stub(_needed(name, hosts), seed, _parse_transit_stub(name)), name=name)
    if path.exists():
        return load_saved(path, hosts) if path.suffix == SUFFIX else measured(path, hosts, seed)
    if path.suffix or path.is_absolute() or name.startswith("."):
        raise NetworkFileError(f"cannot read latency matrix {path}: no such file")
    return backbone(name, _needed(name, hosts), seed)


def is_file(name: str) -> bool:
    """Whether a network's name is a file, which brings its own number of hosts."""
    return name != NO_DELAY and not name.startswith("transit-stub") and Path(name).exists()


def _needed(name: str, hosts: int | None) -> int:
    if hosts is None:
        raise UsageError(f"network {name} has no hosts of its own; say how many")
    return hosts


def _parse_transit_stub(name: str) -> TransitStub:
    match = re.fullmatch(r"transit-stub(-high-access)?(?::(\d{1,4})x(\d{1,4})x(\d{1,4})x(\d{1,4}))?", name)
    if match is None:
        raise UsageError(f"network {name!r} is not known; give transit-stub, or a size such as transit-stub:4x4x3x8")
    access_ms = HIGH_ACCESS_MS if match[1] else ACCESS_MS
    if match[2] is None:
        return TransitStub(access_ms=access_ms)
    return TransitStub(int(match[2]), int(match[3]), int(match[4]), int(match[5]), access_ms=access_ms)
