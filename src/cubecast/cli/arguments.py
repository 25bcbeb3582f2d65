"""Arguments that several commands share, and their parsing. Errors are one line and exit status 2."""

import argparse
import os
import re
import socket
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import NoReturn, TypeVar

from cubecast.engine.protocol.path import NUMBER_MAX
from cubecast.engine.protocol.records import FAN_OUT_DEFAULT, FAN_OUT_MAX, Tree, check_address, check_name
from cubecast.errors import UsageError
from cubecast.host.config import HostConfig
from cubecast.overlay.routing import Policy
from cubecast.types import ChannelName, HostId

SUPERNODE_DEFAULT = "http://127.0.0.1:7000"
BOUND_MS_MAX = 3_600_000.0
RATE_BPS_MAX = 1e12
PROCESS_MAX = 1024

E = TypeVar("E", bound=StrEnum)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Ends with one line and exit status 2."""
        self.exit(2, f"cubecast: {message}; see {self.prog} --help\n")


def state_folder() -> Path:
    """Where a super-node keeps its state unless told otherwise."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "cubecast"


def whole_number(low: int, high: int) -> "type[int]":
    """An argparse type: a whole number in low..high."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,12}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number in {low}..{high}")
        return int(text)

    return parse  # type: ignore[return-value]


def milliseconds(text: str) -> float:
    """An argparse type: a time such as 150ms, 0.2s or 150 (ms)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s)?", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 150ms or 0.2s")
    value = float(match[1]) * (1000 if match[2] == "s" else 1)
    if not 0 < value <= BOUND_MS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is outside 0..{BOUND_MS_MAX:.0f} ms")
    return value


def one_of(kind: type[E]) -> Callable[[str], E]:
    """An argparse type: one of the values of an enumeration."""

    def parse(text: str) -> E:
        try:
            return kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(kind)}") from None

    return parse


def rate(text: str) -> float:
    """An argparse type: bits a second such as 900k, 2.5M or 64000."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMG])?", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate; write 900k or 2.5M bit/s")
    value = float(match[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[match[2] or ""]
    if not 0 < value <= RATE_BPS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is outside 0..1000G bit/s")
    return value


def share(text: str) -> float:
    """An argparse type: a share such as 1% or 0.01."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%)?", text.strip())
    if match is None or not 0 <= float(match[1]) / (100 if match[2] else 1) <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; write 1% or 0.01")
    return float(match[1]) / (100 if match[2] else 1)


def add_directory_options(parser: argparse.ArgumentParser) -> None:
    """--supernode and --token."""
    parser.add_argument(
        "--supernode",
        metavar="URL",
        default=os.environ.get("CUBECAST_SUPERNODE", SUPERNODE_DEFAULT),
        help="the super-node; or CUBECAST_SUPERNODE (%(default)s)",
    )
    parser.add_argument(
        "--token",
        metavar="TOKEN|@FILE",
        default=os.environ.get("CUBECAST_TOKEN", ""),
        help="a join token; or CUBECAST_TOKEN; by default the one a super-node on this machine left",
    )


def add_tree_option(parser: argparse.ArgumentParser) -> None:
    """How a channel's hosts choose their parents."""
    parser.add_argument(
        "--tree",
        type=one_of(Tree),
        metavar="|".join(Tree),
        default=Tree.HYBRID,
        help="how hosts choose parents (hybrid)",
    )


def add_contract_options(parser: argparse.ArgumentParser) -> None:
    """What a subscriber may ask for beside a bound on latency."""
    parser.add_argument(
        "--rate", type=rate, default=0.0, metavar="RATE", help="least rate, such as 900k or 2M bit/s (any)"
    )
    parser.add_argument(
        "--loss", type=share, default=1.0, metavar="SHARE",
        help="most that may be late or lost, such as 1%% (any is admitted; a second with over 1%% counts as violated)",
    )  # fmt: skip


