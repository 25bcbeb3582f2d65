"""The rows that every benchmark reports: a figure, what it is compared with, and the bar it must meet."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

Judged: TypeAlias = Literal["ratio", "figure", ""]
"""What the bar applies to: the ratio, the figure itself (an absolute bar), or nothing."""


@dataclass(frozen=True)
class Row:
    """One figure and its bar.

    Attributes:
        ratio: the figure relative to `relative_to`, or to an absolute bar.
        bar: None if there is none.
        holds: whether the bar is met; True without a bar.
        skipped: why there is no figure; empty if there is one.
        judged: what the bar applies to.
    """

    name: str
    value: float
    unit: str
    relative_to: str
    ratio: float
    bar: float | None
    holds: bool
    skipped: str = ""
    judged: Judged = ""


def ratio_row(name: str, value: float, unit: str, other_name: str, other: float, bar: float) -> Row:
    """A figure whose ratio to another figure of the same run may be at most `bar`."""
    ratio = value / other
    relative_to = f"{other_name} ({other:.4g} {unit})"
    return Row(
        name, round(value, 4), unit, relative_to, round(ratio, 4), round(bar, 4), holds=ratio <= bar, judged="ratio"
    )


def absolute_row(name: str, value: float, unit: str, bar: float, at_most: bool = True) -> Row:
    """A figure that may be at most `bar`, or with `at_most=False` must be at least `bar`, whatever the machine."""
    holds = value <= bar if at_most else value >= bar
    return Row(name, round(value, 4), unit, "the bar", round(value / bar, 3), bar, holds, judged="figure")


def zero_row(name: str, value: float, unit: str = "", relative_to: str = "none") -> Row:
    """A count that must be 0."""
    return Row(name, value, unit, relative_to, value, 0, holds=value == 0, judged="figure")


def unjudged_row(name: str, value: float, unit: str, relative_to: str, ratio: float) -> Row:
    """A figure without a bar."""
    return Row(name, value, unit, relative_to, ratio, None, holds=True)


def skipped_row(name: str, why: str) -> Row:
    """A figure that cannot be measured here; it counts neither for nor against."""
    return Row(name, 0, "", "", 0, None, holds=False, skipped=why)


def failed_row(name: str, error: Exception) -> Row:
    """A figure whose measurement failed; its bar does not hold."""
    return Row(name, 0, "", f"nothing: it failed: {str(error) or type(error).__name__}", 0, 0, holds=False)


def verdict(row: Row) -> str:
    """The bar, what it applies to and whether it holds; empty without a bar."""
    if row.bar is None:
        return ""
    kind = {"ratio": "ratio bar ", "figure": "absolute bar ", "": ""}[row.judged]
    return f"{kind}{row.bar} {'holds' if row.holds else 'DOES NOT HOLD'}"


def print_rows(rows: Sequence[Row], as_json: bool) -> int:
    """Prints the rows; returns 0 if every bar holds, else 1."""
    if as_json:
        print(json.dumps({"rows": [asdict(row) for row in rows]}))
    else:
        for row in rows:
            print_row(row)
    return 0 if all(row.holds or row.skipped for row in rows) else 1


def print_row(row: Row) -> None:
    """Prints one row as a line of text."""
    if row.skipped:
        print(f"{row.name}: skipped: {row.skipped}", flush=True)
        return
    judgement = verdict(row)
    print(
        f"{row.name}: {row.value} {row.unit}, {row.ratio} x {row.relative_to}"
        + (f"; {judgement}" if judgement else ""),
        flush=True,
    )


def print_as_they_come(rows: Iterable[Row], as_json: bool) -> Iterator[Row]:
    """Passes rows on and prints each at once, so that none is lost if the next takes long or fails.

    With `as_json` nothing is printed: `print_rows` prints the one object at the end.
    """
    for row in rows:
        if not as_json:
            print_row(row)
        yield row


def all_hold(rows: Sequence[Row], as_json: bool) -> int:
    """Ends what `print_as_they_come` began; returns 0 if every bar holds, else 1."""
    return print_rows(rows, as_json=True) if as_json else int(not all(row.holds or row.skipped for row in rows))
