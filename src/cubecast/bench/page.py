"""A benchmark's page of the documentation: a table of its rows and, if it has one, a plot."""

import importlib.util
import platform
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cubecast import __version__
from cubecast.bench.rows import Row, verdict
from cubecast.errors import LabError

if TYPE_CHECKING:
    from cubecast.lab.drawing import Axes

Draw = Callable[[Sequence[Row], "Axes"], None]


def check(folder: Path, draw: Draw | None = None) -> None:
    """Refuses a page that could not be written, before minutes of measuring.

    Raises:
        LabError: the folder cannot be written, or matplotlib is not installed and the page has a plot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error
    if draw is not None and importlib.util.find_spec("matplotlib") is None:
        raise _without("matplotlib")


def write(name: str, title: str, rows: Sequence[Row], folder: Path, draw: Draw | None = None, note: str = "") -> Path:
    """Writes NAME.md and, with `draw`, NAME.png beside it. Returns the page's path.

    Args:
        note: paragraphs below the title.

    Raises:
        LabError: the folder cannot be written, or matplotlib is not installed.
    """
    lines = [f"# {title}", "", *([note, ""] if note else [])]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if draw is not None:
            _plot(folder / f"{name}.png", title, rows, draw)
            lines += [f"![{title}]({name}.png)", ""]
        lines += ["| what | figure | against | ratio | bar |", "|---|---|---|---|---|"]
        lines += [_line(row) for row in rows]
        made = f"cubecast {__version__} on {platform.machine()}, Linux {platform.release().split('-')[0]}"
        lines += ["", f"Best of several. Made by `cubecast bench {name} --output FOLDER`; {made}.", ""]
        page = folder / f"{name}.md"
        page.write_text("\n".join(lines), encoding="utf-8")
    except OSError as error:
        raise _unwritable(folder, error) from error
    return page


def _unwritable(folder: Path, error: OSError) -> LabError:
    return LabError(f"cannot write {folder}: {error.strerror}; choose another folder with --output")


def _without(module: str | None) -> LabError:
    return LabError(f"a page with a plot needs {module}; install it with: pip install 'cubecast[lab]'")


def _plot(path: Path, title: str, rows: Sequence[Row], draw: Draw) -> None:
    try:
        from cubecast.lab.drawing import save_figure  # noqa: PLC0415  needs matplotlib, which measuring does not
    except ImportError as error:
        raise _without(error.name) from error
    save_figure(path, title, __version__, lambda axes: draw(rows, axes[0]))


def _line(row: Row) -> str:
    if row.skipped:
        return f"| {row.name} | skipped: {row.skipped} | | | |"
    return f"| {row.name} | {row.value} {row.unit} | {row.relative_to} | {row.ratio} | {verdict(row)} |"
