"""Results as JSON and Parquet files, as tables of rows and claims, and compared with a baseline."""

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from cubecast.errors import LabError
from cubecast.lab.experiment import Claim, ExperimentResult, Parameters, Row
from cubecast.lab.experiments import EXPERIMENTS
from cubecast.overlay.cube import parse_cube

ROWS_SHOWN_MAX = 60
"""Maximum number of rows in a table on the screen."""
CHANGE_MIN = 0.01
"""Minimum relative change against a baseline that is listed."""
NOT_COMPARED = frozenset({"seconds_per_million"})
"""Columns that a comparison ignores because they depend on the machine."""


class _StoredClaim(msgspec.Struct):
    sentence: str
    published: str
    measured: str
    holds: bool | None
    why: str


class _Stored(msgspec.Struct):
    experiment: str
    version: str
    parameters: dict[str, str | int | float | bool | list[int] | None]
    rows: list[dict[str, str | int | float | bool | None]]
    claims: list[_StoredClaim]
    seconds: float = 0.0


def ensure_writable(folder: Path) -> None:
    """Checks before a run that results can be written to a folder; files and folders it creates are removed again.

    Raises:
        LabError: the folder cannot be written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
        for path in made:
            path.rmdir()
    except OSError as error:
        raise LabError(f"cannot write results to {folder}: {error.strerror}; choose another with --output") from error


def save(result: ExperimentResult, folder: Path) -> list[Path]:
    """Writes a result as NAME.json and its rows as NAME.parquet.

    Raises:
        LabError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = folder / f"{result.experiment}.json"
        text.write_text(json.dumps(result.as_json(), indent=1) + "\n", encoding="utf-8")
        table = pa.Table.from_pylist(_same_columns(result.rows)).replace_schema_metadata(
            {
                "experiment": result.experiment,
                "version": result.version,
                "parameters": json.dumps(result.parameters.as_json(result.options)),
            }
        )
        rows = folder / f"{result.experiment}.parquet"
        pq.write_table(table, rows)
    except OSError as error:
        raise LabError(f"cannot write results to {folder}: {error.strerror}; choose another with --output") from error
    return [text, rows]


def _same_columns(rows: Sequence[Row]) -> list[Row]:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return [{column: row.get(column) for column in columns} for row in rows]


def load(path: Path) -> ExperimentResult:
    """Reads a result.

    Raises:
        LabError: the file cannot be read, or is no result of a known experiment.
    """
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=_Stored)
    except OSError as error:
        raise LabError(f"cannot read {path}: {error.strerror}; run the experiment first: cubecast lab run") from error
    except msgspec.DecodeError as error:
        raise LabError(f"{path} is not a result of the lab: {error}") from error
    if not stored.rows:
        raise LabError(f"{path} holds no rows; run the experiment again: cubecast lab run {stored.experiment}")
    if stored.experiment not in EXPERIMENTS:
        raise LabError(f"{path} is a result of {stored.experiment!r}, which this version does not know")
    return ExperimentResult(
        stored.experiment,
        EXPERIMENTS[stored.experiment].options,
        stored.version,
        _parameters(stored.parameters),
        list(stored.rows),
        [Claim(c.sentence, c.published, c.measured, c.holds, c.why) for c in stored.claims],
        stored.seconds,
    )


def _parameters(stored: dict[str, str | int | float | bool | list[int] | None]) -> Parameters:
    seeds, shape, group, size = stored.get("seeds"), stored.get("shape"), stored.get("group"), stored.get("size")
    default = Parameters()
    numbers = {name: stored.get(name) for name in ("pairs", "fan_out", "publishers")}
    return Parameters(
        network=str(stored.get("network") or default.network),
        size=size if isinstance(size, int) else None,
        seeds=tuple(seeds) if isinstance(seeds, list) and seeds else default.seeds,
        shape=parse_cube(shape) if isinstance(shape, str) else None,
        group=0 if group == "all" else group if isinstance(group, int) else None,
        **{name: value for name, value in numbers.items() if isinstance(value, int)},
    )


def load_all(path: Path) -> dict[str, ExperimentResult]:
    """The results of a folder, or of one file, by experiment.

    Raises:
        LabError: there are no results.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise LabError(f"{path} holds no results; make some: cubecast lab run all --output {path}")
    return {result.experiment: result for result in map(load, files)}


def rows_table(result: ExperimentResult) -> Table:
    """The first ROWS_SHOWN_MAX rows of a result's last kind, without the columns of RDP quantiles."""
    shown = [row for row in result.rows if row.get("kind") == result.rows[-1].get("kind")] or result.rows
    if len(shown) > ROWS_SHOWN_MAX:
        shown = shown[:ROWS_SHOWN_MAX]
    columns = [c for c in dict.fromkeys(column for row in shown for column in row) if not _is_quantile(c)]
    table = Table(title=f"{result.experiment}: {len(shown)} of {len(result.rows)} rows", title_justify="left")
    for column in columns:
        right = any(isinstance(row.get(column), int | float) for row in shown)
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in shown:
        table.add_row(*(cell(row.get(column)) for column in columns))
    return table


