"""One instance of a module: batches of frames, tracks, settings and events."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubecast.errors import ExtensionFailed, ExtensionRefused
from cubecast.frames import EncodedFrame
from cubecast.sandbox.abi import EventKind, Manifest
from tests.sandbox.modules import AUDIO, TRACKS, VIDEO, frames, instance, module, wat

PASS = module(wat())
payloads = st.lists(st.binary(max_size=300), max_size=200)


@settings(max_examples=30)
@given(payloads)
def test_a_module_that_forwards_frames_changes_nothing(contents: list[bytes]) -> None:
    given_frames = [EncodedFrame(n % 2, n, n - 1, 5, n % 3 == 0, content) for n, content in enumerate(contents)]
    batch = instance(PASS).process(given_frames)
    assert batch.frames == given_frames
    assert batch.skipped == []


def test_a_frame_larger_than_the_buffer_is_skipped_and_the_others_are_processed() -> None:
    large = EncodedFrame(0, 5, 5, 5, keyframe=True, payload=bytes(2**20 + 1))
    around = frames(3)
    batch = instance(PASS).process([around[0], large, *around[1:]])
    assert (batch.frames, batch.skipped) == (around, [large])


def test_times_that_no_table_can_hold_do_not_stop_the_stream() -> None:
    odd = EncodedFrame(0, 2**70, -(2**70), -5, keyframe=True, payload=b"x")
    (frame,) = instance(PASS).process([odd]).frames
    assert (frame.pts_us, frame.dts_us, frame.duration_us) == (2**63 - 1, 1 - 2**63, 0)


def test_unchanged_tracks_keep_their_codec_configuration() -> None:
    assert instance(PASS).tracks == TRACKS


def test_a_changed_track_has_the_new_description() -> None:
    half = "(i32.store (i32.const 8212) (i32.const 320)) (i32.const 0)"
    video, audio = instance(module(wat(init=half))).tracks
    assert (video.width, video.height, video.codec, video.extradata) == (320, 360, "h264", b"")
    assert audio == AUDIO


def test_a_track_may_be_added() -> None:
    add = """(i32.store (i32.const 8272) (i32.const 2)) (i64.store (i32.const 8276) (i64.const 0x6c6576656c))
      (i32.store (i32.const 52) (i32.const 3)) (i32.const 0)"""
    tracks = instance(module(wat(init=add))).tracks
    assert tracks[:2] == TRACKS
    assert (tracks[2].kind, tracks[2].codec) == ("data", "level")


def test_settings_are_passed_with_their_defaults_and_unknown_ones_are_refused() -> None:
    manifest = Manifest(name="test", config={"a": "1", "b": "2"})
    first_value = "(i32.sub (i32.load8_u (i32.const 65538)) (i32.const 49))"  # of "a=1\n": 0 when it is 1
    wasm = module(wat(init=first_value), manifest)
    assert instance(wasm).tracks == TRACKS
    with pytest.raises(ExtensionRefused, match="does not accept"):
        instance(wasm, config={"a": "7"})
    with pytest.raises(ExtensionRefused, match="there is no setting 'c'; its settings are a, b"):
        instance(wasm, config={"c": "1"})


def test_an_event_is_delivered_with_its_arguments_and_may_emit_frames() -> None:
    event = """(i64.store (i32.const 4096) (local.get $time))
      (i32.store (i32.const 4116) (i32.const 65536)) (i32.store (i32.const 4120) (i32.const 1))
      (i32.store8 (i32.const 65536) (i32.trunc_f64_s (local.get $value)))
      (i32.eq (local.get $kind) (i32.const 7))"""
    here = instance(module(wat(event=event), Manifest(name="test", events=("congestion", "timer"))))
    (frame,) = here.on_event(EventKind.CONGESTION, -123_456_789_012, 42.9)
    assert (frame.pts_us, frame.payload) == (-123_456_789_012, b"*")
    assert here.on_event(EventKind.TIMER, 0, 0.0) == []


def test_frames_in_memory_that_grew_during_the_call_are_read() -> None:
    grow = """(drop (memory.grow (i32.const 4)))
      (i32.store (i32.const 4116) (i32.const 1400000)) (i32.store (i32.const 4120) (i32.const 3))
      (i32.store8 (i32.const 1400001) (i32.const 7)) (i32.const 1)"""
    here = instance(module(wat(grow)))
    before = here.memory_bytes()
    (frame,) = here.process(frames(1)).frames
    assert frame.payload == b"\0\7\0"
    assert here.memory_bytes() == before + 4 * 65536


@pytest.mark.parametrize(
    ("process", "said"),
    [
        ("(i32.const -3)", "returned error -3"),
        ("(i32.const 65)", "holds at most 64"),
        ("(i32.store (i32.const 4120) (i32.const 5000000)) (i32.const 1)", "outside its memory"),
        ("(i32.store16 (i32.const 4124) (i32.const 9)) (i32.const 1)", "of track 9"),
    ],
)
def test_invalid_results_are_failures(process: str, said: str) -> None:
    with pytest.raises(ExtensionFailed, match=said):
        instance(module(wat(process))).process(frames(1))


@pytest.mark.parametrize(
    ("count", "codec"), [("0", ""), ("17", ""), ("1", "(i64.store (i32.const 8196) (i64.const 0))")]
)
def test_invalid_tracks_are_refused(count: str, codec: str) -> None:
    init = f"(i32.store (i32.const 52) (i32.const {count})) {codec} (i32.const 0)"
    with pytest.raises(ExtensionRefused):
        instance(module(wat(init=init)))


def test_a_stream_with_more_tracks_than_the_table_holds_is_refused() -> None:
    with pytest.raises(ExtensionRefused, match="at most 16"):
        instance(PASS, [VIDEO] * 17)
