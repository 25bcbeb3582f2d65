"""How every benchmark of this project tells its figures."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """One figure and its bar; `skipped` says why there is none.

    Attributes:
        ratio: the figure against `relative_to`.
        bar: None where there is none to hold.
    """

    name: str
    value: float
    unit: str
    relative_to: str
    ratio: float
    bar: float | None
    holds: bool
    skipped: str = ""


def row(name: str, value: float, unit: str, relative_to: str, bar: float, at_most: bool = True) -> Row:
    """A figure against its bar, which it may not exceed, or with `at_most=False` must reach."""
    holds = value <= bar if at_most else value >= bar
    return Row(name, round(value, 4), unit, relative_to, round(value / bar, 3), bar, holds)


def failed(name: str, error: Exception) -> Row:
    """A figure that could not be had although it should: its bar does not hold."""
    return Row(name, 0, "", f"nothing, for it failed: {str(error) or type(error).__name__}", 0, 0, holds=False)


def verdict(row: Row) -> str:
    """The bar and whether it holds; nothing where there is no bar."""
    if row.bar is None:
        return ""
    return f"; bar {row.bar} {'holds' if row.holds else 'DOES NOT HOLD'}"


def tell(rows: Sequence[Row], as_json: bool) -> int:
    """Prints the rows; 0 when every bar holds, else 1."""
    if as_json:
        print(json.dumps({"rows": [asdict(row) for row in rows]}))
    else:
        for row in rows:
            if row.skipped:
                print(f"{row.name}: skipped: {row.skipped}")
                continue
            print(f"{row.name}: {row.value} {row.unit}, {row.ratio} x {row.relative_to}{verdict(row)}")
    return 0 if all(row.holds or row.skipped for row in rows) else 1
