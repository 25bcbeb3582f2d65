"""Figures written to files by matplotlib, without a display. The lab imports matplotlib here only."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cubecast.errors import LabError

PANEL_INCHES = (5.2, 3.9)
"""Width and height of a panel."""
DPI = 110
"""Resolution of figures, pixels per inch: a panel is 572 pixels wide. A higher one would make larger files."""

__all__ = ["Axes", "save_figure"]


def save_figure(path: Path, title: str, version: str, draw: Callable[[Sequence[Axes]], None], panels: int = 1) -> None:
    """Draws a figure of `panels` panels side by side and writes it to `path`; the same data give the same file.

    Raises:
        LabError: the file cannot be written.
    """
    figure = Figure(figsize=(PANEL_INCHES[0] * panels, PANEL_INCHES[1]), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    draw([figure.add_subplot(1, panels, panel + 1) for panel in range(panels)])
    figure.suptitle(title, fontsize="medium")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Software": f"cubecast {version}"})
    except OSError as error:
        raise LabError(f"cannot write {path}: {error.strerror}; choose another folder with --output") from error
