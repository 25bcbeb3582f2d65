"""Every event as text and as a JSON line; the emulator and users' programs read these bytes."""

import json

import pytest

from cubecast.cli.report import json_lines, text
from cubecast.client import events as ev
from cubecast.engine.protocol.job_records import JobProgress
from cubecast.engine.protocol.path import Contract
from cubecast.engine.protocol.records import Compliance
from cubecast.host.channel.verification import Rejections
from cubecast.host.local.reception_stats import FrameCounts, Percentiles, ReceptionSummary
from cubecast.types import ChannelName, HostId

NEWS, P, S = ChannelName("news"), HostId("p"), HostId("s")
STATUS = ev.HostStatus(0, True, "2^2", {P: 1.5}, {NEWS: ev.ChannelStatus(P, (S,))}, 7, 2, 1)
STATUS_JSON = (
    '"copies": 0, "ready": true, "shape": "2^2", "links": {"p": 1.5}, '
    '"channels": {"news": {"upstream": "p", "children": ["s"]}}, '
    '"control_frames": 7, "malformed_messages": 2, "illegal_moves": 1'
)
SUMMARY = ReceptionSummary(FrameCounts(10, 9, 1, 0), Percentiles(5.0, 9.0), Percentiles(6.0, 8.0), 0.9)
SUMMARY_JSON = (
    '"frames": {"published": 10, "received": 9, "lost": 1, "duplicated": 0}, "delay_ms": {"p50": 5.0, "p99": 9.0}, '
    '"recent_ms": {"p50": 6.0, "p99": 8.0}, "in_time": 0.9'
)
REJECTED_JSON = '"rejected": {"altered": 6, "unsigned": 0, "missing": 7, "replayed": 0, "foreign": 0}'
COMPLIANCE = Compliance(7, 2, 1, 1, 0)
COMPLIANCE_JSON = '"contract": {"kept_s": 7, "violated_s": 2, "late_s": 1, "lost_s": 1, "slow_s": 0}'
PROGRESS = JobProgress(4, 3, 1, "deadline", processing_ms=2.0)
PROGRESS_JSON = (
    '"channel": "news", "frames_in": 4, "frames_out": 3, "failures": 1, "last_failure": "deadline", "bypassed": 0, '
    '"dropped": 0, "overrun": 0, "upcalls_dropped": 0, "upgrades": 0, "processing_ms": 2.0, "us_per_frame": null'
)
ADMITTED = ev.Admitted(NEWS, Contract(150.0, 9e5, 0.01), 12.345, 3.456, (P, S), 0.0, None, 0.126, 0.5)
ENDED = ev.Ended(
    NEWS,
    150.0,
    SUMMARY,
    ("p", "s"),
    1,
    8,
    2,
    ((1.5, 70.0),),
    3,
    4,
    Rejections(altered=6, missing=7),
    0.25,
    COMPLIANCE,
    STATUS,
)

