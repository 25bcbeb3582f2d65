"""Pictures on disk, drawn by matplotlib without a screen."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cubecast.errors import LabError

PANEL_INCHES = (5.2, 3.9)
DPI = 110

__all__ = ["Axes", "save_figure"]


def save_figure(path: Path, title: str, version: str, draw: Callable[[Sequence[Axes]], None], panels: int = 1) -> None:
    """Draws a picture of one or several panels side by side; the same data give the same file.

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
