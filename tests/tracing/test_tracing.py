"""Traces of simulated overlays: what is written, and what is explained from it."""

import json
from pathlib import Path

import numpy as np
import pytest

from cubecast.cli.main import run as cubecast
from cubecast.engine.host import effects as fx
from cubecast.engine.host import events as ev
from cubecast.engine.protocol.path import Contract
from cubecast.errors import UsageError
from cubecast.overlay.cube import cube
from cubecast.tracing.explain import Explanation
from cubecast.tracing.writer import DIRECTORY, TraceWriter
from cubecast.types import HostId
from tests.engine.in_memory import CHANNEL, Overlay, random_delays


def traced(path: Path, seed: int = 3, fan_out: int = 2) -> Overlay:
    """An overlay of ten hosts with a trace; host 0 publishes."""
    overlay = Overlay(random_delays(10, seed), cube(2, 4), seed=seed, fan_out=fan_out)
    overlay.writer = overlay.supernode.writer = TraceWriter(path)
    overlay.run(5)
    overlay.publish(0)
    overlay.run(1)
    return overlay


def stories(path: Path, channel: str = "", subscriber: str = "") -> dict[str, str]:
    explanation = Explanation(channel, subscriber)
    with path.open("rb") as lines:
        explanation.read(lines)
    assert not explanation.incomplete
    return {story.subscriber: "\n".join(story.sentences) for story in explanation.stories()}


def test_each_subscriber_is_given_the_reason_of_its_parent(tmp_path: Path) -> None:
    overlay = traced(tmp_path / "t")
    admitted = {overlay.names[index]: overlay.subscribe(index, 2000.0) for index in range(1, 8)}
    told = stories(tmp_path / "t")
    assert told.keys() == admitted.keys()
    for host, outcome in admitted.items():
        assert isinstance(outcome, fx.Admitted)
        path = outcome.metrics.path
        assert f"admitted: {path[-2]} feeds it ({' > '.join(path)})" in told[host]
        assert f"keeps {outcome.metrics.least_bound_ms:.0f} ms of 2000" in told[host]
    assert "had no spare fan-out" in "".join(told.values()), "fan-out 2"


def test_a_refusal_names_the_best_path_and_by_how_much_each_link_is_too_slow(tmp_path: Path) -> None:
    overlay = traced(tmp_path / "t", fan_out=8)
    overlay.subscribe(1, 2000.0)
    refused = overlay.subscribe(2, 4.0)
    assert isinstance(refused, fx.Refused)
    assert refused.best is not None
    told = stories(tmp_path / "t")[overlay.names[2]]
    assert f"{refused.best.least_bound_ms - 4:.0f} ms more than 4" in told
    link_ms = float(overlay.delay_ms[0, 2])
    assert f"the link from h000 alone takes {link_ms:.0f} ms, {link_ms - 4:.0f} too much" in told
    assert "the super-node looked for routes over others" in told


def test_a_move_names_both_parents_and_the_reason(tmp_path: Path) -> None:
    overlay = traced(tmp_path / "t", fan_out=2)
    for index in range(1, 7):
        overlay.subscribe(index, 2000.0)
    overlay.run(20)
    relay = next(host for host in overlay.living() if host != overlay.names[0] and _children(overlay, host))
    child = _children(overlay, relay)[0]
    overlay.crash(relay)
    overlay.run(5)
    assert f"moved from {relay} to {overlay.engines[child].upstream(CHANNEL)}: " in stories(tmp_path / "t")[child]


def _children(overlay: Overlay, host: HostId) -> list[HostId]:
    return [
        child for engine in [overlay.engines[host]] for branch in engine.branches() for child in branch.below.children
    ]


def test_only_the_channel_and_subscriber_asked_for_are_explained(tmp_path: Path) -> None:
    overlay = traced(tmp_path / "t")
    for index in (1, 2):
        overlay.subscribe(index, 2000.0)
    assert stories(tmp_path / "t", CHANNEL, overlay.names[1]).keys() == {overlay.names[1]}
    with pytest.raises(UsageError, match=r"no subscription of channel other and subscriber h001; .*check the names"):
        stories(tmp_path / "t", "other", overlay.names[1])


def test_lines_are_json_in_order_of_time_and_quiet_ticks_are_left_out(tmp_path: Path) -> None:
    overlay = traced(tmp_path / "t")
    overlay.subscribe(1, 2000.0)
    lines = [json.loads(line) for line in (tmp_path / "t").read_text().splitlines()]
    assert {line["at"] for line in lines} == {DIRECTORY, *overlay.names}
    times = [line["t"] for line in lines]
    assert times == sorted(times)
    assert all(line["effects"] for line in lines if line["event"]["kind"] == "Tick")
    kinds = {effect["kind"] for line in lines for effect in line["effects"]}
    assert {"Resolve", "Send", "Admitted"} <= kinds


def test_a_trace_changes_nothing(tmp_path: Path) -> None:
    with_trace = traced(tmp_path / "t")
    without = Overlay(random_delays(10, 3), cube(2, 4), seed=3, fan_out=2)
    without.run(5)
    without.publish(0)
    without.run(1)
    bounds = np.random.default_rng(0).uniform(10, 200, 9)
    for index, bound_ms in enumerate(bounds.tolist(), 1):
        assert with_trace.subscribe(index, bound_ms) == without.subscribe(index, bound_ms)


def test_an_incomplete_line_and_lines_of_others_are_counted_and_left_out(tmp_path: Path) -> None:
    overlay = traced(tmp_path / "t")
    overlay.subscribe(1, 2000.0)
    whole = (tmp_path / "t").read_bytes()
    bad = [
        b"{",
        b"[]",
        b'{"t": 1}',
        b'{"t": "x", "at": 1, "event": {}, "effects": []}',
        b"\xff\xfe",
        b"null",
        whole[-40:],
    ]
    explanation = Explanation()
    explanation.read([*whole.splitlines(), *bad])
    assert explanation.incomplete == len(bad)
    assert [story.subscriber for story in explanation.stories()] == [overlay.names[1]]


def test_a_trace_ends_at_its_greatest_length_and_says_so(tmp_path: Path) -> None:
    overlay = Overlay(random_delays(4, 0), cube(2, 2))
    overlay.writer = TraceWriter(tmp_path / "t", bytes_max=5000)
    overlay.run(5)
    data = (tmp_path / "t").read_bytes()
    assert len(data) < 5200
    assert b"as long as it may be" in data.splitlines()[-1]
    overlay.handle(overlay.names[1], ev.SubscribeRequested(CHANNEL, Contract(100.0)))
    assert (tmp_path / "t").read_bytes() == data


def test_the_command_prints_the_stories_and_names_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay = traced(tmp_path / "t")
    overlay.subscribe(1, 2000.0)
    assert cubecast(["trace", "explain", str(tmp_path / "t")]) == 0
    assert capsys.readouterr().out.startswith("h001, channel clip:\n    0.00 s  asked for it within 2000 ms\n")
    for arguments, message in (
        ([str(tmp_path / "none")], "No such file or directory; name a file that --trace has written"),
        ([str(tmp_path)], "Is a directory"),
        ([str(tmp_path / "t"), "--subscriber", "x"], "no subscription of subscriber x"),
    ):
        assert cubecast(["trace", "explain", *arguments]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"--trace .*: No such file or directory; name a file that can be written"):
        TraceWriter(tmp_path / "no" / "t")
