"""Finds or generates a physical network by the name or file that the user gives."""

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
"""Name of the network in which all delays are 0."""
PUBLISHED_HOSTS = 65_536
"""Number of hosts in the slides' experiments."""
NAMES = "none (no delay at all), transit-stub, transit-stub-high-access, transit-stub:10x5x10x10 (domains, routers, stubs, routers), a topohub name such as sndlib/germany50, or a file: RTTs in ms, or a saved network"
"""The valid names, for error messages and help."""


def load_network(name: str, hosts: int | None, seed: int) -> PhysicalNetwork:
    """A network by name (see NAMES), or from a file: a matrix of RTTs in ms, or one written by `save_network`.

    Args:
        name: name or path.
        hosts: number of hosts; None for all hosts of a file.
        seed: seed of the generator, or of the choice of hosts from a matrix; saved networks ignore it.

    Raises:
        NetworkFileError: there is no such file, or it contains no network.
        UsageError: the name is unknown, or the number of hosts is missing or out of range.
    """
    path = Path(name)
    if not name:
        raise UsageError(f"the name of the network is empty; give {NAMES}")
    if name == NO_DELAY:
        hosts = _required(name, hosts)
        check_hosts(hosts)
        return unrouted(name, np.zeros((hosts, hosts)))
    if name.startswith("transit-stub"):
        return replace(transit_stub(_required(name, hosts), seed, _parse_transit_stub(name)), name=name)
    if path.exists():
        return load_saved(path, hosts) if path.suffix == SUFFIX else measured(path, hosts, seed)
    if path.suffix or path.is_absolute() or name.startswith("."):
        raise NetworkFileError(f"cannot read latency matrix {path}: no such file")
    return backbone(name, _required(name, hosts), seed)


def is_file(name: str) -> bool:
    """Whether a network's name is that of an existing file, which determines the number of hosts."""
    return name != NO_DELAY and not name.startswith("transit-stub") and Path(name).exists()


def _required(name: str, hosts: int | None) -> int:
    if hosts is None:
        raise UsageError(f"network {name} has no fixed number of hosts; say how many")
    return hosts


def _parse_transit_stub(name: str) -> TransitStub:
    match = re.fullmatch(r"transit-stub(-high-access)?(?::(\d{1,4})x(\d{1,4})x(\d{1,4})x(\d{1,4}))?", name)
    if match is None:
        raise UsageError(f"network {name!r} is not known; give transit-stub, or a size such as transit-stub:4x4x3x8")
    access_ms = HIGH_ACCESS_MS if match[1] else ACCESS_MS
    if match[2] is None:
        return TransitStub(access_ms=access_ms)
    return TransitStub(int(match[2]), int(match[3]), int(match[4]), int(match[5]), access_ms=access_ms)
