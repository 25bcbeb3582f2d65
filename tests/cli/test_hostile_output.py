"""What came from elsewhere is printed so that no terminal obeys it, and JSON never has NaN."""

import json

import pytest

from cubecast.cli.command_runner import json_text, notify
from cubecast.cli.report import json_lines, text
from cubecast.client import events as ev
from cubecast.engine.protocol.http_bodies import ChannelView, Overview
from cubecast.engine.protocol.records import SubscriptionRecord
from cubecast.types import ChannelName, HostId

EVIL = "\x1b[2J\x07\ud800[red]x\n"


def test_notices_and_tables_spell_out_what_a_terminal_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    channel = ChannelView(ChannelName(EVIL), HostId(EVIL), "0", 1)
    line = SubscriptionRecord(ChannelName("c"), HostId(EVIL), 100.0, EVIL)
    notify(EVIL)
    text.print_event(ev.Notice(EVIL))
    text.print_overview(Overview(EVIL, (), (channel,), (line,)))
    shown = "".join(capsys.readouterr())
    assert not any(control in shown for control in ("\x1b", "\x07", "\ud800"))
    assert shown.count("cubecast: ") == 2
    assert "\\x1b[2J" in shown


def test_numbers_that_json_does_not_have_become_null(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"a": float("nan"), "b": [float("inf"), {"c": -float("inf")}], "d": (1.5, "NaN")}
    assert json.loads(json_text(value)) == {"a": None, "b": [None, {"c": None}], "d": [1.5, "NaN"]}
    line = SubscriptionRecord(ChannelName("c"), HostId("h"), float("nan"), "receiving")
    json_lines.print_overview(Overview("2^2", (), (), (line,)))
    printed = capsys.readouterr().out
    assert "NaN" not in printed
    assert json.loads(printed)["subscriptions"][0]["bound_ms"] is None
