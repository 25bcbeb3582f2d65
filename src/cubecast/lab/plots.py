"""Plots of results; those that the slides have too use the slides' axes."""

from collections.abc import Sequence
from pathlib import Path

from cubecast.errors import LabError
from cubecast.lab.drawing import Axes, save_figure
from cubecast.lab.experiment import ExperimentResult
from cubecast.lab.experiments import EXPERIMENTS


def plot(result: ExperimentResult, folder: Path) -> Path:
    """Draws a result as NAME.png and returns its path; the same result gives the same file.

    Raises:
        LabError: the folder cannot be written, or the rows lack columns that the plot needs.
    """
    experiment = EXPERIMENTS[result.experiment]

    def draw(axes: Sequence[Axes]) -> None:
        try:
            experiment.draw(result.rows, list(axes))
        except (KeyError, StopIteration, ValueError, TypeError) as error:
            raise LabError(
                f"the rows of {result.experiment} lack what its plot needs; run the experiment again"
            ) from error

    where = f" ({result.parameters.network})" if "network" in experiment.options else ""
    path = folder / f"{result.experiment}.png"
    save_figure(path, experiment.title + where, result.version, draw, experiment.panels)
    return path