# ruff: noqa: ISC004
CASES: list[tuple[ev.Event, str, str]] = [
    (
        ev.Joined(P, 3, "11", "2^2", "127.0.0.1:4443"),
        "host p joined at label 11 of 2^2, reachable at 127.0.0.1:4443 (UDP)",
        '{"event": "joined", "host": "p", "label": 3, "address": "127.0.0.1:4443"}',
    ),
    (
        ev.ParentChanged(1.23456, NEWS, P, S, "sooner"),
        "news now comes from s instead of p (sooner)",
        '{"event": "parent", "at_s": 1.235, "channel": "news", "before": "p", "after": "s", "reason": "sooner"}',
    ),
    (STATUS, "", f'{{"event": "status", {STATUS_JSON}}}'),
    (ev.Carrying({NEWS: 2}), "carrying news to 2 host(s)", ""),
    (ev.Carrying({}), "carrying nothing", ""),
    (
        ev.Announced(NEWS, ("h264", "aac")),
        "channel news announced: h264; aac",
        '{"event": "announced", "channel": "news", "tracks": ["h264", "aac"]}',
    ),
    (
        ev.PublicationStatus(NEWS, (1, 2), STATUS),
        "",
        f'{{"event": "status", "channel": "news", "frames": [1, 2], {STATUS_JSON}}}',
    ),
    (
        ev.Finished(NEWS, (1, 2), STATUS),
        "channel news finished after 3 frames",
        f'{{"event": "finished", "channel": "news", "frames": [1, 2], {STATUS_JSON}}}',
    ),
    (
        ADMITTED,
        "news admitted: 12 ms promised (late frames + 3) over 1 hop(s), bound 150 ms, rate 900 kbit/s, loss 1.00%",
        '{"event": "admitted", "channel": "news", "promised_ms": 12.35, "spread_ms": 3.46, "path": ["p", "s"], '
        '"loss": 0.0, "rate_bps": null, "clock_offset_ms": 0.13, "clock_uncertainty_ms": 0.5}',
    ),
    (
        ev.Refused(NEWS, 20.0, 9e5, 1.0, (P, S), "no path"),
        "",
        '{"event": "refused", "channel": "news", "best_ms": 20.0, "best_path": ["p", "s"], '
        '"offer": {"bound_ms": 20.0, "rate_bps": 900000.0, "loss": 1.0}, "reason": "no path"}',
    ),
    (
        ev.Receiving(NEWS, ("h264",)),
        "receiving h264 of news",
        '{"event": "receiving", "channel": "news", "tracks": ["h264"]}',
    ),
    (
        ev.SubscriptionStatus(NEWS, SUMMARY, COMPLIANCE, STATUS),
        "",
        f'{{"event": "status", "channel": "news", {SUMMARY_JSON}, {COMPLIANCE_JSON}, {STATUS_JSON}}}',
    ),
    (
        ev.SubscriptionStatus(NEWS, SUMMARY, None, STATUS),
        "",
        f'{{"event": "status", "channel": "news", {SUMMARY_JSON}, {STATUS_JSON}}}',
    ),
    (
        ENDED,
        "news ended: 9 frames, 1 lost; delay p50 5 ms, p99 9 ms; 2 later than the bound of 150 ms; not the publisher's: 6 altered, 7 missing; contract kept in 7 s, "
        "violated in 2 s (late in 1, lost in 1)",
        f'{{"event": "summary", "channel": "news", {SUMMARY_JSON}, "path": ["p", "s"], "catch_up": 1, '
        f'"gaps": [[1.5, 70.0]], "replayed": 3, "filled": 4, {REJECTED_JSON}, "clock_correction_ms": 0.25, '
        f"{COMPLIANCE_JSON}, {STATUS_JSON}}}",
    ),
    (
        ev.DerivedAnnounced(NEWS, ChannelName("raw"), ("h264",), 5.0),
        "channel news is made from raw: h264",
        '{"event": "announced", "channel": "news", "source": "raw", "tracks": ["h264"], "input_ms": 5.0}',
    ),
    (
        ev.JobAnnounced(NEWS, ChannelName("raw"), P),
        "channel news is made from raw at p",
        '{"event": "announced", "channel": "news", "source": "raw", "host": "p"}',
    ),
    (ev.DerivedStatus(NEWS, PROGRESS), "", f'{{"event": "status", {PROGRESS_JSON}}}'),
    (
        ev.JobStatus(NEWS, P, "running", "", PROGRESS),
        "",
        f'{{"event": "status", "host": "p", "state": "running", "reason": "", {PROGRESS_JSON}}}',
    ),
    (ev.ExtensionFailing(NEWS, PROGRESS), "channel news: 1 failure(s) so far, the last one: deadline", ""),
    (
        ev.DerivedFinished(NEWS, PROGRESS),
        "channel news finished: 4 frames in, 3 out, 1 failure(s), 2.0 ms of processing",
        f'{{"event": "finished", {PROGRESS_JSON}}}',
    ),
]
ALWAYS_TEXT: list[tuple[ev.Event, str]] = [
    (ev.Notice("trying again"), "trying again"),
    (ev.Waiting(NEWS), "channel 'news' is not announced yet; waiting for it"),
    (ev.ChannelFailed(NEWS, "refused"), "refused; the host continues without it"),
    (ev.ContractViolated(NEWS, Compliance(0, 2, 2, 0, 1)), "news: contract violated in 2 s (late in 2, slow in 1)"),
    (ev.ExtensionUpgraded(NEWS, "thin 2"), "thin 2 takes over"),
    (ev.UpgradeFailed(NEWS, "no module"), "no module; the previous version continues"),
    (ev.EventsDropped(3), "3 events were dropped"),
]


@pytest.mark.parametrize(("event", "line", "json_line"), CASES, ids=lambda value: type(value).__name__)
def test_an_event_has_its_line_and_its_json(
    event: ev.Event, line: str, json_line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text.print_event(event)
    assert capsys.readouterr() == ("", f"cubecast: {line}\n" if line else "")
    json_lines.print_event(event)
    assert capsys.readouterr() == (f"{json_line}\n" if json_line else "", "")
    assert not json_line or json.loads(json_line)


@pytest.mark.parametrize(("event", "line"), ALWAYS_TEXT, ids=lambda value: type(value).__name__)
def test_a_notice_is_text_on_standard_error_in_both(
    event: ev.Event, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for report in (text, json_lines):
        report.print_event(event)
        assert capsys.readouterr() == ("", f"cubecast: {line}\n")
