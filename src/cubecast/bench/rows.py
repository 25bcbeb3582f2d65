"""How every benchmark of this project tells its figures."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Row:
    """One figure and its bar; `skipped` says why there is none.

    Attributes:
        ratio: the figure against `relative_to`.
    """

    name: str
    value: float
    unit: str
    relative_to: str
    ratio: float
    bar: float
    holds: bool
    skipped: str = ""


def row(name: str, value: float, unit: str, relative_to: str, bar: float, at_most: bool = True) -> Row:
    """A figure against its bar, which it may not exceed, or with `at_most=False` must reach."""
    holds = value <= bar if at_most else value >= bar
    return Row(name, round(value, 4), unit, relative_to, round(value / bar, 3), bar, holds)


def tell(rows: Sequence[Row], as_json: bool) -> int:
    """Prints the rows; 0 when every bar holds, else 1."""
    if as_json:
        print(json.dumps({"rows": [asdict(row) for row in rows]}))
    else:
        for row in rows:
            if row.skipped:
                print(f"{row.name}: skipped: {row.skipped}")
                continue
            verdict = "holds" if row.holds else "DOES NOT HOLD"
            print(f"{row.name}: {row.value} {row.unit}, {row.ratio} x {row.relative_to}; bar {row.bar} {verdict}")
    return 0 if all(row.holds or row.skipped for row in rows) else 1
