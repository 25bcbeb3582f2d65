"""The directory's part of docs/tunables.md: it says what the code does."""

import msgspec
import pytest

from cubecast.engine.directory.config import DIRECTORY_DEFAULTS, SECONDS_MAX, DirectoryConfig
from cubecast.errors import UsageError
from tests.engine import tunables
from tests.engine.tunables import REMEDY, Row

ROWS = tunables.rows("directory")
WITH: dict[Row, dict[str, float]] = {
    ("directory", "lease", "lease_s"): {"suspect_lease_s": 0.0},
    ("directory", "lease", "suspect_lease_s"): {"lease_s": SECONDS_MAX},
}
"""What else is set with a field that is held to another one."""


def test_the_page_and_the_code_agree() -> None:
    different = tunables.differences("directory")
    assert not different, "\n".join([*different, f"docs/tunables.md: {REMEDY}"])


@pytest.mark.parametrize("row", ROWS, ids=".".join)
def test_the_default_on_the_page_is_that_of_the_code(row: Row) -> None:
    _, component, field = row
    written = msgspec.convert({component: {field: tunables.default(ROWS[row])}}, DirectoryConfig)
    assert getattr(getattr(written, component), field) == getattr(getattr(DIRECTORY_DEFAULTS, component), field), REMEDY


@pytest.mark.parametrize("row", ROWS, ids=".".join)
def test_the_ends_of_each_range_are_allowed_and_what_is_just_outside_is_refused(row: Row) -> None:
    _, component, field = row
    for value, allowed in tunables.ends(ROWS[row]):
        settings = {component: {field: value} | WITH.get(row, {})}
        if allowed:
            msgspec.convert(settings, DirectoryConfig)
        else:
            with pytest.raises((UsageError, msgspec.ValidationError), match=rf"\.{field}\b(?! must not)"):
                msgspec.convert(settings, DirectoryConfig)