def add_host_options(parser: argparse.ArgumentParser) -> None:
    """What every command that joins the overlay as a host takes."""
    add_directory_options(parser)
    parser.add_argument("--name", default="", help="this host's name (machine name and process id)")
    parser.add_argument(
        "--listen", metavar="HOST:PORT", default="0.0.0.0:0", help="UDP address of the data plane (%(default)s)"
    )
    parser.add_argument("--advertise", metavar="HOST:PORT", default="", help="address others dial, if another")
    parser.add_argument("--source-address", metavar="HOST", default="", help="address outgoing sessions come from")
    parser.add_argument("--label", default="", metavar="DIGITS", help="wished seat in the cube (any)")
    parser.add_argument(
        "--fan-out",
        type=whole_number(0, FAN_OUT_MAX),
        default=FAN_OUT_DEFAULT,
        metavar="N",
        help="copies this host may send, over all channels (%(default)s)",
    )
    parser.add_argument(
        "--uplink", type=rate, default=NUMBER_MAX, metavar="RATE",
        help="what all copies together may take, such as 20M or 900k bit/s (no limit)",
    )  # fmt: skip
    parser.add_argument(
        "--reserve", action="append", default=[], metavar="CHANNEL=N",
        help="keep N of the copies for a channel; again for each channel",
    )  # fmt: skip
    parser.add_argument(
        "--process", type=whole_number(0, PROCESS_MAX), default=0, metavar="N",
        help="run up to N extensions of others, in the sandbox (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--policy", type=Policy, choices=list(Policy), default=Policy.GREEDY, help="next hops (greedy)")
    parser.add_argument("--seed", type=whole_number(0, 2**31), default=0, metavar="N", help="of the random policy")


def host_config(arguments: argparse.Namespace) -> HostConfig:
    """The host that the arguments describe.

    Raises:
        UsageError: an address or token argument makes no sense.
    """
    machine = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname().partition(".")[0])[:32] or "host"
    name = arguments.name or f"{machine}-{os.getpid()}"
    check_name("host name", name)
    split_address(arguments.listen, "--listen")
    if arguments.advertise:
        check_address(arguments.advertise)
    if arguments.source_address:
        _check_source(arguments.source_address)
    return HostConfig(
        name=HostId(name),
        supernode=arguments.supernode,
        token=read_token(arguments.token),
        listen=arguments.listen,
        advertise=arguments.advertise,
        source=arguments.source_address,
        label=arguments.label,
        fan_out=arguments.fan_out,
        uplink_bps=arguments.uplink,
        reserve=_reserved(arguments.reserve, arguments.fan_out),
        policy=arguments.policy,
        seed=arguments.seed,
        process=arguments.process,
    )


def _reserved(wishes: list[str], fan_out: int) -> dict[ChannelName, int]:
    reserve: dict[ChannelName, int] = {}
    for wish in wishes:
        channel, _, copies = wish.partition("=")
        if not copies.isdecimal() or not channel:
            raise UsageError(f"--reserve {wish!r} is not CHANNEL=N, such as news=4")
        check_name("channel name", channel)
        if channel in reserve:
            raise UsageError(f"--reserve names channel {channel} twice; name it once")
        reserve[ChannelName(channel)] = int(copies)
    if sum(reserve.values()) > fan_out:
        raise UsageError(f"--reserve keeps {sum(reserve.values())} copies, --fan-out allows {fan_out}; raise --fan-out")
    return reserve


def _check_source(address: str) -> None:
    """Whether outgoing sessions may come from an address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            raise UsageError(f"--source-address {address!r} is no address of this machine: {error.strerror}") from error


def read_token(text: str) -> str:
    """A token given as itself, as @FILE, or left by a super-node on this machine.

    Raises:
        UsageError: the file cannot be read.
    """
    if text and not text.startswith("@"):
        return text.strip()
    file = Path(text[1:]) if text else state_folder() / "join.token"
    if not text and not file.is_file():
        return ""
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read token file {file}: {getattr(error, 'strerror', 'not text')}") from error


def split_address(text: str, option: str) -> tuple[str, int]:
    """HOST:PORT in its parts; an IPv6 host stands in brackets.

    Raises:
        UsageError: it is not of that form.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535 or (":" in host and host[0] != "["):
        raise UsageError(f"{option} {text!r} is not HOST:PORT, such as 0.0.0.0:4443 or [::]:4443")
    return host.strip("[]"), int(port)
