"""The types of an experiment: its parameters and tasks, and its results as rows and judged claims."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import isnan, nan
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from cubecast.overlay.cube import Cube

if TYPE_CHECKING:
    from cubecast.lab.drawing import Axes

Value: TypeAlias = str | int | float | bool | None
Row: TypeAlias = dict[str, Value]
"""One measurement: values by column."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters that a user may choose; each experiment uses some of them.

    Attributes:
        network: a name or file that `physical.catalogue` accepts.
        size: hosts of the network; None for the experiment's own choice, or all hosts of a file.
        seeds: one run for each; a seed determines the network, the labels and the groups.
        shape: shape of the cube; None for the experiment's own choice.
        pairs: number of routes, between random pairs.
        fan_out: maximum copies that a host may send.
        group: number of subscribers; None for the experiment's own choice, 0 for all other hosts.
        publishers: number of publishers, drawn at random, that results are averaged over; at most all hosts.
    """

    network: str = "transit-stub"
    size: int | None = None
    seeds: tuple[int, ...] = (1,)
    shape: Cube | None = None
    pairs: int = 100_000
    fan_out: int = 16
    group: int | None = None
    publishers: int = 4

    def as_json(self, options: frozenset[str]) -> dict[str, object]:
        """The parameters named in `options`, as they appear in a result."""
        fields = asdict(self)
        fields["seeds"] = list(self.seeds)
        fields["shape"] = None if self.shape is None else str(self.shape)
        fields["group"] = "all" if self.group == 0 else self.group
        return {name: value for name, value in fields.items() if name in options}


class Task(NamedTuple):
    """One independent piece of an experiment, with everything that a worker needs to run it.

    Attributes:
        kind: which of the experiment's measurements, if there are several.
        number: a size, a budget or an index, as the experiment defines.
        repeat: index of the publisher.
    """

    experiment: str
    parameters: Parameters
    seed: int
    kind: str = ""
    number: int = 0
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of the slides, or of this project, and what was measured.

    Attributes:
        published: the published figure; empty if there is none.
        holds: whether the measurement supports it; None if the run did not cover it.
        why: the reason why it does not hold or was not judged; may be empty.
    """

    sentence: str
    published: str
    measured: str
    holds: bool | None
    why: str = ""


@dataclass(frozen=True)
class Experiment:
    """An experiment of the lab.

    Attributes:
        source: the slide or paper whose claim it tests.
        options: the parameters it uses, by field name.
        defaults: the parameters of a run, unless the user chooses others.
        tasks: the tasks of a run; they may run in any order, in any process.
        measure: gives the rows of one task.
        judge: gives the claims, from all rows.
        draw: plots the rows; it gets the axes of each panel.
        reading: interpretation of the results and its limits, for the page of the experiment.
        panels: number of plots side by side.
    """

    name: str
    title: str
    source: str
    options: frozenset[str]
    defaults: Parameters
    tasks: Callable[[Parameters], list[Task]]
    measure: Callable[[Task], list[Row]]
    judge: Callable[[Sequence[Row], Parameters], list[Claim]]
    draw: Callable[[Sequence[Row], Sequence["Axes"]], None]
    reading: str
    panels: int = 1


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """The result of a run of an experiment.

    Attributes:
        options: the parameters that the experiment uses, by field name.
        version: version of cubecast that ran it.
        seconds: sum of the durations of all its tasks.
    """

    experiment: str
    options: frozenset[str]
    version: str
    parameters: Parameters
    rows: list[Row]
    claims: list[Claim]
    seconds: float = 0.0

    def as_json(self) -> dict[str, object]:
        """The object that `cubecast lab run --json` prints and `lab.report.save` writes."""
        return {
            "experiment": self.experiment,
            "version": self.version,
            "parameters": self.parameters.as_json(self.options),
            "seed": self.parameters.seeds[0],
            "rows": self.rows,
            "claims": [asdict(claim) for claim in self.claims],
            "seconds": round(self.seconds, 1),
        }


Point: TypeAlias = tuple[str, int, int]
"""Kind, number and repeat of a task."""


def one_task_a_seed(name: str, parameters: Parameters, points: Sequence[Point] = (("", 0, 0),)) -> list[Task]:
    """A task for each point and seed."""
    return [Task(name, parameters, seed, *point) for seed in parameters.seeds for point in points]


def matching(rows: Sequence[Row], **where: Value) -> list[Row]:
    """The rows that have these values."""
    return [row for row in rows if all(row.get(key) == wanted for key, wanted in where.items())]


def number(row: Row, column: str) -> float:
    """A number in a row; nan if the column is absent or not a number."""
    value = row.get(column)
    return float(value) if isinstance(value, int | float) else nan


def column_of(rows: Sequence[Row], column: str) -> list[float]:
    """A column's number in every row; nan in rows without one."""
    return [number(row, column) for row in rows]


def mean_of(rows: Sequence[Row], column: str, **where: Value) -> float:
    """The mean of a column over the rows that have these values; nan if there are none."""
    values = [value for value in column_of(matching(rows, **where), column) if not isnan(value)]
    return sum(values) / len(values) if values else nan


def names_of(rows: Sequence[Row], column: str) -> list[str]:
    """The distinct texts of a column, in order of appearance."""
    return list(dict.fromkeys(str(row[column]) for row in rows if column in row))


def sizes_of(rows: Sequence[Row], column: str) -> list[int]:
    """The distinct whole numbers of a column, in order of appearance."""
    return list(dict.fromkeys(int(number(row, column)) for row in rows if column in row))
