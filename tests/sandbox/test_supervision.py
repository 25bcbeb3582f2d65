"""A failing extension loses its instance and never the stream; one that keeps failing is suspended."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.frames import EncodedFrame, TrackFormat
from cubecast.sandbox.abi import EventKind, Failure, Manifest
from cubecast.sandbox.frame_exchange import Batch
from cubecast.sandbox.supervision import FAILURES_MAX, FAILURES_S, SUSPENSION_S, SUSPENSION_S_MAX, RunningExtension
from cubecast.sandbox.upcalls import QUEUE_MAX, Upcall
from tests.sandbox.modules import TRACKS, frames, instance, module, wat

BYPASS = Manifest(name="test", events=("timer",))
STOP = Manifest(name="test", failure=Failure.STOP)


@dataclass
class Script:
    """Instances that follow a script: one value for each call, False for a failure; success after the last."""

    calls: list[bool] = field(default_factory=list)
    made: int = 0
    closed: int = 0
    tracks: tuple[TrackFormat, ...] = TRACKS
    now: float = 100.0

    def make(self, _tracks: Sequence[TrackFormat], _config: Mapping[str, str]) -> "Script":
        self.made += 1
        return self

    def process(self, given_frames: Sequence[EncodedFrame]) -> Batch:
        if self.calls and not self.calls.pop(0):
            raise ExtensionFailed("trap", "process_batch trapped")
        return Batch([replace(frame, payload=b"done") for frame in given_frames], [])

    def on_event(self, _kind: EventKind, time_us: int, _value: float) -> list[EncodedFrame]:
        return self.process([EncodedFrame(0, time_us, time_us, 0, keyframe=True, payload=b"")]).frames

    def memory_bytes(self) -> int:
        return 0

    def close(self) -> None:
        self.closed += 1

    def running(self, manifest: Manifest = BYPASS) -> RunningExtension:
        return RunningExtension(manifest, self.make, TRACKS, {}, lambda: self.now)


def is_suspended(running: RunningExtension) -> bool:
    return running.suspended


def suspension_s(script: Script, running: RunningExtension) -> float:
    """Fails often enough to be suspended; the length of the suspension."""
    script.calls = [False] * FAILURES_MAX
    for frame in frames(FAILURES_MAX):
        running.process([frame])
    assert is_suspended(running)
    made, began = script.made, script.now
    while is_suspended(running):
        running.process(frames(1))
        script.now += 0.5
    assert script.made == made, "it is not called meanwhile"
    return script.now - began


def works_for(script: Script, running: RunningExtension, seconds: float, step_s: float = 1.0) -> None:
    """Good work without a failure, a batch every step."""
    end = script.now + seconds
    while script.now < end:
        script.now = min(end, script.now + step_s)
        assert running.process(frames(1))[0].payload == b"done"


@given(st.lists(st.booleans(), max_size=40))
def test_no_frame_is_lost_whatever_fails(calls: list[bool]) -> None:
    script = Script(list(calls))
    running = script.running()
    for number, frame in enumerate(frames(len(calls))):
        (out,) = running.process([frame])
        assert (out.pts_us, out.track) == (frame.pts_us, frame.track)
        assert out.payload in {b"done", frame.payload}
        script.now += 0.04 * (number % 3)
    stats = running.stats
    assert stats.frames_in == stats.frames_out == len(calls)
    assert stats.traps == calls[: len(calls) - len(script.calls)].count(False)
    assert stats.bypassed + stats.dropped >= stats.traps


def test_the_next_batch_after_a_failure_is_processed_by_a_new_instance() -> None:
    script = Script([False])
    running = script.running()
    first, second = frames(2)
    assert running.process([first])[0].payload == first.payload
    assert running.process([second])[0].payload == b"done"
    assert (script.made, script.closed, running.stats.restarts) == (2, 1, 1)


def test_each_suspension_is_twice_as_long_as_the_one_before_up_to_a_limit() -> None:
    script = Script()
    running = script.running()
    lengths = [suspension_s(script, running) for _ in range(8)]
    assert lengths[0] == SUSPENSION_S
    assert all(later == min(SUSPENSION_S_MAX, 2 * earlier) for earlier, later in pairwise(lengths))
    assert running.stats.suspensions == 8


def test_good_work_after_suspensions_makes_the_next_one_short_again() -> None:
    script = Script()
    running = script.running()
    for _ in range(6):
        suspension_s(script, running)
    works_for(script, running, FAILURES_S)
    assert suspension_s(script, running) == SUSPENSION_S


def test_an_isolated_failure_does_not_keep_the_next_suspension_long() -> None:
    script = Script()
    running = script.running()
    for _ in range(6):
        suspension_s(script, running)
    works_for(script, running, FAILURES_S / 2)
    script.calls = [False]
    running.process(frames(1))
    works_for(script, running, 28 * 3600, step_s=60.0)
    assert suspension_s(script, running) == SUSPENSION_S


@pytest.mark.parametrize("failed_after_s", [0.0, FAILURES_S / 2])
def test_too_little_good_work_since_the_last_failure_changes_nothing(failed_after_s: float) -> None:
    script = Script()
    running = script.running()
    before = [suspension_s(script, running) for _ in range(2)]
    works_for(script, running, failed_after_s)
    script.calls = [False]
    running.process(frames(1))
    works_for(script, running, FAILURES_S - 1.0)
    script.calls = []
    script.now += 1.0  # failures before this no longer count, but no good work has followed
    assert suspension_s(script, running) == 2 * before[-1]


def test_the_channel_ends_at_a_failure_if_the_manifest_says_so() -> None:
    running = Script([True, False]).running(STOP)
    running.process(frames(1))
    with pytest.raises(ExtensionFailed, match="trapped"):
        running.process(frames(1))


def test_frames_of_a_track_whose_format_changes_are_dropped_while_it_fails() -> None:
    script = Script([False], tracks=(TRACKS[0], replace(TRACKS[1], codec="pcm_mulaw", extradata=b"")))
    running = script.running()
    sound, picture = frames(1, track=1)[0], frames(1, track=0)[0]
    assert running.process([picture, sound]) == [picture]
    assert (running.stats.bypassed, running.stats.dropped) == (1, 1)


def test_a_new_instance_that_describes_other_tracks_is_a_failure() -> None:
    script = Script([False])
    running = script.running()
    running.process(frames(1))
    script.tracks = TRACKS[:1]
    (frame,) = frames(1)
    assert running.process([frame]) == [frame]
    assert "other tracks" in running.stats.last_failure


def test_at_most_queue_max_events_are_delivered_before_the_next_frames() -> None:
    running = Script().running()
    for number in range(QUEUE_MAX + 5):
        running.upcalls.post(Upcall(EventKind.TIMER, number))
    out = running.process(frames(1))
    assert [frame.pts_us for frame in out] == [*range(5, QUEUE_MAX + 5), 0]
    assert running.upcalls.dropped == 5


def test_frames_too_large_for_the_buffer_are_forwarded_in_order() -> None:
    wasm = module(wat())
    running = RunningExtension(BYPASS, lambda tracks, config: instance(wasm, tracks, config), TRACKS, {}, lambda: 0.0)
    large = EncodedFrame(0, 60_000, 60_000, 0, keyframe=False, payload=bytes(2**20 + 1))
    around = frames(4)
    out = running.process([*around[:2], large, *around[2:]])
    assert out == [*around[:2], large, *around[2:]]
    assert running.stats.bypassed == 1


def a_module_that_fails_at(count: int) -> Callable[[Sequence[TrackFormat], Mapping[str, str]], object]:
    process = f"""(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
      (if (i32.eq (global.get $calls) (i32.const {count})) (then unreachable))
      (memory.copy (i32.const 4096) (i32.const 1024) (i32.mul (local.get $n) (i32.const 32))) (local.get $n)"""
    wasm = module(wat(process, more="(global $calls (mut i32) (i32.const 0))"))
    return lambda tracks, config: instance(wasm, tracks, config)


def test_the_state_of_a_trapped_module_is_discarded() -> None:
    running = RunningExtension(BYPASS, a_module_that_fails_at(3), TRACKS, {}, lambda: 0.0)  # type: ignore[arg-type]
    for number, frame in enumerate(frames(6)):
        assert running.process([frame]) == [frame]
        assert running.stats.traps == (number >= 2) + (number >= 5)


def test_a_restart_that_is_refused_is_a_failure_like_any_other_and_the_stream_goes_on() -> None:
    script = Script([False])
    made: list[int] = []

    def make(tracks: Sequence[TrackFormat], config: Mapping[str, str]) -> Script:
        made.append(1)
        if len(made) == 2:
            raise ExtensionRefused("no memory to instantiate it")
        return script.make(tracks, config)

    running = RunningExtension(BYPASS, make, TRACKS, {}, lambda: script.now)
    given = frames(3)
    for _ in range(2):
        assert [frame.payload for frame in running.process(given)] == [frame.payload for frame in given]
    assert "no memory" in running.stats.last_failure
    assert [frame.payload for frame in running.process(given)] == [b"done"] * 3


def test_an_event_that_comes_while_the_extension_is_suspended_is_not_lost() -> None:
    script = Script([False] * FAILURES_MAX)
    running = RunningExtension(BYPASS, script.make, TRACKS, {}, lambda: script.now)
    for _ in range(FAILURES_MAX):
        running.process(frames(1))
    assert running.suspended
    running.upcalls.post(Upcall(EventKind.TIMER, 1, 0.0))
    for _ in range(3):
        running.process(frames(1))
    assert len(running.upcalls) == 1
    script.now += SUSPENSION_S + 1
    assert running.deliver_waiting()
    assert not len(running.upcalls)
