"""Prints a demo: the live table while it runs, and the report at its end, as text or as a picture."""

import io
import re
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from cubecast.cli.report.demo import DemoReport, SubscriberReport, TreeEdge, frames_published, number
from cubecast.emulator.testbed import Testbed
from cubecast.errors import UsageError

PICTURE_WIDTH = 92
"""Columns of the picture."""
BESIDE_WIDTH = 90
"""Least number of columns at which the two delivery trees are printed side by side; below, one after the other."""
LEFT_ALIGNED = ("host", "subscriber", "state", "result")
"""Columns of text; the others hold numbers and are aligned right."""


def live_table(bed: Testbed) -> Table:
    """The table of the subscribers' current states."""
    table = Table(title=f"channel over {bed.plan.cube}", title_justify="left")
    for column in ("subscriber", "bound", "promised", "delay p50", "frames", "state"):
        table.add_column(column, justify="left" if column in LEFT_ALIGNED else "right")
    sent = frames_published(bed.publisher)
    for order, host in enumerate(bed.subscribers):
        promised = number(host.events.get("admitted", {}).get("promised_ms"))
        last = host.events.get("summary") or host.status
        delay, frames = last.get("delay_ms"), last.get("frames")
        p50 = delay["p50"] if isinstance(delay, dict) else None
        received = frames["received"] if isinstance(frames, dict) else 0
        state = next((e for e in ("summary", "receiving", "refused", "admitted", "joined") if e in host.events), "")
        shown = "killed" if host.ended else {"summary": "ended", "joined": "waiting"}.get(state, state)
        bound = _ms(bed.plan.bounds_ms[order])
        table.add_row(host.name, bound, _ms(promised), _ms(p50), f"{received}/{sent}", shown)
    return table


def print_report(console: Console, report: DemoReport) -> None:
    """Prints the report for people."""
    plan = report.plan
    assert plan is not None
    method = f"tree {report.tree}" + ("" if report.tree == "hybrid" else f", policy {report.policy}")
    console.print(
        f"{report.hosts} hosts on a cube of {plan.cube}, network {report.network}, {method}, fan-out {report.fan_out}\n"
    )
    console.print(_trees(report, beside=console.width >= BESIDE_WIDTH), "", _table(report), "", sep="\n")
    _print_measures(console, report)
    console.print()
    if report.failures:
        console.print(Text(f"FAILED: {'; '.join(report.failures)}", style="bold"))
    else:
        console.print(Text(f"Shown: {_shown(report)}", style="bold"))


def draw_report(path: Path, report: DemoReport) -> None:
    """Draws the report as an SVG picture, without the web font that rich would refer to.

    Raises:
        UsageError: the file cannot be written.
    """
    console = Console(record=True, file=io.StringIO(), width=PICTURE_WIDTH, markup=False, highlight=False)
    print_report(console, report)
    svg = re.sub(r"@font-face\s*\{.*?\}", "", console.export_svg(title="cubecast demo"), flags=re.DOTALL)
    try:
        path.write_text(svg)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; choose another file with --picture") from error


def _trees(report: DemoReport, *, beside: bool) -> Table:
    """The delivery trees before and after the kill, side by side or one after the other; one tree without a kill."""
    before = {edge.child: edge.parent for edge in report.tree_before}
    marks, moved = {}, {}
    if report.kill is not None:
        marks = {report.kill.host: "will be killed"}
        moved = {
            edge.child: f"was fed by {before[edge.child]}"
            for edge in report.tree_after
            if before.get(edge.child, edge.parent) != edge.parent
        }
    trees = [(Text("delivery tree before the kill", "bold"), _tree(report, report.tree_before, marks))]
    if report.kill is None:
        trees = [(Text("delivery tree", "bold"), trees[0][1])]
    else:
        trees.append((Text(f"after kill -9 of {report.kill.host}", "bold"), _tree(report, report.tree_after, moved)))
    table = Table.grid(padding=(0, 4, 0, 0))
    if beside:
        for row in zip(*trees, strict=True):
            table.add_row(*row)
    else:
        for title, tree in trees:
            table.add_row(title)
            table.add_row(tree)
    return table


