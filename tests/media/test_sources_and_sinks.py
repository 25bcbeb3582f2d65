"""Sources compared with the files they read, sinks compared with the frames written to them."""

import os
from itertools import pairwise
from pathlib import Path

import av
import pytest

from cubecast.errors import MediaError, OutputClosedError
from cubecast.frames import EncodedFrame, Kind, TrackFormat
from cubecast.media.sinks import Container, MediaSink, container_for
from cubecast.media.sources import MediaSource
from cubecast.media.verification import count_decodable
from tests.media.clips import encode, remux

SHARED = Path(__file__).parents[3] / "shared" / "data" / "media"

CARRIED = [
    ("h264.mp4", "libx264", "aac"),
    ("bframes.mp4", "libx264", None),
    ("h264.ts", "libx264", "aac"),
    ("hevc.mp4", "libx265", None),
    ("hevc.ts", "libx265", None),
    ("vp8.mkv", "libvpx", "libopus"),
    ("vp9.webm", "libvpx-vp9", "libopus"),
    ("av1.mp4", "libsvtav1", None),
    ("flac.flac", None, "flac"),
    ("mp3.mp3", None, "libmp3lame"),
    ("opus.ogg", None, "libopus"),
    ("aac.ts", None, "aac"),
]
TRANSCODED = [
    ("mpeg2.ts", "mpeg2video", "mp2"),
    ("mpeg4.avi", "mpeg4", "ac3"),
    ("mjpeg.mov", "mjpeg", "pcm_s16le"),
    ("raw.wav", None, "pcm_s16le"),
]


def make(folder: Path, name: str, video: str | None, audio: str | None) -> Path:
    path = folder / name
    options = {"preset": "12", "svtav1-params": "lp=1"} if video == "libsvtav1" else {}
    if video == "libx265":
        options = {"x265-params": "log-level=error"}
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    encode(path, video, audio, options=options)
    os.sched_setscheduler(0, policy, parameters)  # SVT-AV1, run as root, makes its caller a real-time thread
    return path


def packets(path: Path) -> dict[str, int]:
    with av.open(str(path)) as container:
        counts: dict[str, int] = {}
        for packet in container.demux():
            if packet.size and packet.pts is not None:
                counts[packet.stream.type] = counts.get(packet.stream.type, 0) + 1
        return counts


def read(path: Path, loop: bool = False, limit: int = 100_000) -> tuple[MediaSource, list[EncodedFrame]]:
    with MediaSource(str(path), loop) as source:
        frames = []
        for frame in source.frames():
            frames.append(frame)
            if len(frames) == limit:
                break
        return source, frames


def assert_frames_hold(source: MediaSource, frames: list[EncodedFrame]) -> None:
    assert min(f.dts_us for f in frames) == 0
    for track in range(len(source.tracks)):
        mine = [f for f in frames if f.track == track]
        assert mine[0].keyframe
        assert all(f.payload for f in mine)
        assert all(f.dts_us <= f.pts_us for f in mine)
        assert [f.dts_us for f in mine] == sorted(f.dts_us for f in mine)
        assert len({f.pts_us for f in mine}) == len(mine), "a frame is known by its track and time"
    everywhere = [f.dts_us for f in frames]
    assert max(a - b for a, b in pairwise(everywhere)) <= 500_000, "tracks are interleaved"


@pytest.mark.parametrize(("name", "video", "audio"), CARRIED, ids=[c[0] for c in CARRIED])
def test_codecs_that_moq_carries_pass_unchanged(
    tmp_path: Path, name: str, video: str | None, audio: str | None
) -> None:
    path = make(tmp_path, name, video, audio)
    source, frames = read(path)
    assert source.notes == ()
    assert_frames_hold(source, frames)
    counts = {k: sum(source.tracks[f.track].kind == k for f in frames) for k in packets(path)}
    assert counts == packets(path)


def test_a_transcoded_source_loops_too(tmp_path: Path) -> None:
    path = make(tmp_path, "mpeg2.ts", "mpeg2video", "mp2")
    _, once = read(path)
    _, frames = read(path, loop=True, limit=round(2.5 * len(once)))
    for track in (0, 1):
        times = sorted(f.pts_us for f in frames if f.track == track)
        assert times[-1] > 1_800_000
        assert max(b - a for a, b in pairwise(times)) < 150_000


@pytest.mark.parametrize(("name", "video", "audio"), TRANSCODED, ids=[c[0] for c in TRANSCODED])
def test_other_codecs_are_transcoded_and_the_notes_say_so(
    tmp_path: Path, name: str, video: str | None, audio: str | None
) -> None:
    path = make(tmp_path, name, video, audio)
    source, frames = read(path)
    assert len(source.notes) == len(source.tracks) == (video is not None) + (audio is not None)
    assert all("transcoding to" in note for note in source.notes)
    assert {track.codec for track in source.tracks} <= {"h264", "aac"}
    assert_frames_hold(source, frames)
    pictures = [f for f in frames if source.tracks[f.track].kind is Kind.VIDEO]
    assert len(pictures) == (25 if video else 0)
    for track in range(len(source.tracks)):
        last = max(f.pts_us + f.duration_us for f in frames if f.track == track)
        assert 0.9e6 < last < 1.25e6, "a second stays a second"