def _is_quantile(column: str) -> bool:
    return column.startswith("rdp_") and column[4:].isdecimal()


def cell(value: object) -> str:
    """A value as tables and pages show it: floats with four digits, None empty."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return "" if value is None else str(value)


def claims_table(results: Sequence[ExperimentResult]) -> Table:
    """A table of every claim: sentence, published figure, measurement, whether it holds, and why."""
    table = Table(title="claims", title_justify="left", show_lines=True, expand=True)
    for column, ratio in (
        ("experiment", None),
        ("claim", 5),
        ("published", 2),
        ("measured", 5),
        ("holds", None),
        ("why", 4),
    ):
        table.add_column(column, ratio=ratio, overflow="fold")
    for result in results:
        for claim in result.claims:
            table.add_row(
                result.experiment, claim.sentence, claim.published, claim.measured, verdict(claim.holds), claim.why
            )
    return table


def verdict(holds: bool | None) -> str:
    """Whether a claim holds, as text."""
    return "not covered" if holds is None else "yes" if holds else "NO"


def compare(ours: dict[str, ExperimentResult], baseline: dict[str, ExperimentResult]) -> tuple[Table, list[str]]:
    """Compares results with a baseline.

    Two rows correspond if their texts and their parameters (such as group or seed) are equal, and they have the same
    position among the rows of which that holds; measured values do not matter.

    Returns:
        A table of changed figures; and a line for each claim that held in the baseline and does not now, and for each row
        that is missing now.

    Raises:
        LabError: there is no common experiment, or one ran with different parameters.
    """
    common = [name for name in baseline if name in ours]
    if not common:
        raise LabError(
            f"the baseline has {', '.join(baseline)}, the results {', '.join(ours)}: no experiment in common"
        )
    for name in common:
        _check_same_parameters(name, ours[name], baseline[name])
    table = Table(title="changed against the baseline", title_justify="left")
    for column in ("experiment", "row", "column", "baseline", "now", "change"):
        table.add_column(
            column, justify="left" if column in ("experiment", "row", "column") else "right", overflow="fold"
        )
    lost: list[str] = []
    for name in common:
        before, now = _by_key(baseline[name].rows), _by_key(ours[name].rows)
        lost += [f"{name}: the row {key} is missing" for key in before if key not in now]
        for key in [key for key in before if key in now]:
            for column, old, new in _changed(before[key], now[key]):
                table.add_row(name, key, column, cell(old), cell(new), f"{100 * (new / old - 1):+.1f} %" if old else "")
        held = {claim.sentence: claim for claim in ours[name].claims}
        lost += [
            f"{name}: {claim.sentence}: {held[claim.sentence].measured} (was: {claim.measured})"
            for claim in baseline[name].claims
            if claim.holds and claim.sentence in held and held[claim.sentence].holds is False
        ]
    return table, lost


def _check_same_parameters(name: str, ours: ExperimentResult, baseline: ExperimentResult) -> None:
    before, now = (each.parameters.as_json(each.options) for each in (baseline, ours))
    other = [
        f"{option} {before[option]} in the baseline, {now[option]} in the results"
        for option in now
        if before[option] != now[option]
    ]
    if other:
        raise LabError(
            f"{name} ran with other parameters: {'; '.join(other)}; run it with the parameters of the baseline"
        )


def _by_key(rows: Sequence[Row]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for row in rows:
        key = " ".join(f"{value}" for value in row.values() if isinstance(value, str | bool))
        choice = [
            f"{column}={row[column]}"
            for column in ("hosts", "group", "fan_out", "publisher", "publishers", "depth", "seed", "probes", "tries")
            if column in row
        ]
        label = " ".join([key, *choice])
        place = 0
        while label in found:
            place += 1
            label = f"{' '.join([key, *choice])} #{place}"
        found[label] = row
    return found


def _changed(before: Row, now: Row) -> list[tuple[str, float, float]]:
    changes = []
    for column, old in before.items():
        new = now.get(column)
        if column in NOT_COMPARED or isinstance(old, bool | str) or isinstance(new, bool | str):
            continue
        if old is not None and new is not None and abs(new - old) > CHANGE_MIN * max(abs(old), 1e-9):
            changes.append((column, float(old), float(new)))
    return changes
