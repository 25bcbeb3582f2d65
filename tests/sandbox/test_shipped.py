"""The shipped extensions: built from their sources, as their golden files say, and correct on real media."""

import importlib.util
import math
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from cubecast.frames import EncodedFrame, Kind, TrackFormat
from cubecast.media.levels import RAW_AUDIO, TrackDecoder
from cubecast.media.sources import MediaSource
from cubecast.media.synthesis import synthesise
from cubecast.processing.pipeline import Pipeline
from cubecast.sandbox.abi import EventKind
from cubecast.sandbox.loading import SHIPPED, load, shipped
from cubecast.sandbox.toolchain.build import build
from cubecast.sandbox.toolchain.check import check
from cubecast.sandbox.upcalls import Upcall
from cubecast.types import Floats

RATE = 48_000
REAL = sorted((Path(__file__).parents[3] / "shared" / "data" / "media").glob("*.mp4"))
STEREO = TrackFormat(Kind.AUDIO, RAW_AUDIO, sample_rate=RATE, channels=2)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    synthesise(path, 4.0)
    return path


def folder(name: str) -> Path:
    return Path(str(SHIPPED.joinpath(name)))


def through(name: str, clip: Path, **config: str) -> tuple[list[EncodedFrame], list[EncodedFrame], Pipeline]:
    """Sends a clip through an extension; its frames, the frames emitted, and the pipeline."""
    with MediaSource(str(clip)) as source:
        frames = list(source.frames())
        pipeline = Pipeline(load(name), source.tracks, config, time.monotonic)
    out = [made for n in range(0, len(frames), 8) for made in pipeline.push(frames[n : n + 8])] + pipeline.finish()
    assert pipeline.running.stats.failures == 0, pipeline.running.stats.last_failure
    return frames, out, pipeline


def decoded(tracks: tuple[TrackFormat, ...], frames: list[EncodedFrame], track: int) -> list[EncodedFrame]:
    """A track's frames, decoded."""
    decoder = TrackDecoder(tracks[track])
    made = [p for frame in frames if frame.track == track for p in decoder.decode(frame)] + list(decoder.decode(None))
    assert decoder.damaged <= 1  # the last frame
    return made


def by_track(frames: list[EncodedFrame]) -> list[EncodedFrame]:
    return sorted(frames, key=lambda frame: (frame.track, frame.dts_us))


def size(frames: list[EncodedFrame], track: int) -> int:
    return sum(len(frame.payload) for frame in frames if frame.track == track)


