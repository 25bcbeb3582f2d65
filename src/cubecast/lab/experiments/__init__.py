"""The experiments by name, in the order of the documentation."""

from cubecast.errors import UsageError
from cubecast.lab.experiment import Experiment
from cubecast.lab.experiments import (
    join,
    m_region_load,
    multicast,
    placement,
    relocation,
    rivals,
    routing,
    shape,
    tree_scale,
    trees,
)

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        shape.EXPERIMENT,
        m_region_load.EXPERIMENT,
        routing.EXPERIMENT,
        rivals.EXPERIMENT,
        relocation.EXPERIMENT,
        multicast.EXPERIMENT,
        placement.EXPERIMENT,
        trees.EXPERIMENT,
        trees.HIGH_ACCESS,
        tree_scale.EXPERIMENT,
        join.EXPERIMENT,
    )
}


def experiments(names: list[str]) -> list[Experiment]:
    """The experiments with these names, each once; `all` means every experiment.

    Raises:
        UsageError: a name is unknown.
    """
    wanted: list[str] = []
    for name in names:
        if name != "all" and name not in EXPERIMENTS:
            raise UsageError(f"there is no experiment {name!r}; there are {', '.join(EXPERIMENTS)}, or all")
        wanted += list(EXPERIMENTS) if name == "all" else [name]
    return [EXPERIMENTS[name] for name in dict.fromkeys(wanted)]
