"""A failing extension costs its instance and never the stream; one that keeps failing is left aside."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubecast.errors import ExtensionFailed
from cubecast.frames import EncodedFrame, TrackFormat
from cubecast.sandbox.abi import EventKind, Failure, Manifest
from cubecast.sandbox.frame_exchange import Batch
from cubecast.sandbox.supervision import ASIDE_S, ASIDE_S_MAX, FAILURES_MAX, RunningExtension
from cubecast.sandbox.upcalls import QUEUE_MAX, Upcall
from tests.sandbox.modules import TRACKS, frames, instance, module, wat

BYPASS = Manifest(name="test", events=("timer",))
STOP = Manifest(name="test", failure=Failure.STOP)


@dataclass
class Script:
    """Instances that do as they are told: call by call, False is a failure."""

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
            raise ExtensionFailed("trap", "it trapped")
        return Batch([replace(frame, payload=b"done") for frame in given_frames], [])

    def on_event(self, _kind: EventKind, time_us: int, _value: float) -> list[EncodedFrame]:
        return self.process([EncodedFrame(0, time_us, time_us, 0, keyframe=True, payload=b"")]).frames

    def memory_bytes(self) -> int:
        return 0

    def close(self) -> None:
        self.closed += 1

    def running(self, manifest: Manifest = BYPASS) -> RunningExtension:
        return RunningExtension(manifest, self.make, TRACKS, {}, lambda: self.now)


def is_aside(running: RunningExtension) -> bool:
    return running.aside


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


def test_the_next_batch_after_a_failure_is_processed_by_a_fresh_instance() -> None:
    script = Script([False])
    running = script.running()
    first, second = frames(2)
    assert running.process([first])[0].payload == first.payload
    assert running.process([second])[0].payload == b"done"
    assert (script.made, script.closed, running.stats.restarts) == (2, 1, 1)


def test_one_that_keeps_failing_is_left_aside_twice_as_long_each_time() -> None:
    script = Script([False] * 1000)
    running = script.running()
    waits: list[float] = []
    for _ in range(8):
        for frame in frames(FAILURES_MAX):
            running.process([frame])
        made, began = script.made, script.now
        while is_aside(running):
            running.process(frames(1))
            script.now += 0.5
        assert script.now > began
        assert script.made == made, "it is not called meanwhile"
        waits.append(script.now - began)
    assert waits[0] == ASIDE_S
    assert all(later == min(ASIDE_S_MAX, 2 * earlier) for earlier, later in pairwise(waits))
    assert running.stats.asides == 8


def test_an_author_may_want_the_channel_to_end() -> None:
    running = Script([True, False]).running(STOP)
    running.process(frames(1))
    with pytest.raises(ExtensionFailed, match="trapped"):
        running.process(frames(1))


def test_frames_of_a_track_whose_format_it_changes_cannot_pass_unprocessed() -> None:
    script = Script([False], tracks=(TRACKS[0], replace(TRACKS[1], codec="pcm_mulaw", extradata=b"")))
    running = script.running()
    sound, picture = frames(1, track=1)[0], frames(1, track=0)[0]
    assert running.process([picture, sound]) == [picture]
    assert (running.stats.bypassed, running.stats.dropped) == (1, 1)


def test_a_fresh_instance_that_describes_other_tracks_is_not_put_to_work() -> None:
    script = Script([False])
    running = script.running()
    running.process(frames(1))
    script.tracks = TRACKS[:1]
    (frame,) = frames(1)
    assert running.process([frame]) == [frame]
    assert "other tracks" in running.stats.last_failure


def test_events_are_delivered_before_the_next_frames_and_in_bounded_number() -> None:
    running = Script().running()
    for number in range(QUEUE_MAX + 5):
        running.upcalls.post(Upcall(EventKind.TIMER, number))
    out = running.process(frames(1))
    assert [frame.pts_us for frame in out] == [*range(5, QUEUE_MAX + 5), 0]
    assert running.upcalls.dropped == 5


def test_frames_too_large_for_it_pass_in_their_place() -> None:
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


def test_the_state_of_a_trapped_module_is_thrown_away() -> None:
    running = RunningExtension(BYPASS, a_module_that_fails_at(3), TRACKS, {}, lambda: 0.0)  # type: ignore[arg-type]
    for number, frame in enumerate(frames(6)):
        assert running.process([frame]) == [frame]
        assert running.stats.traps == (number >= 2) + (number >= 5)
