"""What a demo shows: the live table while it runs, and the report at its end."""

import io
import re
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from cubecast.emulator.processes import ChildProcess, Fields
from cubecast.emulator.testbed import Plan, Testbed
from cubecast.errors import UsageError
from cubecast.frames import Kind
from cubecast.overlay.cube import format_label
from cubecast.overlay.delays import delay_ms as one_way_ms
from cubecast.overlay.metrics import Stress, lateness, link_stress, relative_average_delay, success_ratio
from cubecast.physical.network import PhysicalNetwork
from cubecast.types import Floats

INTERRUPTED = 130
PICTURE_WIDTH = 84
SERVED_SHARE = 0.99
"""Served within the bound: nothing lost, and at least this share of the frames arrived in time."""
NO_STRESS = Stress(0.0, 0, 0)


@dataclass(slots=True)
class SubscriberReport:
    """One subscriber's row. `path_ms` is the emulated delay of its path, `best_ms` what could be kept when refused."""

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

    @property
    def overlay_ms(self) -> float | None:
        """Delay over the overlay: measured when admitted, else the emulated delay of the best path that was offered."""
        return self.delay_ms["p50"] if self.admitted else self.path_ms


@dataclass(slots=True)
class DemoReport:
    """Everything a demo found."""

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
    plan: Plan | None = None
    exit_early: int = 0

    @classmethod
    def interrupted(cls) -> "DemoReport":
        """Stands for a run the user stopped."""
        return cls(exit_early=INTERRUPTED)

    @property
    def nothing_lost(self) -> bool:
        """Whether every frame published reached every admitted subscriber, and somebody was admitted."""
        admitted = [s for s in self.subscribers if s.admitted]
        return bool(admitted) and self.published > 0 and all(s.frames["lost"] == 0 for s in admitted)

    def as_json(self) -> dict[str, object]:
        """The object of --json."""
        hidden = {"plan", "exit_early", "stress", "subscribers"}
        plain = {name: getattr(self, name) for name in self.__slots__ if name not in hidden}
        rows = [asdict(s) for s in self.subscribers]
        return {**plain, "stress": self.stress._asdict(), "subscribers": rows}


def make_report(bed: Testbed, network: PhysicalNetwork, tree: str) -> DemoReport:
    """Works the report out from what the processes told."""
    plan = bed.plan
    published = sum(_counts(bed.publisher.events["finished"]["frames"]))
    rows = [_row(bed, network, order, published) for order in range(len(plan.subscribers))]
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
        success_ratio=success_ratio(row.served for row in rows),
        lateness_mean=float(lateness(overlay, bounds).mean()) if reached else 0.0,
        rad=relative_average_delay(overlay, direct) if reached else None,
        stress=link_stress(network.path_links(plan.index(a), plan.index(b)) for a, b in sorted(edges)),
        relay_copies_in_python=sum(_copies(child) for child in bed.hosts.values()),
        subscribers=rows,
        emulator=dict(bed.emulator.status),
        published=published,
        plan=plan,
    )


def _row(bed: Testbed, network: PhysicalNetwork, order: int, published: int) -> SubscriberReport:
    plan, child = bed.plan, bed.subscribers[order]
    admitted, refused = child.events.get("admitted", {}), child.events.get("refused", {})
    told = child.events.get("summary") or child.events.get("status", {})
    counted = told.get("frames") if admitted else None
    delay = told.get("delay_ms") if admitted else None
    received = counted["received"] if isinstance(counted, dict) else 0
    frames = {
        "published": published if admitted else 0,
        "received": received,
        "lost": published - received if admitted else 0,
        "duplicated": counted["duplicated"] if isinstance(counted, dict) else 0,
    }
    delay_ms = delay if isinstance(delay, dict) else {"p50": None, "p99": None}
    path = _names(told.get("path") or admitted.get("path") or refused.get("best_path") or [])
    hops = [(plan.index(a), plan.index(b)) for a, b in pairwise(path)]
    in_time = _number(told.get("in_time")) if admitted else None
    return SubscriberReport(
        host=child.name,
        bound_ms=plan.bounds_ms[order],
        admitted=bool(admitted),
        promised_ms=_number(admitted.get("promised_ms")),
        best_ms=_number(refused.get("best_ms")) if refused else _number(admitted.get("promised_ms")),
        path=path,
        path_ms=round(float(sum(one_way_ms(network.delays, a, b) for a, b in hops)), 2) if hops else None,
        direct_ms=round(one_way_ms(network.delays, 0, plan.subscribers[order]), 2),
        delay_ms=delay_ms,
        in_time=in_time,
        frames=frames,
        served=bool(admitted) and frames["lost"] == 0 and in_time is not None and in_time >= SERVED_SHARE,
        reason="" if admitted else str(refused.get("reason") or (child.errors[-1] if child.errors else "no answer")),
    )