def _tree(report: DemoReport, edges: list[TreeEdge], marks: dict[str, str]) -> Tree:
    """One delivery tree, each host with the delay of its hop and the sum of the hops from the publisher."""
    assert report.plan is not None
    publisher = str(report.plan.name(0))
    root = Tree(f"{publisher} publishes")

    def grow(branch: Tree, parent: str, above_ms: float) -> None:
        for edge in edges:
            if edge.parent == parent:
                sum_ms = above_ms + edge.hop_ms
                total = "" if parent == publisher else f" = {sum_ms:.0f}"
                mark = f"  {marks[edge.child]}" if edge.child in marks else ""
                grow(branch.add(f"{edge.child}  +{edge.hop_ms:.0f}{total} ms{mark}"), edge.child, sum_ms)

    grow(root, publisher, 0.0)
    return root


def _table(report: DemoReport) -> Table:
    caption = "times in ms; path, direct: emulated delay over the path and without relays"
    table = Table(box=None, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    for column in ("host", "bound", "promised", "p50", "p99", "path", "direct", "in time", "lost", "result"):
        table.add_column(column, justify="left" if column in LEFT_ALIGNED else "right", no_wrap=True)
    for row in report.subscribers:
        share, lost = "", ""
        if row.admitted and not row.killed:
            share = "" if row.in_time is None else f"{100 * row.in_time:.0f} %"
            lost = f"{row.frames['lost']}/{row.frames['published']}"
        numbers = (row.bound_ms, row.promised_ms, row.delay_ms["p50"], row.delay_ms["p99"], row.path_ms, row.direct_ms)
        table.add_row(row.host, *("" if n is None else f"{n:.0f}" for n in numbers), share, lost, _result(row))
    return table


def _result(row: SubscriberReport) -> str:
    """The outcome for a subscriber, as a short phrase."""
    if not row.admitted:
        return "not served" if row.best_ms is None else f"refused; offered {row.best_ms:.0f}"
    if row.killed:
        return "killed"
    if row.frames["lost"]:
        return "lost frames"
    if row.gap_ms:
        return f"recovered, gap {row.gap_ms:.0f}"
    return "served" if row.served else "complete, late"


def _print_measures(console: Console, report: DemoReport) -> None:
    stress, rad = report.stress, "-" if report.rad is None else f"{report.rad:.2f}"
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
        console.print(f"{report.received_file}: {decoded} frames decode, of {report.published} published")


def _shown(report: DemoReport) -> str:
    """What a successful run has shown, in one paragraph."""
    bounds = sorted(row.bound_ms for row in report.admitted)
    children = {edge.child for edge in report.tree_before}
    relays = {edge.parent for edge in report.tree_before if edge.parent in children}
    one = bounds[0] == bounds[-1]
    spread = f"a bound of {bounds[0]:g} ms" if one else f"bounds of {bounds[0]:g} to {bounds[-1]:g} ms"
    in_time = sum(row.in_time or 0.0 for row in report.admitted) / len(report.admitted)
    over = f"over {_count(len(relays), 'relay')}, {100 * in_time:.0f} % of them in time"
    parts = [f"{_count(len(bounds), 'subscriber')} with {spread} received every frame {over}"]
    refused = next((row for row in report.subscribers if row.host == report.impossible), None)
    if refused is not None and refused.best_ms is not None:
        parts.append(f"{refused.host} wanted {refused.bound_ms:g} ms, was refused and offered {refused.best_ms:.0f} ms")
    if report.kill is not None:
        gap = "" if report.kill.gap_ms_max is None else f" within {report.kill.gap_ms_max / 1000:.1f} s"
        parts.append(f"relay {report.kill.host} was killed; {', '.join(report.kill.fed)} recovered{gap}")
    return f"{'; '.join(parts)}; no frame was lost."


def _count(number_of: int, noun: str) -> str:
    return f"{number_of} {noun}" if number_of == 1 else f"{number_of} {noun}s"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} ms"
