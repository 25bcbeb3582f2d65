"""The settings with which a host joins: super-node, token and the host's own, with the defaults of the command line."""

import os
import re
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

from cubecast.addresses import split_host_port
from cubecast.client.ranges import (
    PROCESS_MAX,
    RATE_BPS_MAX,
    SEED_MAX,
    check_whole,
    checked_choice,
    checked_positive,
    checked_reserve,
)
from cubecast.engine.protocol.ranges import NUMBER_MAX
from cubecast.engine.protocol.records import FAN_OUT_DEFAULT, FAN_OUT_MAX
from cubecast.errors import UsageError
from cubecast.host.config import HostConfig
from cubecast.names import check_name
from cubecast.overlay.routing import Policy
from cubecast.types import HostId

SUPERNODE_DEFAULT = "https://127.0.0.1:7000"
SUPERNODE_VARIABLE = "CUBECAST_SUPERNODE"
TOKEN_VARIABLE = "CUBECAST_TOKEN"  # noqa: S105  the variable's name, not a token

HOST_KEYS = "host-keys"
"""Folder in the state folder: the keys of hosts that were given a name, so that each comes back under it."""


def host_config(
    supernode: str | None = None,
    token: str | Path | None = None,
    *,
    name: str = "",
    listen: str = "0.0.0.0:0",
    advertise: str = "",
    source_address: str = "",
    label: str = "",
    fan_out: int = FAN_OUT_DEFAULT,
    uplink_bps: float = NUMBER_MAX,
    reserve: Mapping[str, int] | None = None,
    policy: Policy = Policy.GREEDY,
    seed: int = 0,
    process: int = 0,
    key: str | Path | None = None,
    trace: str | Path | None = None,
) -> HostConfig:
    """The settings of a host, checked. The arguments are those of cubecast.join.

    Raises:
        UsageError: an argument has no meaning; the message names it by its command-line option.
    """
    machine = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname().partition(".")[0])[:32] or "host"
    named, name = bool(name), name or f"{machine}-{secrets.token_hex(3)}"
    check_name("host name", name)
    split_address(listen, "--listen")
    if advertise:
        _check_advertised(advertise)
    if source_address:
        _check_source_address(source_address)
    check_whole("fan_out", fan_out, 0, FAN_OUT_MAX)
    checked_positive("uplink_bps", uplink_bps, RATE_BPS_MAX, "bit/s")
    check_whole("seed", seed, 0, SEED_MAX)
    check_whole("process", process, 0, PROCESS_MAX)
    return HostConfig(
        name=HostId(name),
        supernode=supernode or default_supernode(),
        token=read_token(token),
        listen=listen,
        advertise=advertise,
        source=source_address,
        label=label,
        fan_out=fan_out,
        uplink_bps=uplink_bps,
        reserve=checked_reserve(reserve or {}, fan_out),
        policy=checked_choice("policy", policy, Policy),
        seed=seed,
        process=process,
        key=Path(key) if key else state_folder() / HOST_KEYS / f"{name}.pem" if named else None,
        own_key=bool(key),
        trace=None if trace is None else Path(trace),
    )


def default_supernode() -> str:
    """The super-node's URL: CUBECAST_SUPERNODE, or else one on this machine."""
    return os.environ.get(SUPERNODE_VARIABLE) or SUPERNODE_DEFAULT


def state_folder() -> Path:
    """The folder in which a super-node keeps its state by default."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "cubecast"


def read_token(token: str | Path | None = None) -> str:
    """A join token.

    Args:
        token: the token itself, @FILE, or the path of a file. Without it CUBECAST_TOKEN counts, and without that the
            token that a super-node on this machine has left; empty if there is none.

    Raises:
        UsageError: the file cannot be read.
    """
    if isinstance(token, Path):
        return _read_token_file(token)
    text = token or os.environ.get(TOKEN_VARIABLE, "")
    if text and not text.startswith("@"):
        return text.strip()
    if text:
        return _read_token_file(Path(text[1:]))
    left = state_folder() / "join.token"
    return _read_token_file(left) if left.is_file() else ""


def _read_token_file(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read token file {file}: {getattr(error, 'strerror', 'not text')}") from error


def split_address(text: str, option: str) -> tuple[str, int]:
    """HOST:PORT split into its parts; an IPv6 host stands in brackets.

    Raises:
        UsageError: it is not of that form; the message names the option.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535 or (":" in host and host[0] != "["):
        raise UsageError(f"{option} {text!r} is not HOST:PORT, such as 0.0.0.0:4443 or [::]:4443")
    return host.strip("[]"), int(port)


def _check_advertised(address: str) -> None:
    """Checks that an address can be one that others dial; a name is resolved when the host joins.

    Raises:
        UsageError: it cannot.
    """
    try:
        split_host_port(address)
    except UsageError as error:
        raise UsageError(f"--advertise: {error}") from error


def _check_source_address(address: str) -> None:
    """Checks that outgoing sessions can come from an address.

    Raises:
        UsageError: it is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            raise UsageError(
                f"--source-address {address!r} is not an address of this machine: {error.strerror}"
            ) from error
