"""docs/tunables.md as its readers see it: the rows of its tables, and the values that they allow and refuse."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

from cubecast.simulation.tunables import COLUMNS, section, tunables

PAGE = Path(__file__).parents[2] / "docs" / "tunables.md"
REMEDY = "if the code is right, run `make tunables`"
HEADING = re.compile(r"^### `\[(\w+)\.(\w+)\]`$")
RANGE = re.compile(r"(?P<above>above )?(?P<least>\d+)( to (?P<most>\d+))?")
SEVERAL = "at least 1, each "

Row = tuple[str, str, str]
"""Part, component and field, such as `("engine", "links", "ping_ticks")`."""


def rows(part: str) -> dict[Row, dict[str, str]]:
    """The rows of the page about one engine: the cells after the name, by column."""
    found, component = dict[Row, dict[str, str]](), ("", "")
    for line in PAGE.read_text().splitlines():
        if heading := HEADING.match(line):
            component = heading[1], heading[2]
        elif line.startswith("| `") and component[0] == part:
            cells = re.split(r"(?<!\\) \| ", line.removeprefix("| ").removesuffix(" |"))
            name, *others = (cell.replace("\\|", "|") for cell in cells)
            found[*component, name.strip("`")] = dict(zip(COLUMNS[1:], others, strict=True))
    return found


def differences(part: str) -> list[str]:
    """What the page says otherwise than the code, one line each."""
    page = rows(part)
    code = {
        (part, component, row.name.strip("`")): dict(zip(COLUMNS[1:], astuple(row)[1:], strict=True))
        for component, of_component in tunables(part).items()
        for row in of_component
    }
    found = [f"{'.'.join(row)}: the page does not have it" for row in code.keys() - page.keys()]
    found += [f"{'.'.join(row)}: the code does not have it" for row in page.keys() - code.keys()]
    found += [
        f"{'.'.join(row)}: {column} is {cell!r} on the page, {code[row][column]!r} in the code"
        for row in page.keys() & code.keys()
        for column, cell in page[row].items()
        if cell != code[row][column]
    ]
    if not found and section(part) not in PAGE.read_text():
        found = [f"the headings, texts or order of the section about {part}"]
    return sorted(found)


def default(cells: dict[str, str]) -> object:
    """The default as a scenario would write it."""
    return json.loads(cells["default"].strip("`"))


def ends(cells: dict[str, str]) -> Iterator[tuple[object, bool]]:
    """The least and the greatest value that a row allows, and those just outside; with each, whether it is allowed."""
    allowed = cells["allowed"]
    if allowed.startswith("`"):
        yield from ((json.loads(each.strip("`")), True) for each in allowed.split(", "))
        yield "other", False
    elif allowed.startswith(SEVERAL):
        yield [], False
        yield from (([value], good) for value, good in _ends(allowed.removeprefix(SEVERAL), whole=True))
    else:
        yield from _ends(allowed, whole=cells["unit"] in {"ticks", "count"})


def _ends(allowed: str, *, whole: bool) -> Iterator[tuple[float, bool]]:
    """Those of a range, such as `above 0 to 1`."""
    limits = RANGE.fullmatch(allowed)
    assert limits, f"{allowed!r} is no range"
    least = int(limits["least"])
    yield _beside(least, -1, whole=whole), False
    yield least, not limits["above"]
    yield _beside(least, 1, whole=whole), True
    if limits["most"]:
        most = int(limits["most"])
        yield most, True
        yield _beside(most, 1, whole=whole), False


def _beside(limit: int, step: int, *, whole: bool) -> float:
    return limit + step if whole else math.nextafter(limit, step * math.inf)
