"""What an experiment is: parameters in, tidy rows and judged claims out."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import isnan, nan
from typing import NamedTuple, TypeAlias

from matplotlib.axes import Axes

from cubecast.overlay.cube import Cube

Value: TypeAlias = str | int | float | bool | None
Row: TypeAlias = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a user may choose; each experiment uses some of it.

    Attributes:
        network: a name or file, as `physical.catalogue` knows them.
        size: hosts of the network; None for the experiment's own choice, or all hosts of a file.
        seeds: one run for each; a seed draws the network, the labels and the groups.
        shape: of the cube; None for the experiment's own choice.
        pairs: routes to draw.
        fan_out: copies a host may send.
        group: subscribers; None for the experiment's own choice, 0 for all other hosts.
        publishers: how many are drawn and averaged over; at most all hosts.
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
        """As a result tells them: those that the experiment uses."""
        told = asdict(self)
        told["seeds"] = list(self.seeds)
        told["shape"] = None if self.shape is None else str(self.shape)
        told["group"] = "all" if self.group == 0 else self.group
        return {name: value for name, value in told.items() if name in options}


class Task(NamedTuple):
    """One piece of an experiment that runs on its own: everything a worker needs.

    Attributes:
        kind: which of the experiment's measurements, where there are several.
        number: at which size, budget or place of a list.
        repeat: which publisher.
    """

    experiment: str
    parameters: Parameters
    seed: int
    kind: str = ""
    number: int = 0
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of the slides, or of ours, and what was measured.

    Attributes:
        published: the published figure, or an empty text where there is none.
        holds: None where the run did not cover it.
    """

    sentence: str
    published: str
    measured: str
    holds: bool | None
    why: str = ""


@dataclass(frozen=True)
class Experiment:
    """A named entry of the lab.

    Attributes:
        source: the slide or paper whose claim it tests.
        options: the parameters it uses, by field name.
        defaults: what it runs with unless told otherwise.
        tasks: the pieces of a run; they run in any order, in any process.
        measure: the rows of one piece.
        judge: the claims, from all rows.
        panels: how many plots; `draw` is given the axes of each.
        reading: what the figures say and what they do not, for the page of the experiment.
    """

    name: str
    title: str
    source: str
    options: frozenset[str]
    defaults: Parameters
    tasks: Callable[[Parameters], list[Task]]
    measure: Callable[[Task], list[Row]]
    judge: Callable[[Sequence[Row], Parameters], list[Claim]]
    draw: Callable[[Sequence[Row], Sequence[Axes]], None]
    reading: str
    panels: int = 1


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """What a run of an experiment gave.

    Attributes:
        options: the parameters that the experiment uses.
        seconds: of all its tasks together.
    """

    experiment: str
    options: frozenset[str]
    version: str
    parameters: Parameters
    rows: list[Row]
    claims: list[Claim]
    seconds: float = 0.0

    def as_json(self) -> dict[str, object]:
        """The contract's object."""
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
    """A task for every seed and point."""
    return [Task(name, parameters, seed, *point) for seed in parameters.seeds for point in points]


def matching(rows: Sequence[Row], **where: Value) -> list[Row]:
    """The rows that have these values."""
    return [row for row in rows if all(row.get(key) == wanted for key, wanted in where.items())]


def number(row: Row, column: str) -> float:
    """A figure of a row; nan where it has none."""
    value = row.get(column)
    return float(value) if isinstance(value, int | float) else nan


def column_of(rows: Sequence[Row], column: str) -> list[float]:
    """A figure of every row, nan where it has none."""
    return [number(row, column) for row in rows]


def mean_of(rows: Sequence[Row], column: str, **where: Value) -> float:
    """The mean of a figure over the rows that have these values; nan when none does."""
    values = [value for value in column_of(matching(rows, **where), column) if not isnan(value)]
    return sum(values) / len(values) if values else nan


def names_of(rows: Sequence[Row], column: str) -> list[str]:
    """The distinct texts of a column, in order of appearance."""
    return list(dict.fromkeys(str(row[column]) for row in rows if column in row))


def sizes_of(rows: Sequence[Row], column: str) -> list[int]:
    """The distinct whole numbers of a column, in order of appearance."""
    return list(dict.fromkeys(int(number(row, column)) for row in rows if column in row))