def _names(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _counts(value: object) -> list[int]:
    return [int(each) for each in value] if isinstance(value, list) else []


def _number(value: object) -> float | None:
    return round(float(value), 2) if isinstance(value, int | float) else None


def _copies(child: ChildProcess) -> int:
    told = child.events.get("summary") or child.events.get("finished") or child.status
    copies = told.get("copies", 0)
    return copies if isinstance(copies, int) else 0


def live_table(bed: Testbed) -> Table:
    """How the subscribers are doing now."""
    table = Table(title=f"channel over {bed.plan.cube}", title_justify="left")
    for column in ("subscriber", "bound", "promised", "delay p50", "frames", "state"):
        table.add_column(column, justify="left" if column in ("subscriber", "state") else "right")
    sent = sum(_counts(bed.publisher.status.get("frames")))
    for order, child in enumerate(bed.subscribers):
        promised = _number(child.events.get("admitted", {}).get("promised_ms"))
        told = child.events.get("summary") or child.status
        delay, frames = told.get("delay_ms"), told.get("frames")
        p50 = delay["p50"] if isinstance(delay, dict) else None
        received = frames["received"] if isinstance(frames, dict) else 0
        state = next((e for e in ("summary", "receiving", "refused", "admitted", "joined") if e in child.events), "")
        table.add_row(
            child.name, _ms(bed.plan.bounds_ms[order]), _ms(promised), _ms(p50), f"{received}/{sent}",
            {"summary": "ended", "joined": "waiting"}.get(state, state),
        )  # fmt: skip
    return table


def print_report(console: Console, report: DemoReport) -> None:
    """The end of a demo, for people."""
    plan = report.plan
    assert plan is not None
    stress, rad = report.stress, "-" if report.rad is None else f"{report.rad:.2f}"
    how = f"tree {report.tree}" + ("" if report.tree == "hybrid" else f", policy {report.policy}")
    console.print(f"{report.hosts} hosts on a cube of {plan.cube}, network {report.network}, {how}\n")
    console.print(_tree(report, plan), "", _table(report), "", sep="\n")
    console.print(
        f"success ratio {report.success_ratio:.2f}   mean lateness {report.lateness_mean:.3f}   "
        f"RAD {rad} (1 is direct unicast)\n"
        f"physical link stress: mean {stress.mean:.2f}, max {stress.max}, traversals {stress.traversals}\n"
        f"frames copied by relays in Python: {report.relay_copies_in_python}",
    )
    late = report.emulator.get("late_ms")
    if isinstance(late, dict):
        console.print(
            f"emulated Internet: {report.emulator['datagrams']} datagrams, {report.emulator['dropped']} dropped, "
            f"late by p50 {late['p50']:.1f}, p99 {late['p99']:.1f} ms",
        )
    if report.received_file:
        decoded = ", ".join(f"{count} {kind}" for kind, count in report.decoded.items())
        console.print(f"{report.received_file}: {decoded} frames decode")
    verdict = "nothing was lost" if report.nothing_lost else "FRAMES WERE LOST, or nobody was admitted"
    console.print(verdict, style="bold")


def draw_report(path: Path, report: DemoReport) -> None:
    """The report as an SVG picture, without the web font rich would name.

    Raises:
        UsageError: it cannot be written.
    """
    console = Console(record=True, file=io.StringIO(), width=PICTURE_WIDTH, markup=False, highlight=False)
    print_report(console, report)
    svg = re.sub(r"@font-face\s*\{.*?\}", "", console.export_svg(title="cubecast demo"), flags=re.DOTALL)
    try:
        path.write_text(svg)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; choose another file with --picture") from error


def _tree(report: DemoReport, plan: Plan) -> Tree:
    def name(host: str) -> str:
        return f"{host} at {format_label(plan.cube, plan.seats[plan.index(host)])}"

    publisher = plan.name(0)
    root = Tree(f"{name(publisher)} publishes")
    branches = {str(publisher): root}
    subscribers = {s.path[-1]: s for s in report.subscribers if s.admitted}
    for path in sorted(s.path for s in subscribers.values()):
        for above, below in pairwise(path):
            if below not in branches:
                served = subscribers.get(below)
                role = "relays" if served is None else f"receives after {_ms(served.delay_ms['p50'])}"
                branches[below] = branches[above].add(f"{name(below)} {role}")
    return root


def _table(report: DemoReport) -> Table:
    table = Table(
        box=None,
        padding=(0, 2, 0, 0),
        caption="times in ms; path: the emulated path alone; direct: a direct connection",
        caption_justify="left",
    )
    for column in ("host", "bound", "promised", "p50", "p99", "path", "direct", "in time", "lost", "served"):
        table.add_column(column, justify="left" if column in ("host", "served") else "right", no_wrap=True)
    for row in report.subscribers:
        if row.admitted:
            share = "" if row.in_time is None else f"{100 * row.in_time:.0f} %"
            lost, verdict = f"{row.frames['lost']}/{row.frames['published']}", "yes" if row.served else "no"
        else:
            share, lost = "", ""
            verdict = "refused" if row.best_ms is None else f"no, best {row.best_ms:.0f}"
        numbers = (row.bound_ms, row.promised_ms, row.delay_ms["p50"], row.delay_ms["p99"], row.path_ms, row.direct_ms)
        table.add_row(row.host, *("" if n is None else f"{n:.0f}" for n in numbers), share, lost, verdict)
    return table


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} ms"
