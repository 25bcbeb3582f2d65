"""For all scenarios: the settings of a run, its result, and the steps that scenarios share."""

from collections.abc import AsyncIterator, Awaitable, Callable, Container
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from cubecast.emulator.delivery_tree import relays_of
from cubecast.emulator.plan import Plan, make_plan
from cubecast.emulator.processes import CommandProcess, Fields
from cubecast.emulator.testbed import Testbed, open_testbed
from cubecast.engine.protocol.records import FAN_OUT_DEFAULT
from cubecast.errors import CubecastError
from cubecast.overlay.routing import Policy
from cubecast.physical.network import PhysicalNetwork


@dataclass(frozen=True, slots=True)
class Setting:
    """The settings of one run of a scenario.

    Attributes:
        network: the delays between all hosts, spare ones included.
        source: the file that is published.
        tree: how parents are chosen, as `cubecast publish --tree`.
        seconds: what --seconds sets, in seconds; None takes the scenario's default.
        notify: called with one line for each step.
        on_line: called with (process name, line) for each line of a process's standard error.
        attack: of the scenario `hostile`.
        trace: file that all hosts and the super-node append their traces to; None for none.
    """

    network: PhysicalNetwork
    network_name: str
    hosts: int
    subscribers: int
    seed: int
    tree: str
    source: str
    folder: Path
    seconds: float | None
    notify: Callable[[str], None]
    on_line: Callable[[str, str], None]
    trace: Path | None = None
    attack: str = ""

    def rng(self) -> np.random.Generator:
        """The random generator of the scenario, from the seed."""
        return np.random.default_rng([self.seed, 32])


