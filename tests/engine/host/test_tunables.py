"""The host's part of docs/tunables.md: it says what the code does."""

from pathlib import Path

import msgspec
import pytest

from cubecast.engine.host.config import DEFAULT, EngineConfig
from tests.engine import tunables
from tests.engine.tunables import REMEDY, Row

ROWS = tunables.rows("engine")


def test_the_page_and_the_code_agree() -> None:
    different = tunables.differences("engine")
    assert not different, "\n".join([*different, f"docs/tunables.md: {REMEDY}"])


@pytest.mark.parametrize("row", ROWS, ids=".".join)
def test_the_default_on_the_page_is_that_of_the_code(row: Row) -> None:
    _, component, field = row
    written = msgspec.convert({component: {field: tunables.default(ROWS[row])}}, EngineConfig)
    assert getattr(getattr(written, component), field) == getattr(getattr(DEFAULT, component), field), REMEDY


@pytest.mark.parametrize("row", ROWS, ids=".".join)
def test_the_ends_of_each_range_are_allowed_and_what_is_just_outside_is_refused(row: Row) -> None:
    _, component, field = row
    for value, allowed in tunables.ends(ROWS[row]):
        if allowed:
            msgspec.convert({component: {field: value}}, EngineConfig)
        else:
            with pytest.raises(msgspec.ValidationError, match=rf"\$\.{component}\.{field}"):
                msgspec.convert({component: {field: value}}, EngineConfig)


def test_a_tick_lasts_from_a_hundredth_of_a_second_to_a_minute() -> None:
    for tick_s in (0.01, 60.0):
        assert msgspec.convert({"tick_s": tick_s}, EngineConfig).tick_s == tick_s
    for tick_s in (0.0099, 60.001):
        with pytest.raises(msgspec.ValidationError, match=r"\$\.tick_s"):
            msgspec.convert({"tick_s": tick_s}, EngineConfig)


def test_a_default_that_changed_without_the_page_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "tunables.md"
    other.write_text(tunables.PAGE.read_text().replace("| `late_ticks` | `3` |", "| `late_ticks` | `4` |"))
    monkeypatch.setattr(tunables, "PAGE", other)
    assert tunables.differences("engine") == [
        "engine.links.late_ticks: default is '`4`' on the page, '`3`' in the code"
    ]
    assert not tunables.differences("directory")
