"""The report of a demo: one row for each subscriber, metrics of the whole run, and whether it succeeded."""

from dataclasses import asdict, dataclass, field
from itertools import pairwise

import numpy as np

from cubecast.emulator.plan import Plan
from cubecast.emulator.processes import CommandProcess, Fields
from cubecast.emulator.relay_failure import RelayFailure
from cubecast.emulator.testbed import Testbed
from cubecast.frames import Kind
from cubecast.overlay.delays import delay_ms as one_way_ms
from cubecast.overlay.metrics import Stress, lateness, link_stress, relative_average_delay, success_ratio
from cubecast.physical.network import PhysicalNetwork
from cubecast.types import Floats

INTERRUPTED = 130
"""Exit status of a demo that the user stopped."""
SERVED_SHARE = 0.99
"""Least share of the frames within the bound of a subscriber that counts as served; it must also have lost none. A hundredth
may be late, since a contract without a bound on loss counts a second as violated from there on."""
NO_STRESS = Stress(0.0, 0, 0)
"""Stress of a run without any admitted subscriber."""


@dataclass(slots=True)
class SubscriberReport:
    """One subscriber's row.

    Attributes:
        best_ms: the promised delay, or when refused the least bound that can be kept: the counter-offer.
        path: hosts from the publisher to it; when refused, of the counter-offer.
        path_ms: the emulated network's delay over that path.
        direct_ms: the emulated network's delay from the publisher to it.
        killed: whether it is the host that was killed.
        gap_ms: the longest time without a frame that ended after the kill, if it received over the killed relay.
    """

    host: str
    bound_ms: float
    admitted: bool
    promised_ms: float | None
    best_ms: float | None
    path: list[str]
    path_ms: float | None
    direct_ms: float
    delay_ms: dict[str, float | None]
    in_time: float | None
    frames: dict[str, int]
    served: bool
    reason: str = ""
    killed: bool = False
    gap_ms: float | None = None

    @property
    def overlay_ms(self) -> float | None:
        """Delay over the overlay: measured if admitted, else the emulated delay of the counter-offer's path."""
        return self.delay_ms["p50"] if self.admitted else self.path_ms

    @property
    def refused_with_offer(self) -> bool:
        """Whether it was refused and offered a bound larger than its own."""
        return not self.admitted and self.best_ms is not None and self.best_ms > self.bound_ms


@dataclass(slots=True)
class TreeEdge:
    """One hop of the delivery tree, with the emulated network's delay."""

    child: str
    parent: str
    hop_ms: float


@dataclass(slots=True)
class KillReport:
    """The effects of killing a relay.

    Attributes:
        fed: its children, `recovered` those of them that received again over another parent.
        gap_ms_max: the longest time without a frame, of all subscribers that received over it.
    """

    host: str
    fed: list[str]
    recovered: list[str]
    gap_ms_max: float | None


