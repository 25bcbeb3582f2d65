"""What stood in the way of a subscriber that is refused: which host or link, and by how much; one line for the user.

A host whose path would keep the contract comes first: it has no spare fan-out, or did not accept for another reason. Else it is
the best path that was found: how long it takes, how much of that is the link from its last host, and whether that host
itself gets the channel too late. The link is measured here; what happens before it is known from announcements only.
A full host that would keep the bound is known here once the directory has named it to be measured (DisplacementConfig.probes_max).
"""

from collections.abc import Iterable, Sequence
from math import ceil
from typing import NamedTuple

from cubecast.engine.host.search.state import FULL, Search
from cubecast.engine.protocol.path import Contract, PathMetrics
from cubecast.types import HostId

NAMES_MAX = 3
"""Hosts of a path that the line names; the others are counted."""
WHOLE_MS = 10
"""Times from here on are printed in whole ms, shorter ones in tenths."""


class Refusing(NamedTuple):
    """A host that carries the channel and does not accept this one as a child."""

    host: HostId
    metrics: PathMetrics
    """The path to this host through it."""
    reason: str


class LastHop(NamedTuple):
    """The link over which a path reaches this host."""

    link_ms: float
    """One-way delay of the link."""
    cost_ms: float
    """What it adds to the least bound of the path: with relaying, and the spread of late frames."""
    loss: float


def obstacle(search: Search, refusing: Iterable[Refusing], last: LastHop | None) -> str:
    """What stood in the way of a search; its own reason where neither a host nor a path is to blame.

    Args:
        refusing: hosts that could have been asked, or were.
        last: the last hop of the nearest path; None when the link is down.
    """
    known = sorted(refusing, key=lambda each: (each.metrics.least_bound_ms, each.host))
    keep = [each for each in known if search.contract.kept_by(each.metrics)]
    full, others = _full(keep), [each for each in keep if each not in _full(keep)]
    if full:
        return _without_spare(
            full, f"would keep {_bound_ms(full[0].metrics.least_bound_ms)} ms but has no spare fan-out"
        )
    if others:
        return _declined(others)
    if search.nearest is not None:
        return _falls_short(search.contract, search.nearest, last)
    late = _full(known)
    if late:
        return _without_spare(
            late, f"has no spare fan-out, and could keep {_bound_ms(late[0].metrics.least_bound_ms)} ms at best"
        )
    return search.reason


def _full(hosts: Sequence[Refusing]) -> list[Refusing]:
    return [each for each in hosts if each.reason.endswith(FULL)]


def _without_spare(full: Sequence[Refusing], what: str) -> str:
    more = len(full) - 1
    return f"{full[0].host} {what}" + (f", nor {'has' if more == 1 else 'have'} {_others(more)}" if more else "")


def _declined(hosts: Sequence[Refusing]) -> str:
    host, metrics, reason = hosts[0]
    own = reason.removeprefix(f"{host} ")
    why = f"but {own}" if own != reason else f"but refused ({reason})"
    more = f"; {_others(len(hosts) - 1)} declined too" if len(hosts) > 1 else ""
    return f"{host} would keep {_bound_ms(metrics.least_bound_ms)} ms {why}{more}"


def _falls_short(contract: Contract, best: PathMetrics, last: LastHop | None) -> str:
    """Which terms the best path does not keep, and why."""
    faults = []
    over, parent = best.path[1:-1], best.path[max(0, len(best.path) - 2)]
    if best.least_bound_ms > contract.bound_ms:
        faults.append(f"takes {_bound_ms(best.least_bound_ms)} ms{_slow_part(contract, best, last)}")
    if best.rate_bps < contract.rate_bps:
        faults.append(f"carries only {best.rate_bps / 1000:.0f} kbit/s")
    if best.loss > contract.loss:
        here = f", {last.loss:.2%} on the link from {parent}" if last is not None and over else ""
        faults.append(f"loses {best.loss:.2%}{here}")
    hosts = f"over {_listed(over)}" if over else f"straight from {parent}"
    kind = "best" if contract.rate_bps > 0 or contract.loss < 1 else "fastest"
    return f"the {kind} path, {hosts}, {', and '.join(faults)}" if faults else "the path found was lost again"


def _slow_part(contract: Contract, best: PathMetrics, last: LastHop | None) -> str:
    """How much of the time is the last link, and whether the host before it gets the channel too late already."""
    if last is None:
        return ""
    if best.depth == 1:
        return f", {_ms(last.link_ms)} ms of it the link"
    there_ms = best.least_bound_ms - last.cost_ms
    too_late = f", which itself gets it only after {_bound_ms(there_ms)} ms" if there_ms > contract.bound_ms else ""
    return f", {_ms(last.link_ms)} ms of it the link from {best.path[-2]}{too_late}"


def _listed(hosts: Sequence[HostId]) -> str:
    """Names of hosts in a sentence."""
    names = [*hosts[:NAMES_MAX], *([_others(len(hosts) - NAMES_MAX)] if len(hosts) > NAMES_MAX else [])]
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _others(count: int) -> str:
    return "1 other" if count == 1 else f"{count} others"


def _ms(time_ms: float) -> str:
    """A delay, rounded."""
    return f"{time_ms:.0f}" if time_ms >= WHOLE_MS else f"{time_ms:.1f}"


def _bound_ms(least_ms: float) -> str:
    """The least bound of a path, rounded up: a smaller one is not kept."""
    return f"{ceil(least_ms)}" if least_ms >= WHOLE_MS else f"{ceil(10 * least_ms) / 10:.1f}"