def write(source: MediaSource, frames: list[EncodedFrame], path: Path, container: Container) -> None:
    sink = MediaSink(path.open("wb", buffering=0), str(path), container, source.tracks)
    for frame in frames:
        sink.write(frame)
    sink.close()


WRITABLE = [
    (c, container)
    for c in CARRIED + TRANSCODED
    for container in Container
    if not (container is Container.TS and c[0].startswith(("vp", "av1", "flac"))) and not c[0].startswith("vp8")
]


@pytest.mark.parametrize(("case", "container"), WRITABLE, ids=[f"{c[0]}-{k}" for c, k in WRITABLE])
def test_every_frame_of_a_written_file_decodes_at_its_time(
    tmp_path: Path, case: tuple[str, str | None, str | None], container: Container
) -> None:
    source, frames = read(make(tmp_path, *case))
    target = tmp_path / f"out.{container}"
    write(source, frames, target, container)
    decoded = count_decodable(str(target))
    video = [f for f in frames if source.tracks[f.track].kind is Kind.VIDEO]
    audio = [f for f in frames if source.tracks[f.track].kind is Kind.AUDIO]
    assert decoded[Kind.VIDEO] == len(video)
    assert abs(decoded[Kind.AUDIO] - len(audio)) <= (2 if audio else 0), "priming may take a frame"
    if video:
        assert gaps_us(times_us(target)) == pytest.approx(gaps_us(sorted(f.pts_us for f in video)), abs=100)


def times_us(path: Path) -> list[float]:
    """Presentation times of a file's pictures."""
    with av.open(str(path)) as opened:
        stream = opened.streams.video[0]
        return sorted(
            float(p.pts * (stream.time_base or 1) * 1_000_000) for p in opened.demux(stream) if p.pts is not None
        )


def gaps_us(times: list[float]) -> list[float]:
    """Steps between pictures from the second on: fragmented MP4 stretches the first to time zero."""
    return [b - a for a, b in pairwise(times[1:])]


def test_audio_and_video_stay_in_sync_through_a_sink(tmp_path: Path) -> None:
    """A source whose sound starts 300 ms after its picture keeps those 300 ms."""
    encode(tmp_path / "plain.mp4", "libx264", "aac")
    source, frames = read(tmp_path / "plain.mp4")
    sound = next(i for i, t in enumerate(source.tracks) if t.kind is Kind.AUDIO)
    moved = [
        EncodedFrame(f.track, f.pts_us + 300_000, f.dts_us + 300_000, f.duration_us, f.keyframe, f.payload)
        if f.track == sound
        else f
        for f in frames
    ]
    for container in Container:
        target = tmp_path / f"sync.{container}"
        write(source, sorted(moved, key=lambda f: f.dts_us), target, container)
        with av.open(str(target)) as opened:
            first: dict[str, list[float]] = {}
            for packet in opened.demux():
                if packet.size and packet.pts is not None:
                    first.setdefault(packet.stream.type, []).append(float(packet.pts * packet.time_base))
        wanted = {i: sorted(f.pts_us / 1e6 for f in moved if f.track == i)[5] for i in range(2)}
        got = {kind: sorted(times)[5] for kind, times in first.items()}
        assert got["audio"] - got["video"] == pytest.approx(wanted[sound] - wanted[1 - sound], abs=0.002)


@pytest.mark.parametrize("container", list(Container))
def test_a_stream_joined_in_the_middle_is_written_whole_whichever_track_arrives_first(
    tmp_path: Path, container: Container
) -> None:
    with MediaSource(str(make(tmp_path, "clip.mp4", "libx264", "aac"))) as source:
        frames, tracks = list(source.frames()), source.tracks
    video = next(number for number, track in enumerate(tracks) if track.kind is Kind.VIDEO)
    start = [frame.dts_us for frame in frames if frame.track == video and frame.keyframe][-1]
    joined = [frame for frame in frames if frame.dts_us >= start]
    late_audio = [frame for frame in joined if frame.track != video and frame.dts_us >= start + 300_000]
    pictures = [frame for frame in joined if frame.track == video]
    path = tmp_path / f"joined.{container}"
    sink = MediaSink(path.open("wb", buffering=0), str(path), container, tracks)
    for frame in (late_audio[0], *pictures, *late_audio[1:]):
        sink.write(frame)
    sink.close()
    assert count_decodable(str(path))[Kind.VIDEO] == len(pictures)
    assert packets(path)["audio"] == len(late_audio)


def test_a_track_without_frames_does_not_hold_the_others_back(tmp_path: Path) -> None:
    with MediaSource(str(make(tmp_path, "clip.mp4", "libx264", "aac"))) as source:
        frames, tracks = list(source.frames()), source.tracks
    audio = [frame for frame in frames if tracks[frame.track].kind is Kind.AUDIO]
    path = tmp_path / "audio.ts"
    sink = MediaSink(path.open("wb", buffering=0), str(path), Container.TS, tracks)
    for frame in audio:
        sink.write(frame)
    sink.close()
    assert packets(path) == {"audio": len(audio)}