def sound(samples: Floats) -> list[EncodedFrame]:
    """Stereo PCM frames of 1000 samples, both channels the same."""
    pcm = np.repeat(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2")[:, None], 2, axis=1)
    return [
        EncodedFrame(
            0,
            at * 1_000_000 // RATE,
            at * 1_000_000 // RATE,
            20_833,
            keyframe=True,
            payload=pcm[at : at + 1000].tobytes(),
        )
        for at in range(0, len(pcm), 1000)
    ]


def sine(seconds: float, peak: float = 1.0, hz: float = 997.0) -> Floats:
    return peak * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


@pytest.mark.parametrize("name", shipped())
def test_each_passes_its_check_and_has_golden_files(name: str) -> None:
    found = check(folder(name) / f"{name}.wasm")
    assert found.manifest.name == name
    assert found.golden >= 1


@pytest.mark.parametrize("name", shipped())
def test_each_is_what_its_source_builds(name: str) -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("the Zig compiler is not installed (the extra `toolchain`)")
    assert build(folder(name)) == (folder(name) / f"{name}.wasm").read_bytes()


def test_thin_keeps_its_share_and_the_rest_decodes_without_errors(clip: Path) -> None:
    frames, out, pipeline = through("thin", clip)
    assert 0.4 <= size(out, 0) / size(frames, 0) <= 0.55
    assert size(out, 1) == size(frames, 1)
    kept = [frame for frame in out if frame.track == 0]
    assert len(decoded(pipeline.tracks, out, 0)) == len(kept)
    assert [f for f in frames if f.keyframe and f.track == 0] == [f for f in kept if f.keyframe]


@pytest.mark.skipif(not REAL, reason="no real clips beside the project")
@pytest.mark.parametrize("real", REAL)
def test_thin_does_so_on_real_clips(real: Path) -> None:
    frames, out, pipeline = through("thin", real)
    assert 0.3 <= size(out, 0) / size(frames, 0) <= 0.55
    kept = [frame for frame in out if frame.track == 0]
    assert len(decoded(pipeline.tracks, out, 0)) == len(kept)


def test_thin_at_the_whole_rate_changes_nothing(clip: Path) -> None:
    frames, out, _ = through("thin", clip, share="1")
    assert by_track(out) == by_track(frames)


def test_shed_drops_only_under_congestion_and_is_whole_again_from_a_keyframe_on(clip: Path) -> None:
    with MediaSource(str(clip)) as source:
        frames = list(source.frames())
        pipeline = Pipeline(load("shed"), source.tracks, {}, time.monotonic)
    third = len(frames) // 3
    first = pipeline.push(frames[:third])
    pipeline.deliver(Upcall(EventKind.CONGESTION, 0, 0.3))
    hard = pipeline.push(frames[third : 2 * third])
    pipeline.deliver(Upcall(EventKind.CONGESTION, 0, 1.0))
    after = pipeline.push(frames[2 * third :])
    assert by_track(first) == by_track(frames[:third])
    assert size(hard, 0) < 0.5 * size(frames[third : 2 * third], 0)
    assert size(hard, 1) == size(frames[third : 2 * third], 1)
    tail = [frame for frame in after if frame.track == 0]
    since = next(n for n, frame in enumerate(frames) if n >= 2 * third and frame.keyframe and frame.track == 0)
    assert tail[-10:] == [f for f in frames[since:] if f.track == 0][-10:]
    everything = [frame for frame in [*first, *hard, *after] if frame.track == 0]
    assert len(decoded(pipeline.tracks, everything, 0)) == len(everything)


@pytest.mark.parametrize(("db", "factor"), [("6", 1.9953), ("-20", 0.1), ("0", 1.0)])
def test_gain_is_as_configured_and_clips(db: str, factor: float) -> None:
    instance = load("gain").make([STEREO], {"db": db})
    given = sound(sine(0.5, 0.4))
    out = instance.process(given).frames
    before, after = (np.frombuffer(b"".join(f.payload for f in each), "<i2").astype(float) for each in (given, out))
    assert np.allclose(after, before * factor, rtol=1e-3, atol=1.0)
    loud = load("gain").make([STEREO], {"db": "24"}).process(sound(sine(0.1))).frames
    samples = np.frombuffer(b"".join(f.payload for f in loud), "<i2")
    assert (samples.max(), samples.min()) == (32767, -32768)


def test_gain_on_a_clip_does_not_change_the_picture(clip: Path) -> None:
    frames, out, pipeline = through("gain", clip, db="-20")
    assert [f for f in out if f.track == 0] == [f for f in frames if f.track == 0]
    assert pipeline.tracks[1].codec == "aac"
    assert sum(frame.track == 1 for frame in out) >= sum(frame.track == 1 for frame in frames) - 1


def test_mix_adds_tracks_that_meet_in_time() -> None:
    a, b = sound(sine(1.0, 0.3, 440)), sound(sine(1.0, 0.3, 660))
    instance = load("mix").make([STEREO, STEREO], {})
    given = [frame for pair in zip(a, [replace(f, track=1) for f in b], strict=True) for frame in pair]
    out = instance.process(given).frames
    mixed = np.frombuffer(b"".join(f.payload for f in out), "<i2").astype(float)
    one, other = (np.frombuffer(b"".join(f.payload for f in each), "<i2").astype(float) for each in (a, b))
    wanted = one + other
    assert len(mixed) > 0.9 * len(wanted)
    assert np.array_equal(mixed, wanted[: len(mixed)])
    assert {frame.track for frame in out} == {0}


def test_mulaw_is_what_ffmpeg_makes_of_it() -> None:
    given = sound(sine(0.2))
    instance = load("mulaw").make([STEREO], {})
    assert instance.tracks[0].codec == "pcm_mulaw"
    ours = b"".join(frame.payload for frame in instance.process(given).frames)
    encoder = av.CodecContext.create("pcm_mulaw", "w")
    encoder.sample_rate, encoder.layout, encoder.format = RATE, "stereo", "s16"
    pcm = np.frombuffer(b"".join(frame.payload for frame in given), "<i2").reshape(1, -1)
    audio = av.AudioFrame.from_ndarray(pcm, format="s16", layout="stereo")
    audio.sample_rate = RATE
    theirs = b"".join(bytes(packet) for packet in [*encoder.encode(audio), *encoder.encode(None)])
    decoded = [_mulaw_to_linear(np.frombuffer(each, np.uint8)) for each in (ours, theirs)]
    assert len(ours) == len(theirs)
    assert np.abs(decoded[0] - decoded[1]).max() <= 1024  # neighbours at the edges of a step
    assert np.mean(np.frombuffer(ours, np.uint8) == np.frombuffer(theirs, np.uint8)) > 0.97


def _mulaw_to_linear(code: np.ndarray) -> Floats:
    bits = ~code & 0xFF
    size_ = (((bits & 15) << 3) + 132 << ((bits >> 4) & 7)) - 132
    return np.where(bits & 128, -size_.astype(float), size_.astype(float))


def test_downscale_gives_the_mean_of_four() -> None:
    w, h = 64, 48
    rng = np.random.default_rng(1)
    planes = [rng.integers(0, 256, shape, np.uint8) for shape in ((h, w), (h // 2, w // 2), (h // 2, w // 2))]
    track = TrackFormat(Kind.VIDEO, "rawvideo", b"", w, h, 25.0)
    instance = load("downscale").make([track], {})
    assert (instance.tracks[0].width, instance.tracks[0].height) == (w // 2, h // 2)
    picture = EncodedFrame(0, 0, 0, 40_000, keyframe=True, payload=b"".join(p.tobytes() for p in planes))
    (out,) = instance.process([picture]).frames
    wanted = b"".join(
        ((p.astype(int).reshape(p.shape[0] // 2, 2, p.shape[1] // 2, 2).sum((1, 3)) + 2) // 4)
        .astype(np.uint8)
        .tobytes()
        for p in planes
    )
    assert out.payload == wanted


def test_downscale_halves_a_clip(clip: Path) -> None:
    frames, out, pipeline = through("downscale", clip)
    assert (pipeline.tracks[0].width, pipeline.tracks[0].height) == (320, 180)
    pictures = decoded(pipeline.tracks, out, 0)
    assert len(pictures) == sum(frame.track == 0 for frame in frames)
    assert all(len(picture.payload) == 320 * 180 * 3 // 2 for picture in pictures)


def test_watermark_writes_into_its_corner_and_nowhere_else() -> None:
    w, h = 320, 180
    track = TrackFormat(Kind.VIDEO, "rawvideo", b"", w, h, 25.0)
    grey = EncodedFrame(0, 0, 0, 40_000, keyframe=True, payload=bytes([100]) * (w * h * 3 // 2))
    (out,) = load("watermark").make([track], {"text": "HI 5", "opacity": "1"}).process([grey]).frames
    luma = np.frombuffer(out.payload, np.uint8)[: w * h].reshape(h, w)
    marked = luma != 100
    assert set(np.unique(luma)) == {100, 235}
    assert marked[h * 7 // 8 :, w * 3 // 4 :].sum() == marked.sum() > 30
    assert out.payload[w * h :] == grey.payload[w * h :]


@pytest.mark.parametrize("peak_db", [0.0, -23.0, -40.0])
def test_loudness_of_a_sine_is_what_the_standard_says(peak_db: float) -> None:
    """BS.1770: a sine of 997 Hz on one channel at full scale reads -3.01 LKFS; on two it is 3.01 more."""
    instance = load("loudness").make([STEREO], {})
    given = sound(sine(2.0, 10 ** (peak_db / 20)))
    out = instance.process(given).frames
    assert {instance.tracks[frame.track].codec for frame in out} == {"loudness"}
    reported = [int(frame.payload) / 100 for frame in out]
    assert len(reported) == 17  # ten a second, once 400 ms are there
    assert all(math.isclose(lufs, peak_db, abs_tol=0.1) for lufs in reported)


def test_taps_leave_the_stream_as_it_is(clip: Path) -> None:
    for name in ("loudness", "trigger"):
        frames, out, pipeline = through(name, clip)
        assert [frame for frame in out if frame.track < 2] == frames
        assert pipeline.tracks[2].kind is Kind.DATA
        assert any(frame.track == 2 for frame in out)


def test_trigger_reports_silence_and_sound_and_motion_and_rest() -> None:
    w, h = 64, 64
    tracks = [STEREO, TrackFormat(Kind.VIDEO, "rawvideo", b"", w, h, 10.0)]
    instance = load("trigger").make(tracks, {"hold_ms": "300"})
    loud, quiet = sine(2.0, 0.5), sine(2.0, 0.0001)
    given = sound(np.concatenate([loud, quiet, loud]))
    for tenth in range(60):
        shade = tenth * 40 % 256 if 20 <= tenth < 40 else 16
        payload = bytes([shade]) * (w * h * 3 // 2)
        given.append(EncodedFrame(1, tenth * 100_000, tenth * 100_000, 100_000, keyframe=True, payload=payload))
    out = instance.process(sorted(given, key=lambda frame: frame.dts_us)).frames
    reported = [(frame.payload.decode().strip(), frame.pts_us / 1e6) for frame in out]
    sounds = [(word, at) for word, at in reported if word in {"silence", "sound"}]
    motions = [(word, at) for word, at in reported if word in {"motion", "rest"}]
    assert [word for word, _ in sounds] == ["sound", "silence", "sound"]
    assert [word for word, _ in motions] == ["rest", "motion", "rest"]
    for (_, at), due in zip(sounds, (0.3, 2.3, 4.3), strict=True):
        assert due <= at <= due + 0.1
    for (_, at), due in zip(motions[1:], (2.3, 4.3), strict=True):
        assert due <= at <= due + 0.3