@dataclass(slots=True)
class Run:
    """The result of one run; a value is None where the scenario does not measure it.

    Attributes:
        frames_lost: frames that admitted subscribers did not get, from their first one on; None if a stream died.
        frames_duplicated: frames that admitted subscribers got more than once.
        gap_ms_max: the longest time without a frame that ended after the fault, over the subscribers it affected.
        switches: number of changes of parents after the fault.
        seconds_to_leave_bad_link: from the fault to the change to another parent.
        success_ratio: share of the admitted subscribers that lost nothing and got 99 % of their frames within the bound.
        rad: relative average delay.
        processes_left: number of processes that run after the end, or had to be killed at it.
        skipped: why the run measured nothing; empty if it did.
        gaps_ms: the longest time without a frame of each affected subscriber.
        detail: more values, by scenario.
    """

    frames_lost: int | None = None
    frames_duplicated: int | None = None
    gap_ms_max: float | None = None
    switches: int | None = None
    seconds_to_leave_bad_link: float | None = None
    success_ratio: float | None = None
    rad: float | None = None
    processes_left: int | None = None
    skipped: str = ""
    gaps_ms: list[float] = field(default_factory=list)
    detail: Fields = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether no frame was lost or duplicated, no stream died and no process is left; true for a skipped run."""
        whole = self.frames_lost == 0 and self.frames_duplicated == 0 and self.processes_left == 0
        return whole or bool(self.skipped)

    def as_json(self) -> Fields:
        """The object of --json."""
        return asdict(self)


@asynccontextmanager
async def streaming(
    setting: Setting,
    run: Run,
    seconds: float,
    bounds: float | Callable[[Plan], tuple[float, ...]],
    *,
    spare: int = 0,
    publishers: int = 1,
    fan_out: int = FAN_OUT_DEFAULT,
    hidden: tuple[int, ...] = (),
) -> AsyncIterator[Testbed]:
    """A testbed whose hosts have joined and whose publishers wait; `Testbed.stream` starts them.

    On exit the number of processes that are left is recorded in `run`.

    Args:
        seconds: length of the stream.
        bounds: bound of every subscriber, ms; or gives that of each in the order of a plan.
        spare: number of hosts of the network that join later.
        publishers: number of hosts that publish, each a channel of its own.
        fan_out: copies a host may send.
        hidden: hosts that can dial but cannot be dialled.
    """
    plan = make_plan(
        setting.network,
        setting.subscribers,
        Policy.GREEDY,
        setting.seed,
        fan_out,
        bound_ms=bounds if isinstance(bounds, float) else None,
        spare=spare,
        publishers=publishers,
        hidden=hidden,
    )
    if not isinstance(bounds, float):
        plan = replace(plan, bounds_ms=bounds(plan))
    publish = ("--loop", "--for", f"{seconds:.15g}s", "--tree", setting.tree)
    started = open_testbed(
        plan,
        setting.network_name,
        setting.source,
        setting.folder,
        setting.on_line,
        setting.notify,
        publish=publish,
        trace=setting.trace,
    )
    async with started as bed:
        processes = bed.processes
        yield bed
    run.processes_left = processes.unresponsive + sum(not process.ended for process in processes.started)


Scenario = Callable[[Setting], Awaitable[Run]]

SERVED_SHARE = 0.99
"""Least share of the frames within the bound of a subscriber that counts as served; it must also have lost none."""


def record_delivery(
    run: Run, subscribers: list[CommandProcess], after_s: float, affected: Container[str] | None = None
) -> None:
    """Records in `run` the subscribers' losses, duplicates and gaps, and the success ratio.

    Args:
        after_s: only gaps that ended after this time count, s since the Unix epoch.
        affected: names of the subscribers that the fault affected, whose gaps count; None for all.
    """
    lost = duplicated = served = 0
    losers: Fields = {}
    for subscriber in subscribers:
        summary = subscriber.events.get("summary") or {}
        frames = summary.get("frames")
        if not isinstance(frames, dict) or frames.get("lost") is None:
            run.detail.setdefault("without a summary", []).append(subscriber.name)  # type: ignore[attr-defined]
            continue
        lost += int(frames["lost"])
        duplicated += int(frames["duplicated"])
        if frames["lost"] or frames["duplicated"]:
            losers[subscriber.name] = {
                **frames,
                "changes": list(subscriber.changes),
                **{name: summary.get(name) for name in ("gaps", "replayed", "filled", "rejected")},
            }
        gaps = summary.get("gaps")
        longest = [float(ms) for at_s, ms in gaps if float(at_s) >= after_s] if isinstance(gaps, list) else []
        if affected is None or subscriber.name in affected:
            run.gaps_ms.append(max(longest, default=0.0))
        in_time = summary.get("in_time")
        served += int(frames["lost"]) == 0 and isinstance(in_time, float | int) and in_time >= SERVED_SHARE
    missing = "without a summary" in run.detail  # its stream died, so what it lost is unknown
    run.frames_lost, run.frames_duplicated = None if missing else lost, duplicated
    run.detail["losers"] = losers
    run.gap_ms_max = max(run.gaps_ms, default=None)
    run.success_ratio = served / len(subscribers) if subscribers else None


def changes_after(bed: Testbed, after_s: float) -> list[Fields]:
    """The changes of parents of all hosts after a time (s since the Unix epoch), the earliest first."""
    changes = [change for host in bed.hosts.values() for change in host.changes]
    late = [change for change in changes if isinstance(change["at_s"], float) and change["at_s"] >= after_s]
    return sorted(late, key=lambda change: str(change["at_s"]))


class NoRelayError(CubecastError):
    """No host relays, because the publisher feeds all subscribers itself: the fault cannot be injected."""


def draw_relay(bed: Testbed, rng: np.random.Generator) -> int:
    """Draws one of the hosts that feed others and publish nothing.

    Raises:
        NoRelayError: there is none.
    """
    relays = relays_of(bed.parents(), bed.plan.publishers)
    if not relays:
        raise NoRelayError("no host relays in this run; take more --subscribers, or another --seed")
    return int(rng.choice(relays))
