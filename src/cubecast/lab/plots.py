"""Plots of results, drawn by matplotlib without a screen, with the slides' axes where they are known."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cubecast.errors import LabError
from cubecast.lab.experiment import Result
from cubecast.lab.experiments import EXPERIMENTS

PANEL_INCHES = (5.2, 3.9)
DPI = 110


def plot(result: Result, folder: Path) -> Path:
    """Draws a result as NAME.png; the same result gives the same picture.

    Raises:
        LabError: the folder cannot be written, or the rows are of another version.
    """
    experiment = EXPERIMENTS[result.experiment]
    figure = Figure(figsize=(PANEL_INCHES[0] * experiment.panels, PANEL_INCHES[1]), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, experiment.panels, panel + 1) for panel in range(experiment.panels)]
    try:
        experiment.draw(result.rows, axes)
    except (KeyError, StopIteration, ValueError, TypeError) as error:
        raise LabError(f"the rows of {result.experiment} lack what its plot needs; run the experiment again") from error
    where = f" ({result.parameters.network})" if "network" in experiment.options else ""
    figure.suptitle(experiment.title + where, fontsize="medium")
    path = folder / f"{result.experiment}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Software": f"cubecast {result.version}"})
    except OSError as error:
        raise LabError(f"cannot write {path}: {error.strerror}; choose another folder with --output") from error
    return path
