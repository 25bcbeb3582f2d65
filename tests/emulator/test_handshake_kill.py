"""Which host handshake-kill kills, by a line of the trace."""

from pathlib import Path

import pytest

from cubecast.emulator.scenarios.handshake_kill import STEPS, Kills, TraceTail, other_end


def line(at: str, sender: str, kind: str, **more: object) -> dict[str, object]:
    return {"t": 1.0, "at": at, "event": {"kind": "Received", "host": sender, "message": {"kind": kind, **more}}}


@pytest.mark.parametrize(
    ("seen", "killed"),
    [
        (line("r01", "s02", "attach", trail=["s02"]), "r01"),
        (line("s02", "r01", "attach", trail=["r01"]), "r01"),
        (line("r01", "s03", "attach", trail=["s03"]), None),
        (line("r04", "r01", "attach", trail=["s02", "r01"]), "r04"),
        (line("r01", "s02", "confirm"), "r01"),
        (line("r01", "s02", "heartbeat"), None),
        ({"at": "s02", "event": {"kind": "LinkUp", "host": "r01"}}, None),
        ({"at": "s02", "ended": "the trace is as long as it may be"}, None),
    ],
)
def test_the_host_at_the_other_end_of_the_message_is_killed(seen: dict[str, object], killed: str | None) -> None:
    found = other_end(seen, "s02")
    assert (None if found is None else found[0]) == killed


def test_a_trace_is_read_as_it_grows_by_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text('{"at": "before"}\n')
    tail = TraceTail(path)
    with path.open("a") as trace:
        trace.write('{"at": "a"}\n{"at"')
        trace.flush()
        assert tail.lines() == [{"at": "a"}]
        trace.write(': "b"}\n')
    assert tail.lines() == [{"at": "b"}]
    assert tail.lines() == []
    tail.close()


def test_a_host_is_killed_once_at_each_kind_of_message_and_then_once_more() -> None:
    kills = Kills(searches=1)
    assert kills.is_due("attach")
    kills.outcomes["attach"].append("admitted")
    assert not kills.is_due("attach")
    assert kills.is_due("confirm")
    kills.searches = len(STEPS) + 1
    assert kills.is_due("attach")