@dataclass(slots=True)
class DemoReport:
    """The report of a demo.

    Attributes:
        success_ratio: share of the subscribers that were served, without the killed one and the impossible one.
        tree_before: the delivery tree while the stream ran, before the kill if there was one.
        tree_after: the same after the recovery; empty without a kill.
        impossible: the subscriber whose bound no path can keep, "" if there is none.
        kill: the effects of killing a relay; None if no host was killed.
        kill_missing: why no relay was killed although one should have been.
    """

    tree: str = ""
    policy: str = ""
    network: str = ""
    hosts: int = 0
    shape: dict[str, int] = field(default_factory=dict)
    seed: int = 0
    success_ratio: float = 0.0
    lateness_mean: float = 0.0
    rad: float | None = None
    stress: Stress = NO_STRESS
    relay_copies_in_python: int = 0
    subscribers: list[SubscriberReport] = field(default_factory=list)
    emulator: Fields = field(default_factory=dict)
    published: int = 0
    received_file: str = ""
    decoded: dict[Kind, int] = field(default_factory=dict)
    fan_out: int = 0
    tree_before: list[TreeEdge] = field(default_factory=list)
    tree_after: list[TreeEdge] = field(default_factory=list)
    impossible: str = ""
    kill: KillReport | None = None
    kill_missing: str = ""
    plan: Plan | None = None
    exit_early: int = 0

    @classmethod
    def interrupted(cls) -> "DemoReport":
        """Stands for a run the user stopped."""
        return cls(exit_early=INTERRUPTED)

    @property
    def admitted(self) -> list[SubscriberReport]:
        """The subscribers that were admitted and not killed."""
        return [row for row in self.subscribers if row.admitted and not row.killed]

    @property
    def nothing_lost(self) -> bool:
        """Whether every published frame reached every admitted subscriber that lived, and there was one."""
        return bool(self.admitted) and self.published > 0 and all(row.frames["lost"] == 0 for row in self.admitted)

    @property
    def failures(self) -> list[str]:
        """What the demo should have shown and did not, one sentence each; empty after a run that succeeded."""
        found = []
        if not self.admitted or not self.published:
            found.append("no subscriber received the stream")
        losers = [f"{row.host} lost {row.frames['lost']}" for row in self.admitted if row.frames["lost"]]
        if losers:
            found.append(f"frames were lost: {', '.join(losers)}")
        refused = next((row for row in self.subscribers if row.host == self.impossible), None)
        if refused is not None and not refused.refused_with_offer:
            bound = f"{refused.host}, whose bound of {refused.bound_ms:g} ms no path can keep,"
            found.append(f"{bound} was {'admitted' if refused.admitted else f'not answered: {refused.reason}'}")
        if self.kill_missing:
            found.append(self.kill_missing)
        if self.kill is not None and (lost := set(self.kill.fed) - set(self.kill.recovered)):
            found.append(f"{', '.join(sorted(lost))} did not recover from the loss of {self.kill.host}")
        return found

    def as_json(self) -> dict[str, object]:
        """The object of --json."""
        plain = asdict(self)
        for name in ("plan", "exit_early"):
            del plain[name]
        return {**plain, "stress": self.stress._asdict(), "failures": self.failures}


def make_report(bed: Testbed, network: PhysicalNetwork, tree: str, failure: RelayFailure) -> DemoReport:
    """Computes the report from the events that the processes have reported."""
    plan = bed.plan
    published = sum(_counts(bed.publisher.events["finished"]["frames"]))
    impossible = "" if plan.impossible is None else str(plan.name(plan.impossible))
    rows = [_row(bed, network, order, published, failure) for order in range(len(plan.subscribers))]
    reached = [row for row in rows if row.overlay_ms is not None]
    overlay: Floats = np.array([row.overlay_ms for row in reached], dtype=np.float64)
    direct: Floats = np.array([row.direct_ms for row in reached], dtype=np.float64)
    bounds: Floats = np.array([row.bound_ms for row in reached], dtype=np.float64)
    edges = {edge for row in rows if row.admitted for edge in pairwise(row.path)}
    return DemoReport(
        tree=tree,
        policy=plan.policy,
        network=network.name,
        hosts=len(plan.seats),
        shape={"radix": plan.cube.radix, "dimensions": plan.cube.dimensions},
        seed=plan.seed,
        success_ratio=success_ratio(row.served for row in rows if not row.killed and row.host != impossible),
        lateness_mean=float(lateness(overlay, bounds).mean()) if reached else 0.0,
        rad=relative_average_delay(overlay, direct) if reached else None,
        stress=link_stress(network.path_links(plan.index(a), plan.index(b)) for a, b in sorted(edges)),
        relay_copies_in_python=sum(_copies(host) for host in bed.hosts.values()),
        subscribers=rows,
        emulator=dict(bed.emulator.status),
        published=published,
        fan_out=plan.fan_out,
        tree_before=_edges(plan, network, failure.before),
        tree_after=_edges(plan, network, failure.after),
        impossible=impossible,
        kill=_kill(plan, failure, rows),
        kill_missing=failure.reason,
        plan=plan,
    )


