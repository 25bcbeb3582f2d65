"""The ranges of the arguments of the Python interface, which the command line shares, and the checks of them."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeGuard, TypeVar

from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.ranges import NUMBER_MAX
from cubecast.engine.protocol.records import FAN_OUT_MAX
from cubecast.errors import UsageError
from cubecast.names import check_name
from cubecast.types import ChannelName

BOUND_MS_MAX = 3_600_000.0
"""The largest bound, ms: an hour, longer than any stream is worth waiting for."""
PERIOD_S_MAX = 30 * 86_400.0
"""The longest period, s: 30 days; whoever wants more gives none."""
RATE_BPS_MAX = NUMBER_MAX
"""The largest rate, bit/s: the largest number in a message of the protocol."""
PROCESS_MAX = 1024
"""The largest number of extensions that a host may offer to run for others; the super-node's SLOTS_MAX."""
SEED_MAX = 2**31
"""The largest seed: any of two thousand million runs can be repeated."""

E = TypeVar("E", bound=StrEnum)


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Checks a whole number.

    Raises:
        UsageError: it is none, or outside low..high.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise UsageError(f"{name} is {value!r}; give a whole number in {low}..{high}")


def checked_positive(name: str, value: float, high: float, unit: str) -> float:
    """A number above 0; NaN is none.

    Raises:
        UsageError: it is none, or outside 0..high.
    """
    if not _is_number(value) or not 0 < value <= high:
        raise UsageError(f"{name} is {value!r}; give a number above 0, at most {high:.15g} {unit}")
    return value


def checked_choice(name: str, value: object, kind: type[E]) -> E:
    """A member of an enumeration, from itself or from its value.

    Raises:
        UsageError: it is none of them.
    """
    try:
        return kind(str(value))
    except ValueError:
        raise UsageError(f"{name} is {str(value)!r}; give one of {', '.join(kind)}") from None


def checked_contract(channel: str, bound_ms: float, rate_bps: float, loss: float) -> Contract:
    """The contract of a channel.

    Raises:
        UsageError: a term is outside its range.
    """
    bound_ms = checked_positive(f"{channel}: bound_ms", bound_ms, BOUND_MS_MAX, "ms")
    rate_bps = 0.0 if rate_bps == 0 else checked_positive(f"{channel}: rate_bps", rate_bps, RATE_BPS_MAX, "bit/s")
    if not _is_number(loss) or not 0 <= loss <= 1:
        raise UsageError(f"{channel}: loss is {loss!r}; give a share in 0..1, such as 0.01")
    return Contract(bound_ms, rate_bps, loss)


def checked_reserve(reserve: Mapping[str, int], fan_out: int) -> dict[ChannelName, int]:
    """The copies that are reserved, by channel.

    Raises:
        UsageError: a name is not allowed, a number is outside its range, or there are more than fan_out together.
    """
    for channel, copies in reserve.items():
        check_name("channel name", channel)
        check_whole(f"reserve of {channel}", copies, 0, FAN_OUT_MAX)
    if (together := sum(reserve.values())) > fan_out:
        raise UsageError(f"--reserve keeps {together} copies, --fan-out allows {fan_out}; raise --fan-out")
    return {ChannelName(channel): copies for channel, copies in reserve.items()}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