def test_a_looped_source_goes_on_without_a_step_back(clip: Path) -> None:
    _, once = read(clip)
    source, frames = read(clip, loop=True, limit=3 * len(once))
    for track in range(len(source.tracks)):
        times = [f.pts_us for f in frames if f.track == track]
        assert len(set(times)) == len(times)
        gaps = [b - a for a, b in pairwise(sorted(times))]
        assert max(gaps) < 150_000
    assert [f.payload for f in frames[: len(once)]] == [f.payload for f in frames[len(once) : 2 * len(once)]]


def test_a_pipe_is_written_live_and_a_closed_reader_is_an_error(clip: Path) -> None:
    source, frames = read(clip)
    reader, writer = os.pipe()
    sink = MediaSink(os.fdopen(writer, "wb", buffering=0), "pipe", Container.TS, source.tracks)
    for frame in frames[:10]:
        sink.write(frame)
    assert os.read(reader, 1 << 16)[:1] == b"G", "output is not held back until the end"
    os.close(reader)

    def write_on() -> None:
        for frame in frames[10:]:
            sink.write(frame)

    with pytest.raises(OutputClosedError, match="its reader has closed it"):
        write_on()
    sink.close()


@pytest.mark.parametrize(
    ("name", "content"),
    [("text.txt", b"hello\n" * 50), ("empty.mp4", b""), ("sub.srt", b"1\n00:00:01,000 --> 00:00:02,000\nhi\n")],
)
def test_files_without_media_give_an_error_of_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(MediaError) as caught:
        MediaSource(str(path))
    assert name in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("path", ["/nowhere/clip.mp4", "/", "foo://bar"])
def test_locations_that_cannot_be_opened_are_refused(path: str) -> None:
    with pytest.raises(MediaError, match="cannot read"):
        MediaSource(path)


def test_of_a_damaged_clip_the_part_before_the_damage_is_read(clip: Path, tmp_path: Path) -> None:
    remux(clip, tmp_path / "whole.ts")
    whole = (tmp_path / "whole.ts").read_bytes()
    (tmp_path / "half.ts").write_bytes(whole[: len(whole) // 2] + bytes(1000))
    source, expected = read(tmp_path / "whole.ts")
    _, frames = read(tmp_path / "half.ts")
    for track in range(len(source.tracks)):
        intact = [f.payload for f in expected if f.track == track]
        found = [f.payload for f in frames if f.track == track]
        assert len(intact) // 4 < len(found) < len(intact)
        assert found[:-1] == intact[: len(found) - 1], "only the frame that the damage cuts off may differ"


def test_containers_refuse_codecs_that_they_cannot_hold() -> None:
    vp9, h264 = TrackFormat(Kind.VIDEO, "vp9"), TrackFormat(Kind.VIDEO, "h264")
    assert container_for("-", None, [h264]) is Container.TS
    assert container_for("x.mp4", None, [h264]) is Container.MP4
    assert container_for("-", None, [vp9]) is Container.MP4
    with pytest.raises(MediaError, match=r"write to a \.mp4 file"):
        container_for("x.ts", None, [vp9])
    with pytest.raises(MediaError, match=r"only \.ts and \.mp4"):
        container_for("x.mkv", None, [h264])
    with pytest.raises(MediaError, match="no supported container"):
        container_for("x.mp4", None, [TrackFormat(Kind.VIDEO, "vp8")])


@pytest.mark.skipif(not SHARED.exists(), reason="no real clips beside this checkout")
@pytest.mark.parametrize("name", ["bigbuckbunny.mp4", "bikes.mp4"])
def test_every_packet_of_real_clips_is_written_and_decodes(tmp_path: Path, name: str) -> None:
    source, frames = read(SHARED / name)
    assert_frames_hold(source, frames)
    write(source, frames, tmp_path / "out.ts", Container.TS)
    assert sum(count_decodable(str(tmp_path / "out.ts")).values()) == sum(packets(SHARED / name).values())


def test_data_tracks_of_the_same_codec_have_files_of_their_own(tmp_path: Path) -> None:
    note, other = TrackFormat(Kind.DATA, "note"), TrackFormat(Kind.DATA, "mark")
    path = tmp_path / "out.ts"
    with path.open("wb") as file:
        sink = MediaSink(
            file,
            str(path),
            Container.TS,
            [TrackFormat(Kind.VIDEO, "h264", b"", 64, 48, 25.0), note, other, note],
            beside=True,
        )
        for track in (1, 2, 3):
            sink.write(EncodedFrame(track, 1000 * track, 1000 * track, 0, keyframe=True, payload=b"x"))
        sink.close()
    written = {each.name: len(each.read_text().splitlines()) for each in tmp_path.glob("*.jsonl")}
    assert written == {"out.ts.1.note.jsonl": 1, "out.ts.mark.jsonl": 1, "out.ts.3.note.jsonl": 1}
