"""Arguments that several commands share, and their parsing. An error is one line and exit status 2."""

import argparse
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NoReturn, TypeVar

from cubecast.client.ranges import BOUND_MS_MAX, PERIOD_S_MAX, PROCESS_MAX, RATE_BPS_MAX, SEED_MAX
from cubecast.client.settings import TOKEN_VARIABLE, default_supernode, split_address, state_folder
from cubecast.engine.protocol.ranges import NUMBER_MAX
from cubecast.engine.protocol.records import FAN_OUT_DEFAULT, FAN_OUT_MAX, Tree
from cubecast.errors import UsageError
from cubecast.overlay.routing import Policy

__all__ = [
    "BOUND_DEFAULT_MS",
    "Parser",
    "add_contract_options",
    "add_directory_options",
    "add_host_options",
    "add_tree_option",
    "check_outputs",
    "extension_settings",
    "jitter",
    "milliseconds",
    "one_of",
    "period",
    "rate",
    "share",
    "split_address",
    "state_folder",
    "whole_number",
]

BOUND_DEFAULT_MS = 1000.0
"""The bound, ms, of a subscription whose user does not give one."""
BOUND_UNITS_MS = {"": 1.0, "ms": 1.0, "s": 1e3}
"""Units of a bound, ms; a minute is left out, since `5m` would more likely be meant as 5 ms."""
PERIOD_UNITS_MS = {"": 1e3, "ms": 1.0, "s": 1e3, "m": 60e3, "h": 3600e3}
"""Units of a period, ms."""

E = TypeVar("E", bound=StrEnum)


class Parser(argparse.ArgumentParser):
    """An argument parser that reports an error in one line."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Prints one line and exits with status 2."""
        self.exit(2, f"cubecast: {message}; see {self.prog} --help\n")


