"""What every scenario is given and what it tells."""

from collections.abc import AsyncIterator, Awaitable, Callable, Container
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from cubecast.emulator.processes import ChildProcess, Fields
from cubecast.emulator.testbed import Testbed, make_plan, running
from cubecast.engine.protocol.records import FAN_OUT_DEFAULT
from cubecast.errors import CubecastError
from cubecast.overlay.routing import Policy
from cubecast.physical.network import PhysicalNetwork


@dataclass(frozen=True, slots=True)
class Setting:
    """One run of a scenario.

    Attributes:
        network: the delays between all hosts, spare ones included.
        source: the file that is published.
        tree: how parents are chosen, as `cubecast publish --tree`.
        seconds: how long the stream lasts; None leaves it to the scenario.
        notify: told one line at a time what happens.
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

    def rng(self) -> np.random.Generator:
        """What the scenario draws from."""
        return np.random.default_rng([self.seed, 32])


@dataclass(slots=True)
class Run:
    """What came of one run; None where a scenario says nothing about it.

    Attributes:
        frames_lost: frames that admitted subscribers did not get, from their first one on; None when a stream died.
        gap_ms_max: the longest time without a frame that ended after the fault, over the subscribers it has touched.
        gaps_ms: that of each of them.
        switches: changes of parents after the fault.
        seconds_to_leave_bad_link: from the fault to the change away from it.
        success_ratio: admitted subscribers that lost nothing and got 99 % of their frames within the bound.
        processes_left: processes that live on after the run, or did not end when they were asked to.
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
    """Why nothing was tried."""
    gaps_ms: list[float] = field(default_factory=list)
    detail: Fields = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Nothing was lost or came twice, no stream died, no process is left; a run that was skipped says nothing."""
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
    bound_ms: float,
    *,
    spare: int = 0,
    publishers: int = 1,
    fan_out: int = FAN_OUT_DEFAULT,
    hidden: tuple[int, ...] = (),
) -> AsyncIterator[Testbed]:
    """A testbed of the setting's hosts that have joined; its publishers wait, and will stream for so long.

    When everything has ended, `run` is told how many processes did not.
    """
    plan = make_plan(
        setting.network, setting.subscribers, Policy.GREEDY, setting.seed, fan_out,
        bound_ms=bound_ms, spare=spare, publishers=publishers, hidden=hidden,
    )  # fmt: skip
    publish = ("--loop", "--for", f"{seconds:g}s", "--tree", setting.tree)
    started = running(
        plan, setting.network_name, setting.source, setting.folder, setting.on_line, setting.notify, publish=publish
    )
    async with started as bed:
        processes = bed.processes
        yield bed
    run.processes_left = processes.stubborn + sum(not child.ended for child in processes.children)


Scenario = Callable[[Setting], Awaitable[Run]]

SERVED_SHARE = 0.99
"""Served: nothing lost, and at least this share of the frames within the bound."""


def delivered(run: Run, children: list[ChildProcess], after_s: float, hit: Container[str] | None = None) -> None:
    """Sums up what the subscribers got: losses, duplicates, gaps that ended after a time, success.

    Args:
        hit: names of those whose gaps count, as the fault has touched them; None for everyone.
    """
    lost = duplicated = served = 0
    losers: Fields = {}
    for child in children:
        told = child.events.get("summary") or {}
        frames = told.get("frames")
        if not isinstance(frames, dict) or frames.get("lost") is None:
            run.detail.setdefault("without a summary", []).append(child.name)  # type: ignore[attr-defined]
            continue
        lost += int(frames["lost"])
        duplicated += int(frames["duplicated"])
        if frames["lost"] or frames["duplicated"]:
            losers[child.name] = {
                **frames,
                "changes": list(child.changes),
                **{name: told.get(name) for name in ("gaps", "replayed", "filled", "untimed")},
            }
        gaps = told.get("gaps")
        longest = [float(ms) for at_s, ms in gaps if float(at_s) >= after_s] if isinstance(gaps, list) else []
        if hit is None or child.name in hit:
            run.gaps_ms.append(max(longest, default=0.0))
        in_time = told.get("in_time")
        served += int(frames["lost"]) == 0 and isinstance(in_time, float | int) and in_time >= SERVED_SHARE
    missing = "without a summary" in run.detail  # whose stream died: nobody knows how much it lost
    run.frames_lost, run.frames_duplicated = None if missing else lost, duplicated
    run.detail["losers"] = losers
    run.gap_ms_max = max(run.gaps_ms, default=None)
    run.success_ratio = served / len(children) if children else None


def changes_after(bed: Testbed, after_s: float) -> list[Fields]:
    """Changes of parents after a time, of all hosts, the earliest first."""
    told = [change for child in bed.hosts.values() for change in child.changes]
    late = [change for change in told if isinstance(change["at_s"], float) and change["at_s"] >= after_s]
    return sorted(late, key=lambda change: str(change["at_s"]))


class NoRelayError(CubecastError):
    """The publisher feeds everyone itself: there is nothing to break."""


def a_relay(bed: Testbed, rng: np.random.Generator) -> int:
    """A host that feeds others and publishes nothing, drawn from those there are.

    Raises:
        NoRelayError: there is none.
    """
    relays = sorted(set(bed.parents().values()) - set(bed.plan.publishers))
    if not relays:
        raise NoRelayError("no host relays in this run; take more --subscribers, or another --seed")
    return int(rng.choice(relays))