def _row(bed: Testbed, network: PhysicalNetwork, order: int, published: int, failure: RelayFailure) -> SubscriberReport:
    plan, host, index = bed.plan, bed.subscribers[order], bed.plan.subscribers[order]
    admitted, refused = host.events.get("admitted", {}), host.events.get("refused", {})
    last = host.events.get("summary") or host.events.get("status", {})
    counted = last.get("frames") if admitted else None
    delay = last.get("delay_ms") if admitted else None
    received = counted["received"] if isinstance(counted, dict) else 0
    killed = failure.killed == index
    frames = {
        "published": published if admitted else 0,
        "received": received,
        "lost": published - received if admitted else 0,
        "duplicated": counted["duplicated"] if isinstance(counted, dict) else 0,
    }
    path = _names(last.get("path") or admitted.get("path") or refused.get("best_path") or [])
    hops = [(plan.index(a), plan.index(b)) for a, b in pairwise(path)]
    in_time = number(last.get("in_time")) if admitted else None
    no_answer = str(host.errors[-1] if host.errors else "no answer")
    return SubscriberReport(
        host=host.name,
        bound_ms=plan.bounds_ms[order],
        admitted=bool(admitted),
        promised_ms=number(admitted.get("promised_ms")),
        best_ms=number(refused.get("best_ms")) if refused else number(admitted.get("promised_ms")),
        path=path,
        path_ms=round(float(sum(one_way_ms(network.delays, a, b) for a, b in hops)), 2) if hops else None,
        direct_ms=round(one_way_ms(network.delays, 0, index), 2),
        delay_ms=delay if isinstance(delay, dict) else {"p50": None, "p99": None},
        in_time=in_time,
        frames=frames,
        served=bool(admitted) and frames["lost"] == 0 and in_time is not None and in_time >= SERVED_SHARE,
        reason="" if admitted else str(refused.get("reason") or no_answer),
        killed=killed,
        gap_ms=_gap_ms(last, failure.killed_s) if admitted and not killed and failure.interrupted(index) else None,
    )


def _gap_ms(summary: Fields, after_s: float) -> float:
    """The longest time without a frame that ended after a time, ms; 0 without any of 60 ms or more."""
    gaps = summary.get("gaps")
    return max((float(ms) for at_s, ms in gaps if float(at_s) >= after_s), default=0.0) if isinstance(gaps, list) else 0


def _edges(plan: Plan, network: PhysicalNetwork, parents: dict[int, int]) -> list[TreeEdge]:
    return [
        TreeEdge(plan.name(child), plan.name(parent), round(one_way_ms(network.delays, parent, child), 2))
        for child, parent in sorted(parents.items())
    ]


def _kill(plan: Plan, failure: RelayFailure, rows: list[SubscriberReport]) -> KillReport | None:
    if failure.killed is None:
        return None
    fed, recovered = ([str(plan.name(i)) for i in hosts] for hosts in (failure.children, failure.recovered))
    gaps = [row.gap_ms for row in rows if row.gap_ms is not None]
    return KillReport(plan.name(failure.killed), fed, recovered, max(gaps, default=None))


def _names(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _counts(value: object) -> list[int]:
    return [int(each) for each in value] if isinstance(value, list) else []


def number(value: object) -> float | None:
    """A reported number, rounded to two digits after the point; None for anything else."""
    return round(float(value), 2) if isinstance(value, int | float) else None


def frames_published(publisher: CommandProcess) -> int:
    """Frames that the publisher has reported so far."""
    return sum(_counts(publisher.status.get("frames")))


def _copies(host: CommandProcess) -> int:
    last = host.events.get("summary") or host.events.get("finished") or host.status
    copies = last.get("copies", 0)
    return copies if isinstance(copies, int) else 0