def whole_number(low: int, high: int) -> "type[int]":
    """An argparse type: a whole number in low..high."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,12}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number in {low}..{high}")
        return int(text)

    return parse  # type: ignore[return-value]


def milliseconds(text: str) -> float:
    """An argparse type: a time such as 150ms, 0.2s or 150 (ms)."""
    value = _time_ms(text, BOUND_UNITS_MS, "150ms or 0.2s")
    if not 0 < value <= BOUND_MS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is outside 0..{BOUND_MS_MAX:.0f} ms")
    return value


def jitter(text: str) -> float:
    """An argparse type: a time that may be 0, such as 20ms, 0.02s or 20 (ms); Impairment has its limit."""
    return _time_ms(text, BOUND_UNITS_MS, "20ms or 0.02s")


def period(text: str) -> float:
    """An argparse type: how long something lasts, s, such as 90s, 1500ms, 45m, 2h or 60 (s)."""
    value = _time_ms(text, PERIOD_UNITS_MS, "90s, 45m or 2h") / 1000
    if not 0 < value <= PERIOD_S_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is outside 0..{PERIOD_S_MAX:.0f} s, which are 30 days")
    return value


def _time_ms(text: str, units_ms: Mapping[str, float], examples: str) -> float:
    """A time, ms, in one of the units."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip())
    if match is None or match[2] not in units_ms:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; write {examples}")
    return float(match[1]) * units_ms[match[2]]


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
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate; write 900k or 2.5M bit/s")
    value = float(match[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[match[2] or ""]
    if not 0 < value <= RATE_BPS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is outside 0..1000G bit/s")
    return value


def share(text: str) -> float:
    """An argparse type: a share such as 1% or 0.01."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%)?", text.strip())
    if match is None or not 0 <= float(match[1]) / (100 if match[2] else 1) <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share; write 1% or 0.01")
    return float(match[1]) / (100 if match[2] else 1)


def add_directory_options(parser: argparse.ArgumentParser) -> None:
    """--supernode and --token."""
    parser.add_argument(
        "--supernode",
        metavar="URL",
        default=default_supernode(),
        help="the super-node; or CUBECAST_SUPERNODE (%(default)s)",
    )
    parser.add_argument(
        "--token",
        metavar="TOKEN|@FILE",
        default=os.environ.get(TOKEN_VARIABLE, ""),
        help="a join token; or CUBECAST_TOKEN; by default the one that a super-node on this machine has left",
    )


def add_tree_option(parser: argparse.ArgumentParser) -> None:
    """--tree: how a channel's hosts choose their parents."""
    parser.add_argument(
        "--tree",
        type=one_of(Tree),
        metavar="|".join(Tree),
        default=Tree.HYBRID,
        help="how hosts choose parents (hybrid)",
    )


def add_contract_options(parser: argparse.ArgumentParser) -> None:
    """--rate and --loss: the terms of a contract beside the bound on latency."""
    parser.add_argument(
        "--rate", type=rate, default=0.0, metavar="RATE", help="least rate, such as 900k or 2M bit/s (any)"
    )
    parser.add_argument(
        "--loss",
        type=share,
        default=1.0,
        metavar="SHARE",
        help="most that may be late or lost, such as 1%% (any is admitted; a second with over 1%% counts as violated)",
    )


def add_host_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that joins the overlay as a host."""
    add_directory_options(parser)
    parser.add_argument("--name", default="", help="this host's name (machine name and a random number)")
    parser.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="this host's private key, made if it does not exist; its name belongs to it (one for each --name)",
    )
    parser.add_argument(
        "--listen", metavar="HOST:PORT", default="0.0.0.0:0", help="UDP address of the data plane (%(default)s)"
    )
    parser.add_argument("--advertise", metavar="HOST:PORT", default="", help="address others dial, if it is another")
    parser.add_argument("--source-address", metavar="HOST", default="", help="address outgoing sessions come from")
    parser.add_argument("--label", default="", metavar="DIGITS", help="requested seat in the cube (any)")
    parser.add_argument(
        "--fan-out",
        type=whole_number(0, FAN_OUT_MAX),
        default=FAN_OUT_DEFAULT,
        metavar="N",
        help="most copies this host sends, over all channels (%(default)s)",
    )
    parser.add_argument(
        "--uplink",
        type=rate,
        default=NUMBER_MAX,
        metavar="RATE",
        help="greatest rate of all copies together, such as 20M or 900k bit/s (no limit)",
    )
    parser.add_argument(
        "--reserve",
        action="append",
        default=[],
        metavar="CHANNEL=N",
        help="keep N of the copies for a channel; again for each channel",
    )
    parser.add_argument(
        "--process",
        type=whole_number(0, PROCESS_MAX),
        default=0,
        metavar="N",
        help="run up to N extensions of others, in the sandbox (%(default)s)",
    )
    parser.add_argument(
        "--policy", type=one_of(Policy), metavar="|".join(Policy), default=Policy.GREEDY, help="next hops (greedy)"
    )
    parser.add_argument("--seed", type=whole_number(0, SEED_MAX), default=0, metavar="N", help="of the random policy")
    add_trace_option(parser)


def reserved(options: list[str]) -> dict[str, int]:
    """The copies of --reserve CHANNEL=N, given any number of times, by channel.

    Raises:
        UsageError: one is not of that form, or names a channel again.
    """
    reserve: dict[str, int] = {}
    for option in options:
        channel, _, copies = option.partition("=")
        if not copies.isdecimal() or not channel:
            raise UsageError(f"--reserve {option!r} is not CHANNEL=N, such as news=4")
        if channel in reserve:
            raise UsageError(f"--reserve names channel {channel} twice; name it once")
        reserve[channel] = int(copies)
    return reserve


def add_trace_option(parser: argparse.ArgumentParser) -> None:
    """--trace: where the decisions of the engine are written."""
    parser.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="append what the engine handles and decides to this file, for `cubecast trace explain`",
    )


def check_outputs(outputs: Iterable[str | Path | None], inputs: Iterable[str | Path | None]) -> None:
    """Refuses an output that is also an input or another output: opening it would destroy what is read or written there.

    Args:
        outputs: paths; None, the empty text and `-` name no file.
        inputs: paths or URLs that are read; likewise.

    Raises:
        UsageError: two of them are the same file.
    """
    read = list(inputs)
    written: list[str | Path | None] = []
    for output in outputs:
        if any(_same_file(output, each) for each in read):
            raise UsageError(f"{output} is the input; writing would destroy it, so name another file for the output")
        if any(_same_file(output, each) for each in written):
            raise UsageError(f"{output} is the output of two; name a file of its own for each")
        written.append(output)


def _same_file(one: str | Path | None, other: str | Path | None) -> bool:
    """Whether two names are of one file, which need not exist yet; a device or a pipe is not a file that is kept."""
    if not one or not other or "-" in (str(one), str(other)):
        return False
    first, second = (Path(str(each).removeprefix("file:")) for each in (one, other))
    try:
        return first.samefile(second) and first.is_file()
    except (OSError, ValueError):  # one of them does not exist, or is the URL of a stream
        return os.path.realpath(first) == os.path.realpath(second)


def extension_settings(texts: Sequence[str]) -> dict[str, str]:
    """--config K=V, given any number of times.

    Raises:
        UsageError: one is not of that form.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key or not value.isprintable() or key in found:
            raise UsageError(f"--config {text!r} is not K=V on one line, each K once; such as share=0.5")
        found[key] = value
    return found
